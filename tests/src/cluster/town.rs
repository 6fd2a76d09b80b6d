//! Three primaries with a replica each, and an agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flect_agent::store::{Prefix, Slot};
use tempfile::TempDir;

use crate::bed::agent::wait_until;
use crate::bed::ports::{self, Reserved};
use crate::bed::{APP1, Bed};
use crate::monitoring::reload::edit;
use crate::tools;
use crate::wire::Wire;

/// A failover takes some seconds, and a busy machine some more.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Whom flect logs in as, on every node.
const OPERATOR: &str = "keeper";
const PASSWORD: &str = "of-the-town";
/// The slots of the three primaries.
const RANGES: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// One node.
pub struct Node {
    pub port: Reserved,
    pub id: String,
    bus: Reserved,
}

impl Node {
    /// A connection with operator rights.
    pub fn wire(&self) -> Result<Wire> {
        let mut wire = Wire::connect(([127, 0, 0, 1], self.port.number()).into())?;
        wire.set_patience(PATIENCE)?;
        Ok(wire)
    }

    /// Asks for something that answers OK.
    pub fn order(&self, words: &[&str]) -> Result<()> {
        let told = self.wire()?.command(words)?.text();
        ensure!(told == "OK", "{words:?}: {told}");
        Ok(())
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}

/// The cluster: nodes 0 to 2 are primaries, 3 to 5 their replicas. What apps connect to is none of them.
pub struct Town {
    pub bed: Bed,
    pub nodes: Vec<Node>,
    files: TempDir,
    series: &'static str,
    timeout_ms: String,
}

impl Town {
    /// Of one of [`tools::FURTHER_VALKEYS`]. A node that is silent for so long is taken for dead.
    pub fn new(series: &'static str, timeout_ms: u32) -> Result<Self> {
        let bed = Bed::builder().stores(3).agent_later().start()?;
        let mut town = Self {
            bed,
            nodes: Vec::new(),
            files: tempfile::tempdir()?,
            series,
            timeout_ms: timeout_ms.to_string(),
        };
        let password = town.files.path().join("password");
        fs::write(&password, PASSWORD)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        for number in 0..6 {
            let node = town.start_node(number)?;
            let epoch = (number + 1).to_string();
            node.order(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            town.nodes.push(node);
        }
        for (node, (first, last)) in town.nodes.iter().zip(RANGES) {
            node.order(&["CLUSTER", "ADDSLOTSRANGE", first, last])?;
        }
        for node in &town.nodes[1..] {
            town.meet(node)?;
        }
        town.until("nodes know each other", || town.all_know(6))?;
        for replica in 3..6 {
            let id = town.nodes[replica - 3].id.clone();
            town.nodes[replica].order(&["CLUSTER", "REPLICATE", &id])?;
        }
        town.until("the cluster is whole", || town.is_whole())?;
        let seeds: Vec<String> = town.nodes[1..3].iter().map(Node::address).collect();
        edit(&town.bed, |text| {
            text.replace(
                "user = \"default\"\n",
                &format!(
                    "cluster = {seeds:?}\nuser = \"{OPERATOR}\"\npassword_file = {password:?}\n"
                ),
            )
        })?;
        town.bed.start_agent()?;
        Ok(town)
    }

    /// Starts a node that belongs to nothing.
    pub fn start_node(&self, number: usize) -> Result<Node> {
        let (port, bus) = (ports::reserve()?, ports::reserve()?);
        let folder = self.files.path().join(number.to_string());
        fs::create_dir(&folder)?;
        let mut command = Command::new(tools::further_valkey(self.series)?);
        command
            .args(["--port", &port.number().to_string()])
            .args(["--cluster-port", &bus.number().to_string()])
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--cluster-enabled",
                "yes",
            ])
            .args(["--cluster-node-timeout", &self.timeout_ms])
            .args([
                "--repl-diskless-sync-delay",
                "0",
                "--cluster-announce-ip",
                "127.0.0.1",
            ])
            .arg("--user")
            .args([OPERATOR, "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"])
            .arg("--dir")
            .arg(&folder)
            .arg("--logfile")
            .arg(folder.join("log"));
        self.bed.adopt_beside_valkey(command, "a node")?;
        let mut node = Node {
            port,
            id: String::new(),
            bus,
        };
        self.until("a node runs", || {
            node.id = node.wire()?.command(&["CLUSTER", "MYID"])?.text();
            Ok(node.id.len() == 40)
        })?;
        Ok(node)
    }

    /// Lets a node and the first that lives know each other.
    pub fn meet(&self, node: &Node) -> Result<()> {
        let bus = node.bus.number();
        let (port, bus) = (node.port.number().to_string(), bus.to_string());
        let words = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
        let first = self.nodes.iter().find(|first| first.wire().is_ok());
        first.context("no node lives")?.order(&words)
    }

    fn all_know(&self, count: usize) -> Result<bool> {
        for node in &self.nodes {
            let told = node.wire()?.command(&["CLUSTER", "NODES"])?.text();
            let well = told.lines().filter(|line| line.contains(" connected"));
            if well.count() != count || told.contains("handshake") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_whole(&self) -> Result<bool> {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut wire = node.wire()?;
            let state = wire.command(&["CLUSTER", "INFO"])?.text();
            let replication = wire.command(&["INFO", "replication"])?.text();
            let linked = number < 3 || replication.contains("master_link_status:up");
            let told = wire.command(&["CLUSTER", "NODES"])?.text();
            let replicas = told.lines().filter(|line| line.contains("slave")).count();
            if !state.contains("cluster_state:ok") || !linked || replicas != 3 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for something that may fail meanwhile.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut last = None;
        wait_until(PATIENCE, || match done() {
            Ok(done) => Ok(done),
            Err(error) => {
                last = Some(format!("{error:#}"));
                Ok(false)
            }
        })
        .with_context(|| {
            format!(
                "{what}: not within {PATIENCE:?}; {last:?}; {}",
                self.bed.agent_log()
            )
        })
    }

    pub fn slot(&self, store: &str) -> Result<Slot> {
        Ok(Slot::of_store(&Prefix::parse(&self.bed.prefix(store)?)?))
    }

    /// The place of the primary that has a slot, by what it says itself.
    pub fn owner(&self, slot: Slot) -> Result<usize> {
        for (number, node) in self.nodes.iter().enumerate() {
            let Ok(mut wire) = node.wire() else {
                continue;
            };
            let told = wire.command(&["CLUSTER", "NODES"])?.text();
            let own = told.lines().find(|line| line.contains("myself,master"));
            let mut words = own.unwrap_or_default().split(' ').skip(8);
            let has = words.any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bounds = (first.parse::<u16>(), last.parse::<u16>());
                matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot.number()))
            });
            if has {
                return Ok(number);
            }
        }
        anyhow::bail!("nobody has slot {slot}")
    }

    /// Moves a slot with all its keys, a few at a time, as tools do.
    pub fn move_slot(&self, slot: Slot, to: usize) -> Result<()> {
        let from = self.owner(slot)?;
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let slot = slot.to_string();
        target.order(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source.id])?;
        source.order(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target.id])?;
        let mut wire = source.wire()?;
        let port = target.port.number().to_string();
        loop {
            let keys = wire.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"])?;
            let keys: Vec<String> = keys.items().iter().map(|key| key.text()).collect();
            if keys.is_empty() {
                break;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            let told = wire.command(&words)?.text();
            ensure!(told == "OK" || told == "NOKEY", "MIGRATE: {told}");
        }
        for node in [target, source] {
            // Refused while the node's replica is late (NOREPLICAS).
            self.until("a slot has its new node", || {
                node.order(&["CLUSTER", "SETSLOT", &slot, "NODE", &target.id])?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Ends a node without a farewell.
    pub fn kill(&self, number: usize) -> Result<()> {
        let mut wire = self.nodes[number].wire()?;
        wire.send(&["SHUTDOWN", "NOSAVE", "NOW", "FORCE"])?;
        let _ = wire.read();
        self.until("a node has ended", || {
            Ok(self.nodes[number].wire().is_err())
        })
    }

    /// Gives a store so many keys, `k0` first, and the function `f`, which says `there`.
    pub fn fill(&self, store: &str, keys: usize, value: &str) -> Result<()> {
        let mut wire = self.connect(store)?;
        for key in 0..keys {
            wire.send(&["SET", &format!("k{key}"), value])?;
        }
        for _ in 0..keys {
            ensure!(wire.read()?.text() == "OK", "SET");
        }
        let library = "#!lua name=l\nredis.register_function('f', function() return 'there' end)";
        ensure!(
            wire.command(&["FUNCTION", "LOAD", library])?.text() == "l",
            "LOAD"
        );
        Ok(())
    }

    /// A connection of the app's that chose a store.
    pub fn connect(&self, store: &str) -> Result<Wire> {
        let mut wire = self.bed.connect(APP1)?;
        wire.set_patience(PATIENCE)?;
        let told = wire.command(&["AUTH", store, "-"])?.text();
        ensure!(told == "OK", "AUTH {store}: {told}");
        Ok(wire)
    }
}
