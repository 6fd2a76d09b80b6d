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
//! | [`worker`] | event loops, sessions, upstream connections |
//!
//! Dependencies point downwards to `resp` and never back; only [`interception`] imports aya.

pub mod cgroup;
pub mod commands;
pub mod config;
pub mod interception;
pub mod resp;
pub mod rewrite;
pub mod store;
pub mod worker;
