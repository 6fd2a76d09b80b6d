//! The test bed: a private Valkey, an agent, cgroups and stores, all cleaned up afterwards; and the
//! integration tests that use it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`tools`] | where `cargo xtask setup` puts Valkey and the clients, and where the agent is built |
//! | [`wire`] | a small RESP client that hides nothing: raw bytes in, every reply type out |
//! | [`child`] | this executable as a child process, for what must run inside an app's cgroup |
//! | [`bed`] | the bed: everything an end-to-end test needs, removed again whatever happens |
//! | [`quoting`] | arguments as text |
//! | [`pair`] | a store and a private Valkey side by side: what differs is a bug |
//! | [`differ`] | random sequences of requests on both, and every reply compared |
//! | [`chaos`] | faults while clients keep a ledger, compared with Valkey's data |
//! | [`restarts`] | agents that follow each other while clients are at work |
//! | `scenario` | conversations as text, held with both |
//! | `protocol` | malformed input, long pipelines, large values, slow readers, ends of connections |
//! | `sessions` | transactions, blocking, pub/sub, and the connection's own state |
//! | `equality` | commands of all types, each reply compared byte for byte |
//! | `clients` | redis-py and ioredis doing what their users do |
//! | `libraries` | further clients and frameworks, as their users write programs with them |
//! | `recording` | what the clients say, recorded for the fuzz targets |
//! | `cli` | what the app developer touches: flect run, dev, check, explain and their like |
//! | `monitoring` | metrics, health, readiness, what the supervisor is told |
//! | `operator` | the users' command: stores, environments, doctor |
//! | `seed` | the users' documentation, line by line |
//! | `sdk` | the tests of `@flect/sdk`, its README's recipes among them, inside an app |
//! | `confinement` | what the agent has given up, as the kernel tells it |
//! | `control` | following the registry, the control socket, explicit mode |
//! | `documentation` | every shell block of README.md and docs/, run on a machine of its own |
//! | `data` | `flect kv` where it works on a store's data |
//! | `intruders` | attacks from below: sockets, packets, namespaces, and on the agent itself |
//! | `kernel` | trials of the hooks alone, without Valkey and daemon |
//! | `hostile` | attacks on a neighbour, each proven to be seen where it crosses |
//! | `integrity` | what the daemon does with names that would leave, and with a module that comes |
//! | `limits` | limits and tokens of the registry, at an agent with hooks |
//! | [`witness`] | a client of another store, who notices what is denied to it |
//! | `package` | the Debian package, on a root of its own |
//! | `resources` | stores that take all they can get |
//! | `worker` | workers in the test's own process: stores that come and go, limits, counts |
//! | `setting` | what trials are held with: a version of Valkey, a way of the bytes |
//! | `cluster` | stores of a Valkey Cluster while its slots and primaries move |
//! | `upstream` | how the agent reaches its Valkey: TLS, certificates |
//! | `versions` | the trials that depend on the version of Valkey, on the further ones |
//! | `views` | `flect top`, and the status page in a browser |
//! | `smoke` | end-to-end trials that touch every part once |
//!
//! The trials are run by the binary `flect-integration`, on the host by `cargo xtask test` and in
//! virtual machines by `cargo xtask vm-test`.

pub mod tools;
pub mod wire;

pub mod child;
pub mod quoting;

pub mod bed;
pub mod pair;
pub mod witness;

pub mod chaos;
pub mod differ;
pub mod restarts;

#[cfg(feature = "trials")]
pub mod cli;
#[cfg(feature = "trials")]
pub mod clients;
#[cfg(feature = "trials")]
pub mod cluster;
#[cfg(feature = "trials")]
pub mod confinement;
#[cfg(feature = "trials")]
pub mod containers;
#[cfg(feature = "trials")]
pub mod control;
#[cfg(feature = "trials")]
pub mod data;
#[cfg(feature = "trials")]
pub mod documentation;
#[cfg(feature = "trials")]
pub mod equality;
#[cfg(feature = "trials")]
pub mod hostile;
#[cfg(feature = "trials")]
pub mod integrity;
#[cfg(feature = "trials")]
pub mod intruders;
#[cfg(feature = "trials")]
pub mod kernel;
#[cfg(feature = "trials")]
pub mod libraries;
#[cfg(feature = "trials")]
pub mod limits;
#[cfg(feature = "trials")]
pub mod monitoring;
#[cfg(feature = "trials")]
pub mod operator;
#[cfg(feature = "trials")]
pub mod package;
#[cfg(feature = "trials")]
pub mod protocol;
#[cfg(feature = "trials")]
pub mod recording;
#[cfg(feature = "trials")]
pub mod resources;
#[cfg(feature = "trials")]
pub mod scenario;
#[cfg(feature = "trials")]
pub mod sdk;
#[cfg(feature = "trials")]
pub mod seed;
#[cfg(feature = "trials")]
pub mod sessions;
#[cfg(feature = "trials")]
pub mod setting;
#[cfg(feature = "trials")]
pub mod smoke;
#[cfg(feature = "trials")]
pub mod upstream;
#[cfg(feature = "trials")]
pub mod versions;
#[cfg(feature = "trials")]
pub mod views;
#[cfg(feature = "trials")]
pub mod wide;
#[cfg(feature = "trials")]
pub mod worker;
