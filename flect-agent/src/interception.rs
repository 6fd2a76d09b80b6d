//! The kernel hooks that hand an app's connections to the agent.
