//! The agent's library. The modules stand in the order in which a connection meets them:
//!
//! | module | what happens there |
//! | --- | --- |
//! | [`config`] | `agent.toml` becomes validated types, once |
//! | [`confinement`] | capabilities and system calls that the agent gives up |
//! | [`manifest`] | `flect.toml`: what an app calls its stores, and the variables it gets |
//! | [`store`] | the words of the product as types: slug, prefix, namespace |
//! | [`cgroup`] | cgroup v2: where it is mounted, ids and paths |
//! | [`interception`] | the kernel hooks: loading, pinning, and who is behind an accepted socket |
//! | [`resp`] | scanning requests and replies; knows neither sockets nor commands |
//! | [`commands`] | the command table: keys, policies, what a reply carries |
//! | [`clients`] | a store's clients as CLIENT LIST, CLIENT KILL and MONITOR tell them |
//! | [`rewrite`] | names go in, names come out; knows no sockets |
//! | [`scoped`] | store-wide commands that the agent carries out: KEYS, SCAN, FLUSHDB, INFO ... |
//! | [`explain`] | what the agent does with a request, told instead of done |
//! | [`scripts`] | an app's Lua, made to see its store as a Valkey of its own |
//! | [`integrity`] | a second look at replies: names of the server's own do not leave |
//! | [`environment`] | the shared Valkey, its stores and apps, as the data path sees them |
//! | [`metrics`] | what is counted for each store, and how it is told |
//! | [`diagnosis`] | what an app is told of slow and large commands: SLOWLOG, LATENCY |
//! | [`reach`] | how the shared Valkey is reached: TCP, TLS, unix sockets |
//! | [`secret`] | files that not everybody may use |
//! | [`registry`] | what stores an environment has, kept in its Valkey |
//! | [`admin`] | the operator's conversation with Valkey: users and facts |
//! | [`keyspace`] | a store's keys for the operator's commands: walking, deleting, copying |
//! | [`usage`] | what stores hold, told from samples |
//! | [`dump`] | the file of an exported store; knows no sockets |
//! | [`transfer`] | stores into files and back, and other servers' data into stores |
//! | [`accountant`] | measuring stores that have a memory limit, one agent for all |
//! | [`audit`] | what was refused and which limit was met, told to the operator |
//! | [`weakened`] | defences taken away, in a build that only tests have |
//! | [`worker`] | event loops, sessions, upstream connections |
//! | [`series`] | rates and percentiles from two looks at the agent's counters |
//!
//! Dependencies point one way: `resp`, `commands`, `rewrite`, `scoped` and `explain` know no sockets; only
//! [`interception`] imports aya.

pub mod accountant;
pub mod admin;
pub mod audit;
pub mod cgroup;
pub mod clients;
pub mod commands;
pub mod config;
pub mod confinement;
pub mod diagnosis;
pub mod dump;
pub mod environment;
pub mod explain;
pub mod integrity;
pub mod interception;
pub mod keyspace;
pub mod manifest;
pub mod metrics;
pub mod placement;
pub mod reach;
pub mod registry;
pub mod resp;
pub mod rewrite;
pub mod scoped;
pub mod scripts;
pub mod secret;
pub mod series;
pub mod store;
pub mod transfer;
pub mod usage;
pub mod weakened;
pub mod worker;
