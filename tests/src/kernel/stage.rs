//! What a trial plays on: cgroups, ports and a pin folder of its own, the hooks, and somebody who
//! accepts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flect_agent::cgroup::{CgroupId, CgroupMount};
use flect_agent::interception::{
    Acceleration, Claimants, Interception, Settings, WatchEvent, detach,
};
use socket2::SockRef;

use super::puppet::Puppet;

/// Agents' ports of trials: outside the ephemeral range (32768 and up) and NodePorts (30000 and up).
const LISTEN_PORT_FIRST: u16 = 20_000;
const LISTEN_PORTS: u16 = 9_000;
/// What is asked of the kernel here happens at once; this is for a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Stage {
    pub(super) mount: CgroupMount,
    root: String,
    pub(super) settings: Settings,
    /// Stands for the shared Valkey: the intercepted address. Nobody accepts but the trial.
    pub(super) valkey: TcpListener,
    /// Connections that were refused for want of an identity.
    pub(super) refused: Arc<AtomicUsize>,
}

impl Stage {
    /// Makes the cgroups and joins the agent's; hooks are attached by the trial.
    pub(super) fn new() -> Result<Self> {
        let mount = CgroupMount::find()?;
        let process = std::process::id();
        let root = root(process);
        let agent = format!("{root}/agent");
        let agent_cgroup = mount.create(&agent)?;
        for app in ["a", "b"] {
            mount.create(&format!("{root}/apps/{app}"))?;
        }
        mount.join(&agent)?;
        let valkey = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = valkey.local_addr()?.port();
        let settings = Settings {
            managed_root: format!("{root}/apps"),
            agent_cgroup,
            networks: vec!["127.0.0.1/32".parse()?, "::1/128".parse()?],
            ports: vec![port],
            listen_port: free_listen_port()?,
            acceleration: Acceleration::Off,
            closed_ports: Vec::new(),
            namespaces_max: 0,
            claimants: Claimants::new(|_| None),
            verdict: None,
            pin: pin(process),
        };
        Ok(Self {
            mount,
            root,
            settings,
            valkey,
            refused: Arc::default(),
        })
    }

    pub(super) fn attach(&self) -> Result<Interception> {
        Ok(Interception::attach(&self.mount, &self.settings)?)
    }

    /// Attaches, and serves every connection by telling whose it is, then echoing.
    pub(super) fn serve(&self) -> Result<Arc<Interception>> {
        let mut interception = self.attach()?;
        let listeners = interception.take_listeners();
        let (opened, events) = std::sync::mpsc::channel();
        interception.watch(move |event| {
            // The trial has ended.
            let _gone = opened.send(event);
        })?;
        let interception = Arc::new(interception);
        for listener in listeners {
            tell_on(listener, interception.clone(), self.refused.clone())?;
        }
        let (shared, refused) = (interception.clone(), self.refused.clone());
        thread::spawn(move || {
            for event in events {
                if let WatchEvent::Opened { listeners, .. } = event {
                    for listener in listeners {
                        tell_on(listener, shared.clone(), refused.clone())
                            .unwrap_or_else(|error| panic!("{error:#}"));
                    }
                }
            }
        });
        Ok(interception)
    }

    /// The address that is intercepted.
    pub(super) fn asked(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.settings.ports[0]).into()
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// An app's cgroup (`a`, `b`), as its id.
    pub(super) fn cgroup(&self, app: &str) -> Result<CgroupId> {
        Ok(self.mount.id_of(&format!("{}/apps/{app}", self.root))?)
    }

    /// Where a process writes itself to join an app's cgroup.
    pub(super) fn procs(&self, app: &str) -> Result<PathBuf> {
        Ok(self
            .mount
            .directory(&format!("{}/apps/{app}", self.root))?
            .join("cgroup.procs"))
    }

    /// A process in an app's cgroup.
    pub(super) fn puppet(&self, app: &str) -> Result<Puppet> {
        Puppet::start(Some(&self.procs(app)?))
    }

    /// A process outside the managed root, and not in the agent's cgroup either.
    pub(super) fn outsider(&self) -> Result<Puppet> {
        let path = format!("{}/outside", self.root);
        self.mount.create(&path)?;
        Puppet::start(Some(&self.mount.directory(&path)?.join("cgroup.procs")))
    }

    /// Nobody has come to the shared Valkey.
    pub(super) fn valkey_was_not_reached(&self) -> Result<()> {
        self.valkey.set_nonblocking(true)?;
        ensure!(
            self.valkey.accept().is_err(),
            "a connection reached the shared Valkey"
        );
        Ok(())
    }
}

fn tell_on(
    listener: TcpListener,
    interception: Arc<Interception>,
    refused: Arc<AtomicUsize>,
) -> Result<()> {
    listener.set_nonblocking(false)?;
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            match interception.identify(stream.as_fd()) {
                Ok(identity) => {
                    let line = format!("{} {}\n", identity.cgroup.0, identity.asked);
                    thread::spawn(move || echo(stream, &line));
                }
                Err(_) => {
                    refused.fetch_add(1, Ordering::SeqCst);
                    // A reset, as the daemon does it.
                    let _gone = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            }
        }
    });
    Ok(())
}

fn echo(mut stream: TcpStream, first: &str) {
    let mut buffer = [0; 16 * 1024];
    let mut result = stream.write_all(first.as_bytes());
    while result.is_ok() {
        result = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => stream.write_all(&buffer[..read]),
        };
    }
}

fn free_listen_port() -> Result<u16> {
    let start = std::process::id() as u16 % LISTEN_PORTS;
    (0..LISTEN_PORTS)
        .map(|step| LISTEN_PORT_FIRST + (start + step) % LISTEN_PORTS)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port for the agent")
}

fn root(process: u32) -> String {
    format!("/flect-kernel-{process}")
}

fn pin(process: u32) -> PathBuf {
    format!("/sys/fs/bpf/flect-kernel-{process}").into()
}

/// Removes what a trial's process has left: its hooks, its processes, its cgroups.
pub(super) fn sweep(process: u32) -> Result<()> {
    detach(&pin(process))?;
    let mount = CgroupMount::find()?;
    let root = mount.directory(&root(process))?;
    let deadline = Instant::now() + PATIENCE;
    while root.exists() {
        let mut folders = vec![root.clone()];
        let mut all = Vec::new();
        while let Some(folder) = folders.pop() {
            for process in fs::read_to_string(folder.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                kill(process);
            }
            folders.extend(
                fs::read_dir(&folder)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
            all.push(folder);
        }
        // Deepest first.
        let removed = all.iter().rev().try_for_each(fs::remove_dir);
        if let Err(error) = removed {
            ensure!(Instant::now() < deadline, "{}: {error}", root.display());
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

fn kill(process: &str) {
    if let Some(process) = process
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        // It has gone by itself.
        let _gone = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}
