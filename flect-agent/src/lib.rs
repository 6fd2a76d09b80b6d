//! The agent's library. The modules stand in the order in which a connection meets them:
//!
//! | module | what happens there |
//! | --- | --- |
//! | [`config`] | `agent.toml` becomes validated types, once |
//! | [`store`] | the words of the product as types: slug, prefix, namespace |
//! | [`cgroup`] | cgroup v2: where it is mounted, ids and paths |
//! | [`interception`] | the kernel hooks: loading, pinning, and who is behind an accepted socket |
//! | [`resp`] | scanning requests and replies; knows neither sockets nor commands |
//! | [`commands`] | the command table: keys, policies, what a reply carries |
//! | [`rewrite`] | names go in, names come out; knows no sockets |
//! | [`scoped`] | store-wide commands that the agent carries out: KEYS, SCAN, FLUSHDB, INFO ... |
//! | [`scripts`] | an app's Lua, made to see its store as a Valkey of its own |
//! | [`environment`] | the shared Valkey, its stores and apps, as the data path sees them |
//! | [`registry`] | what stores an environment has, kept in its Valkey |
//! | [`admin`] | the operator's conversation with Valkey: users and facts |
//! | [`worker`] | event loops, sessions, upstream connections |
//!
//! Dependencies point one way: `resp`, `commands`, `rewrite` and `scoped` know no sockets; only
//! [`interception`] imports aya.

pub mod admin;
pub mod cgroup;
pub mod commands;
pub mod config;
pub mod environment;
pub mod interception;
pub mod registry;
pub mod resp;
pub mod rewrite;
pub mod scoped;
pub mod scripts;
pub mod store;
pub mod worker;
