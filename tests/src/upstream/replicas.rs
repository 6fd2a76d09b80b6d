//! A primary with a replica that takes its place, found by Sentinels or by asking the nodes.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Body;
use crate::bed::agent::wait_until;
use crate::bed::ports::{self, Reserved};
use crate::bed::{APP1, Bed};
use crate::monitoring::reload::edit;
use crate::tools;
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 2] = [
    ("sentinels_lead_to_the_new_primary", sentinels),
    ("nodes_change_places", nodes),
];

/// A failover takes Sentinels some seconds, and a busy machine some more.
const PATIENCE: Duration = Duration::from_secs(90);
/// Sentinels take a primary for dead that is silent for so long.
const DOWN_AFTER_MS: u32 = 1500;
/// From the first Sentinel's word to the first reply of the new primary to an app: a tenth of it is usual, a second
/// what an agent needs that hears nothing.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);
/// Clients with a ledger.
const CLIENTS: u64 = 3;
/// Between two tries of a client that was refused.
const RETRY: Duration = Duration::from_millis(10);

/// A bed whose Valkey has a replica. The agent is not started.
pub(super) struct Town {
    pub(super) bed: Bed,
    files: TempDir,
    pub(super) replica: Reserved,
}

impl Town {
    pub(super) fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let bed = Bed::builder()
            .valkey_option("--repl-diskless-sync-delay", "0")
            .agent_later()
            .start()?;
        let replica = ports::reserve()?;
        let mut command = Command::new(tools::program("valkey-server")?);
        let primary = bed.address().port().to_string();
        command
            .args(["--port", &replica.number().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(files.path())
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--replicaof", "127.0.0.1", &primary]);
        bed.adopt_beside_valkey(command, "a replica")?;
        let town = Self {
            bed,
            files,
            replica,
        };
        town.until("the replica follows", || {
            let told = town.replica()?.command(&["INFO", "replication"])?.text();
            Ok(told.contains("master_link_status:up"))
        })?;
        Ok(town)
    }

    /// A connection with operator rights.
    pub(super) fn replica(&self) -> Result<Wire> {
        Ok(Wire::connect(
            ([127, 0, 0, 1], self.replica.number()).into(),
        )?)
    }

    /// The replica knows a store's user, and every pattern that it is granted, before it is primary.
    fn is_prepared(&self, pattern: &str) -> Result<()> {
        let prefix = self.bed.prefix("store1")?;
        let user = format!("flect.{}", prefix.trim_matches(['{', '}']));
        let mut replica = self.replica()?;
        self.until("the replica has the store's user", || {
            let told = replica.command(&["ACL", "GETUSER", &user])?.to_string();
            Ok(told.contains(&format!("&{prefix}:{pattern}")))
        })
    }

    pub(super) fn configure(&self, lines: &str) -> Result<()> {
        edit(&self.bed, |text| {
            text.replace("\n[intercept]\n", &format!("{lines}\n[intercept]\n"))
        })
    }

    /// Waits for something that may fail meanwhile.
    pub(super) fn until(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        wait_until(PATIENCE, || Ok(done().unwrap_or(false)))
            .with_context(|| format!("{what}: not within {PATIENCE:?}; {}", self.bed.agent_log()))
    }

    /// Waits until an app's write is carried out by this server.
    fn until_written(&self, server: &mut Wire, value: &str) -> Result<()> {
        let key = format!("{}:k", self.bed.prefix("store1")?);
        self.until("an app is served there", || {
            let mut app = self.bed.connect(APP1)?;
            ensure!(app.command(&["SET", "k", value])?.text() == "OK", "not yet");
            Ok(server.command(&["GET", &key])?.text() == value)
        })
    }

    /// The agent's users are made on a server before any session is served there.
    fn was_known_everywhere(&self) -> Result<()> {
        let log = self.bed.agent_log();
        ensure!(!log.contains("refused the agent's user"), "{log}");
        Ok(())
    }
}

/// Pushes one number after the other and never the same one twice, as long as it may. Answers the numbers
/// that the replica had as well when the app was told.
fn keep_ledger(bed: &Bed, list: &str, ends: &AtomicBool, served: &AtomicU64) -> Vec<u64> {
    let mut confirmed = Vec::new();
    let mut wire: Option<Wire> = None;
    for number in 1_u64.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let mut push = || -> Result<bool> {
            if wire.is_none() {
                wire = Some(bed.connect(APP1)?);
            }
            let wire = wire.as_mut().context("just connected")?;
            let told = wire.command(&["RPUSH", list, &number.to_string()])?.text();
            told.parse::<u64>().with_context(|| told.clone())?;
            Ok(wire.command(&["WAIT", "1", "100"])?.text() == "1")
        };
        match push() {
            Ok(is_replicated) => {
                served.fetch_add(1, Ordering::Relaxed);
                confirmed.extend(is_replicated.then_some(number));
            }
            Err(_) => {
                wire = None;
                thread::sleep(RETRY);
            }
        }
    }
    confirmed
}

fn sentinels() -> Result<()> {
    let town = Town::new()?;
    let watchers = start_sentinels(&town)?;
    let places: Vec<String> = watchers
        .iter()
        .map(|port| format!("127.0.0.1:{}", port.number()))
        .collect();
    town.configure(&format!(
        "\n[valkey.sentinel]\nmaster = \"flect\"\naddresses = {places:?}\n"
    ))?;
    town.bed.start_agent()?;
    let bed = &town.bed;
    let library = "#!lua name=l\nredis.register_function('f', function() return 'there' end)";
    let mut app = bed.connect(APP1)?;
    ensure!(
        app.command(&["FUNCTION", "LOAD", library])?.text() == "l",
        "LOAD"
    );
    let mut subscriber = bed.connect(APP1)?;
    subscriber.set_patience(PATIENCE)?;
    subscriber.command(&["SUBSCRIBE", "news"])?;

    let mut matching = bed.connect(APP1)?;
    matching.command(&["PSUBSCRIBE", "news.*"])?;
    town.is_prepared("news.*")?;

    let (ends, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let list = |number| format!("list{number}");
    let ledgers = thread::scope(|scope| -> Result<Vec<Vec<u64>>> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (ends, served) = (&ends, &served);
                scope.spawn(move || keep_ledger(bed, &list(number), ends, served))
            })
            .collect();
        let work = || -> Result<()> {
            let more = |count: u64| {
                let before = served.load(Ordering::Relaxed);
                town.until("clients are served", || {
                    Ok(served.load(Ordering::Relaxed) >= before + count)
                })
            };
            more(100)?;
            let mut words = Vec::new();
            for port in &watchers {
                let mut wire = Wire::connect(([127, 0, 0, 1], port.number()).into())?;
                wire.set_patience(PATIENCE)?;
                wire.command(&["SUBSCRIBE", "+switch-master"])?;
                words.push(scope.spawn(move || wire.read().map(|_| Instant::now())));
            }
            bed.kill_valkey()?;
            // Only the new primary takes writes from here on.
            more(1)?;
            let first = Instant::now();
            more(20)?;
            let told = words.into_iter().filter_map(|word| word.join().ok()?.ok());
            let told = told.min().context("no Sentinel tells of the new primary")?;
            let time = first.saturating_duration_since(told);
            eprintln!("first reply {time:?} after the first Sentinel's word");
            ensure!(time < FOLLOWED_WITHIN, "followed after {time:?}");
            Ok(())
        };
        let worked = work();
        ends.store(true, Ordering::Relaxed);
        worked?;
        let joined = clients.into_iter().map(|client| client.join());
        let joined: Result<_, _> = joined.collect();
        joined.map_err(|_| anyhow::anyhow!("a client panicked"))
    })?;
    ensure!(
        subscriber.read().is_err(),
        "a subscriber of the dead primary goes on"
    );
    let mut app = bed.connect(APP1)?;
    for (number, confirmed) in (0..).zip(ledgers) {
        let stored = app.command(&["LRANGE", &list(number), "0", "-1"])?;
        let stored: Vec<u64> = stored
            .items()
            .iter()
            .filter_map(|item| item.text().parse().ok())
            .collect();
        ensure!(
            stored.windows(2).all(|pair| pair[0] < pair[1]),
            "sent twice or in another order: {stored:?}"
        );
        let lost: Vec<_> = confirmed
            .iter()
            .filter(|number| stored.binary_search(number).is_err())
            .collect();
        ensure!(lost.is_empty(), "lost {lost:?}");
    }
    ensure!(
        app.command(&["FCALL", "f", "0"])?.text() == "there",
        "FCALL"
    );
    for line in [
        "a Sentinel tells of another primary",
        "the new primary has the agent's users already",
    ] {
        let log = bed.agent_log();
        ensure!(log.contains(line), "'{line}' is not in the log: {log}");
    }
    town.was_known_everywhere()
}

/// Three, which have found each other and the replica.
fn start_sentinels(town: &Town) -> Result<Vec<Reserved>> {
    let mut watchers = Vec::new();
    for number in 0..3 {
        let port = ports::reserve()?;
        let path = town.files.path().join(format!("sentinel{number}.conf"));
        let text = format!(
            "port {}\nbind 127.0.0.1\nprotected-mode no\ndir {}\nlogfile {}\n\
             sentinel monitor flect 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds flect {DOWN_AFTER_MS}\n\
             sentinel failover-timeout flect 10000\n",
            port.number(),
            town.files.path().display(),
            path.with_extension("log").display(),
            town.bed.address().port(),
        );
        fs::write(&path, text)?;
        let mut command = Command::new(tools::program("valkey-server")?);
        command.arg(&path).arg("--sentinel");
        town.bed.adopt_beside_valkey(command, "a Sentinel")?;
        watchers.push(port);
    }
    town.until("Sentinels know each other and the replica", || {
        for port in &watchers {
            let mut wire = Wire::connect(([127, 0, 0, 1], port.number()).into())?;
            let told = wire.command(&["SENTINEL", "MASTER", "flect"])?;
            let words: Vec<String> = told.items().iter().map(|item| item.text()).collect();
            let has = |pair: [&str; 2]| words.chunks(2).any(|found| found == pair);
            if !(has(["num-other-sentinels", "2"]) && has(["num-slaves", "1"])) {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    Ok(watchers)
}

/// A planned change: both nodes go on, and one that was left refuses writes.
fn nodes() -> Result<()> {
    let town = Town::new()?;
    let (first, second) = (town.bed.address().port(), town.replica.number());
    town.configure(&format!(
        "nodes = [\"127.0.0.1:{second}\", \"127.0.0.1:{first}\"]\n"
    ))?;
    town.bed.start_agent()?;
    let (mut one, mut two) = (town.bed.operator()?, town.replica()?);
    // A session with nothing under way notices nothing but what it is told while there is no primary.
    let mut calm = town.bed.connect(APP1)?;
    ensure!(calm.command(&["PING"])?.text() == "PONG", "PING");
    let mut watching = town.bed.connect(APP1)?;
    ensure!(watching.command(&["WATCH", "k"])?.text() == "OK", "WATCH");
    town.until_written(&mut one, "at the first")?;
    two.command(&["REPLICAOF", "NO", "ONE"])?;
    one.command(&["REPLICAOF", "127.0.0.1", &second.to_string()])?;
    town.until_written(&mut two, "at the second")?;
    ensure!(
        calm.command(&["GET", "k"])?.text() == "at the second",
        "a session that had nothing under way goes on"
    );
    ensure!(
        watching.command(&["PING"]).is_err(),
        "what it watches is another server's"
    );
    one.command(&["REPLICAOF", "NO", "ONE"])?;
    two.command(&["REPLICAOF", "127.0.0.1", &first.to_string()])?;
    town.until_written(&mut one, "at the first again")?;
    town.was_known_everywhere()
}
