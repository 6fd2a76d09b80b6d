//! A container as the OCI runtime specification describes it: a bundle for crun, whose program is this
//! executable in a role, with the machine's own libraries for a root file system.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value as Json, json};

use crate::bed::Bed;
use crate::bed::agent::wait_until;
use crate::bed::cgroups;
use crate::smoke::output;
use crate::tools::{self, Programs};
use crate::wire::{Value, Wire};

/// The program of the container.
pub const ROLE: &str = "containers-app";

/// How long the app tries to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the executable needs of the machine; what is missing is not there to be needed.
const LIBRARIES: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];

/// Where container runtimes look for cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Namespaces that a container has of its own.
const NAMESPACES: [&str; 5] = ["pid", "network", "ipc", "uts", "mount"];

/// What the app saw.
#[derive(Debug)]
pub struct Tried {
    /// Connects that were refused before the first that was not.
    pub refused: u32,
    /// From the program's first line to a connection.
    pub after: Duration,
}

/// A container that is made, runs, and is removed.
pub struct Container<'a> {
    bed: &'a Bed,
    /// The folder of its app's cgroup, as the runtime sees it.
    cgroup: PathBuf,
    announced: bool,
}

impl<'a> Container<'a> {
    /// A container of an app.
    pub fn of(bed: &'a Bed, app: &str) -> Result<Self> {
        let folder = bed.cgroup(app)?;
        Ok(Self {
            bed,
            cgroup: Path::new(CGROUPS).join(folder.strip_prefix(cgroups::mount()?)?),
            announced: false,
        })
    }

    /// Whether a hook tells the agent.
    pub fn announced(mut self, announced: bool) -> Self {
        self.announced = announced;
        self
    }

    /// Runs it to its end.
    pub fn run(&self) -> Result<Tried> {
        let folder = self.bed.folder().join("bundle");
        fs::create_dir_all(folder.join("rootfs"))?;
        let text = serde_json::to_string_pretty(&self.specification()?)?;
        fs::write(folder.join("config.json"), text)?;
        let _removed = Removed(folder.clone());
        let said = output(crun(&folder)?.args(["run", "app"])).context("crun run")?;
        let mut words = said.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(refused)), Some(Ok(micros))) = (words.next(), words.next()) else {
            bail!("the app said {said:?}");
        };
        Ok(Tried {
            refused: refused.try_into()?,
            after: Duration::from_micros(micros),
        })
    }

    fn specification(&self) -> Result<Json> {
        let own = tools::own_program()?;
        let address = self.bed.address().to_string();
        let args = ["/app", "--flect-child", ROLE, &address];
        let libraries = LIBRARIES
            .iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| bind(Path::new(path), path));
        let mut mounts: Vec<Json> = libraries.collect();
        mounts.push(bind(&own, "/app"));
        mounts.push(json!({ "destination": "/proc", "type": "proc", "source": "proc" }));
        mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
        let namespaces: Vec<Json> = NAMESPACES
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/" },
            "root": { "path": "rootfs" },
            "mounts": mounts,
            "linux": { "namespaces": namespaces },
            "hooks": { "createRuntime": self.hooks()? },
        }))
    }

    fn hooks(&self) -> Result<Vec<Json>> {
        let procs = self.cgroup.join("cgroup.procs");
        // The state is one JSON document on stdin; its `pid` is the container's process.
        let enter = format!(
            "tr -d ' \\n\\t' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' > '{}'",
            procs.display()
        );
        let mut hooks = vec![json!({ "path": "/bin/sh", "args": ["sh", "-c", enter] })];
        if self.announced {
            let agent = Programs::beside_current()?.agent;
            let socket = self.bed.socket();
            hooks.push(json!({
                "path": agent,
                "args": ["flect-agent", "notify", "--socket", socket],
            }));
        }
        Ok(hooks)
    }
}

fn bind(source: &Path, destination: &str) -> Json {
    json!({
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["bind", "ro"],
    })
}

/// crun in a mount namespace of its own, where all of cgroup v2 is at [`CGROUPS`]: it refuses to work where it
/// finds version 1 there.
fn crun(folder: &Path) -> Result<Command> {
    let mut command = Command::new("unshare");
    command
        .current_dir(folder)
        .args(["--mount", "/bin/sh", "-c"])
        .arg(format!(
            "mount -t cgroup2 none {CGROUPS} && exec \"$0\" \"$@\""
        ))
        .arg(tools::program("crun")?)
        .arg("--root")
        .arg(folder.join("state"))
        .arg("--cgroup-manager=disabled");
    Ok(command)
}

/// Nothing is left of a container that did not end by itself.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // One that has ended is gone already.
        let _ = crun(&self.0).map(|mut crun| crun.args(["delete", "--force", "app"]).output());
    }
}

/// Plays the app: connects at once, as often as it takes, and leaves a key.
pub fn role(args: &[String]) -> Result<()> {
    let address: SocketAddr = args.first().context("which address?")?.parse()?;
    let start = Instant::now();
    let mut refused = 0;
    let mut connected = None;
    wait_until(PATIENCE, || {
        match Wire::connect(address) {
            Ok(wire) => connected = Some((wire, start.elapsed())),
            Err(_) => refused += 1,
        }
        Ok(connected.is_some())
    })?;
    let (mut wire, after) = connected.context("never connected")?;
    let reply = wire.command(&["SET", "from", "container"])?;
    ensure!(reply == Value::Simple("OK".into()), "SET: {reply:?}");
    println!("{refused} {}", after.as_micros());
    Ok(())
}
