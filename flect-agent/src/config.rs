//! The configuration file `agent.toml` as validated types.
