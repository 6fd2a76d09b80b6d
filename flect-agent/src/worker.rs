//! The data path: event loops, sessions and upstream connections.
