//! Other proxies, set up as their manuals have it for this task: one pool, one server, all cores.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flect_tests::bed::agent::wait_until;
use flect_tests::bed::ports::{self, Reserved};
use flect_tests::bed::{Bed, place};
use flect_tests::tools;
use flect_tests::wire::{Value, Wire};
use rustix::process::{Resource, getrlimit};

/// A second is usual.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// Another proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// twemproxy: one thread, multiplexes.
    Nutcracker,
    /// As a forwarder of TCP connections.
    Haproxy,
    /// Its filter `redis_proxy`: multiplexes.
    Envoy,
}

/// One that runs.
pub struct Running {
    child: Child,
    port: Reserved,
    _further: Reserved,
}

impl Running {
    /// Starts it in front of the bed's Valkey, in a cgroup of the bed's.
    ///
    /// # Errors
    /// When it does not start; the message has its log.
    pub fn start(peer: Peer, bed: &Bed) -> Result<Self> {
        let (port, further) = (ports::reserve()?, ports::reserve()?);
        let (own, server) = (port.number(), bed.address().port());
        let name = peer.program();
        let config = bed.folder().join(format!("{name}.conf"));
        let log = bed.folder().join(format!("{name}.log"));
        fs::write(&config, peer.config(own, server)?)?;
        let mut command = Command::new(tools::program(name)?);
        peer.arguments(&mut command, &config, &log, further.number());
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        place::in_cgroup(&mut command, &bed.cgroup(name)?)?;
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut running = Self {
            child,
            port,
            _further: further,
        };
        running
            .wait()
            .with_context(|| format!("{name}: {}", fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(running)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait(&mut self) -> Result<()> {
        wait_until(START_TIME_MAX, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended: {status}");
            }
            let said = Wire::connect(self.address()).and_then(|mut wire| wire.command(&["PING"]));
            Ok(matches!(said, Ok(Value::Simple(_))))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The bed's end would end it as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn program(self) -> &'static str {
        match self {
            Self::Nutcracker => "nutcracker",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    fn arguments(self, command: &mut Command, config: &Path, log: &Path, further_port: u16) {
        match self {
            Self::Nutcracker => command
                .arg("-c")
                .arg(config)
                // Debian's default is a folder of the system's.
                .arg("-o")
                .arg(log)
                .args(["-a", "127.0.0.1", "-s", &further_port.to_string()]),
            Self::Haproxy => command.arg("-db").arg("-f").arg(config),
            Self::Envoy => command
                .arg("-c")
                .arg(config)
                .args(["--disable-hot-restart", "--log-level", "error"])
                .args(["--concurrency", &cores().to_string()]),
        };
    }

    fn config(self, own: u16, server: u16) -> Result<String> {
        let mut text = String::new();
        match self {
            // One connection per server and no timeout are its defaults.
            Self::Nutcracker => write!(
                text,
                "bench:\n  listen: 127.0.0.1:{own}\n  redis: true\n  backlog: 4096\n  \
                 servers:\n    - 127.0.0.1:{server}:1\n"
            )?,
            Self::Haproxy => write!(
                text,
                "global\n  maxconn {}\n  nbthread {}\n\
                 defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
                 listen bench\n  bind 127.0.0.1:{own} backlog 4096\n  server valkey 127.0.0.1:{server}\n",
                connections_max(),
                cores()
            )?,
            Self::Envoy => text = envoy(own, server),
        }
        Ok(text)
    }
}

/// haproxy refuses to start when two descriptors for each do not fit into the limit.
fn connections_max() -> u64 {
    const MOST: u64 = 20_000;
    const OTHERS: u64 = 200;
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(MOST, |limit| (limit.saturating_sub(OTHERS) / 2).min(MOST))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// JSON, which is YAML. Statistics per command are off, as they are by default; the circuit breaker's
/// limits of 1,024 would refuse the larger cases.
fn envoy(own: u16, server: u16) -> String {
    let address = |port: u16| serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let most = 1_000_000;
    serde_json::json!({
        "static_resources": {
            "listeners": [{
                "name": "bench",
                "address": address(own),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.redis_proxy",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                        "stat_prefix": "bench",
                        "settings": { "op_timeout": "30s" },
                        "prefix_routes": { "catch_all_route": { "cluster": "valkey" } },
                    },
                }] }],
            }],
            "clusters": [{
                "name": "valkey",
                "type": "STATIC",
                "connect_timeout": "10s",
                "lb_policy": "RANDOM",
                "circuit_breakers": { "thresholds": [{
                    "max_connections": most, "max_pending_requests": most,
                    "max_requests": most, "max_retries": most,
                }] },
                "load_assignment": {
                    "cluster_name": "valkey",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(server) } }] }],
                },
            }],
        },
    })
    .to_string()
}
