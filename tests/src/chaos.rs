//! Faults while clients of several stores keep an exact ledger.
//!
//! ```text
//! seed -> plan -> inject (processes, limits, relay, registry)     one fault at a time
//! clients (client, work) -> hooks -> agent -> relay -> Valkey     all the time
//!         -> ledger -> verdict (Valkey's data), leaks (/proc, Valkey's lists)
//! ```
//!
//! Every part is real; only the relay between the agent and Valkey is ours, and changes bytes where a
//! broken network or server would. After every fault each client must be served again.

pub mod client;
pub mod crowd;
pub mod inject;
pub mod leaks;
pub mod ledger;
pub mod maps;
pub mod plan;
pub mod relay;
#[cfg(feature = "trials")]
mod trials;
pub mod verdict;
pub mod work;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::bed::agent::wait_until;
use crate::bed::{Bed, Builder};
use client::{Client, Store, stores};
use crowd::Crowd;
use ledger::Ledger;
use plan::{Kind, Plan};
use relay::{Mode, Relay};
#[cfg(feature = "trials")]
pub use trials::trials;
use work::{ACCOUNTS, BALANCE};

/// Clients of each of the two stores with a ledger, besides a subscriber.
const CLIENTS: usize = 4;
/// After a fault everybody is served within this: the agent's own periods add up to under three seconds,
/// the rest is for a busy machine.
const SERVED_WITHIN: Duration = Duration::from_secs(30);
/// Work without faults, so that what is held can be compared with what is held afterwards.
const WARM: Duration = Duration::from_millis(1500);
/// Between two looks at whether clients are served.
const POLL: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the plan and of the clients.
    pub seed: u64,
    /// For how long faults begin, but each kind comes once at least.
    pub time: Duration,
    /// Which faults.
    pub kinds: Vec<Kind>,
    /// What the relay does all the time; for self-checks.
    pub mode: Mode,
    /// What stands in an app to the end, so that what it holds is left; for self-checks.
    pub stays: Option<Stays>,
}

/// Who does not go.
#[derive(Clone, Copy, Debug)]
pub enum Stays {
    /// What fills the maps.
    Crowd,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How the promise was broken; nothing if it was kept.
    pub violations: Vec<String>,
    /// The last events before the end.
    pub events: Vec<String>,
    /// The faults as they were carried out.
    pub plan: Vec<String>,
    /// By kind: how many, and how long in all until everybody was served again.
    pub faults: BTreeMap<String, (u64, Duration)>,
    /// What was counted.
    pub tallies: BTreeMap<String, u64>,
    /// What was held before and after.
    pub held: Vec<String>,
}

/// A bed, its relay and its clients.
struct Town {
    bed: Arc<Bed>,
    relay: Relay,
    ledger: Arc<Ledger>,
    clients: Vec<JoinHandle<()>>,
    crowd: Option<Crowd>,
}

/// Runs; a violation is not an error.
///
/// # Errors
/// When the bed cannot be made or a fault cannot be carried out.
pub fn run(builder: Builder, settings: &Settings, tell: impl Fn(&str)) -> Result<Report> {
    let bed = builder
        .valkey_option("--appendonly", "yes")
        .valkey_option("--appendfsync", "always")
        .workers(2)
        // What cannot be handed over is not waited for long.
        .agent_keys("drain_seconds = 1")
        .agent_later()
        .start()?;
    let traces = [bed.pins(), bed.folder().to_owned(), bed.cgroup("app1")?];
    let relay = Relay::start(bed.address())?;
    redirect(bed.config_path(), &bed, &relay)?;
    bed.start_agent()?;
    for store in &stores()[..2] {
        fill(&bed, store)?;
    }
    let mut report = Report::default();
    let bed = Arc::new(bed);
    let warm = Arc::new(Ledger::new(3, client_count()));
    let mut town = Town {
        bed,
        relay,
        ledger: warm,
        clients: Vec::new(),
        crowd: None,
    };
    // The ledger of this part is dropped with its keys: the next one begins with none.
    town.start(settings.seed);
    thread::sleep(WARM);
    town.stop()?;
    report.violations.extend(town.ledger.violations());
    for store in stores() {
        forget(&town.bed, &store)?;
    }
    let before = leaks::held(&town.bed)?;
    town.ledger = Arc::new(Ledger::new(3, client_count()));
    town.relay.set(settings.mode.clone());
    town.start(settings.seed);
    if let Some(Stays::Crowd) = settings.stays {
        town.crowd = Some(Crowd::start(&town.bed, stores()[2].app)?);
    }
    let ended = town.suffer(settings, &mut report, &tell);
    town.ledger.event("faults are over");
    let stopped = town.stop();
    town.relay.set(Mode::Pass);
    if ended.is_ok() && stopped.is_ok() {
        town.judge(&before, &mut report)?;
    }
    report.violations.extend(town.ledger.violations());
    report.events = town.ledger.events();
    report.tallies = town.ledger.tallies();
    let log = town.bed.agent_log();
    drop(town);
    for path in traces.iter().filter(|path| path.exists()) {
        let left = format!("{} is there after the end", path.display());
        report.violations.push(left);
    }
    let context = || {
        format!(
            "{}\nthe agent's log ends with:\n{}",
            report.text(),
            last(&log)
        )
    };
    ended.and(stopped).with_context(context)?;
    if !report.violations.is_empty() {
        report
            .events
            .push(format!("the agent's log ends with:\n{}", last(&log)));
    }
    Ok(report)
}

impl Town {
    fn start(&mut self, seed: u64) {
        let mut number = 0;
        for store in &stores()[..2] {
            for _ in 0..CLIENTS {
                let seed = seed.wrapping_mul(1000).wrapping_add(number as u64);
                self.spawn(store, number, move |client| work::mixture(client, seed));
                number += 1;
            }
            self.spawn(store, number, work::listening);
            number += 1;
        }
        self.spawn(&stores()[2], number, work::emptying);
    }

    fn spawn(
        &mut self,
        store: &Store,
        number: usize,
        body: impl FnOnce(&mut Client) + Send + 'static,
    ) {
        let (bed, ledger) = (Arc::clone(&self.bed), Arc::clone(&self.ledger));
        let mut client = Client::new(bed, ledger, store.clone(), number);
        self.clients.push(thread::spawn(move || body(&mut client)));
    }

    fn stop(&mut self) -> Result<()> {
        self.ledger.stop();
        for client in self.clients.drain(..) {
            client.join().map_err(|_| anyhow!("a client panicked"))?;
        }
        Ok(())
    }

    /// Fault after fault, until the time is over or the promise is broken.
    fn suffer(&self, settings: &Settings, report: &mut Report, tell: &impl Fn(&str)) -> Result<()> {
        let start = Instant::now();
        for fault in Plan::new(settings.seed, &settings.kinds) {
            thread::sleep(fault.calm);
            let is_over = start.elapsed() >= settings.time && fault.number > settings.kinds.len();
            if is_over || !self.ledger.violations().is_empty() {
                return Ok(());
            }
            let text = fault.to_string();
            tell(&text);
            self.ledger.event(&text);
            report.plan.push(text);
            let began = Instant::now();
            inject::inject(&self.bed, &self.relay, &self.ledger, &fault)
                .with_context(|| format!("fault {fault}"))?;
            self.ledger.event(format!("fault {} is over", fault.number));
            self.wait_served();
            let entry = report.faults.entry(fault.kind.to_string()).or_default();
            *entry = (entry.0 + 1, entry.1 + began.elapsed());
        }
        // There are no faults in this run, only what the relay does.
        while start.elapsed() < settings.time && self.ledger.violations().is_empty() {
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Every client has had an answer to something that it may have sent after now.
    fn wait_served(&self) {
        /// One answer may be on its way already.
        const ANSWERS: u64 = 2;
        let start = Instant::now();
        let before = self.ledger.progress();
        loop {
            let now = self.ledger.progress();
            let is_waiting = |(now, before): (&u64, &u64)| *now < before + ANSWERS;
            let waiting: Vec<_> = now.iter().zip(&before).map(is_waiting).collect();
            if !waiting.contains(&true) {
                return;
            }
            if start.elapsed() > SERVED_WITHIN {
                let who: Vec<_> = (0..waiting.len())
                    .filter(|&number| waiting[number])
                    .collect();
                let seconds = SERVED_WITHIN.as_secs();
                self.ledger.violation(format!(
                    "clients {who:?} are not served {seconds} s after a fault"
                ));
                return;
            }
            thread::sleep(POLL);
        }
    }

    fn judge(&self, before: &leaks::Held, report: &mut Report) -> Result<()> {
        // What stays on purpose is not waited for.
        let settle = match self.crowd {
            Some(_) => Duration::ZERO,
            None => leaks::SETTLE_MAX,
        };
        let mut operator = self.bed.operator()?;
        // A server that is still reading its data has lost nothing.
        wait_until(SERVED_WITHIN, || {
            Ok(operator.command(&["EXISTS", "any"])?.text() == "0")
        })
        .context("Valkey reads its data")?;
        for store in &stores()[..2] {
            let prefix = self.bed.prefix(store.name)?;
            verdict::judge(&mut operator, &self.ledger, store, &prefix)?;
        }
        drop(operator);
        for left in leaks::left(&self.bed, before, settle)? {
            self.ledger.violation(format!("a leak: {left}"));
        }
        report.held = vec![
            format!("before: {before:?}"),
            format!("after: {:?}", leaks::held(&self.bed)?),
        ];
        Ok(())
    }
}

impl Report {
    /// What a person wants to read of it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines: Vec<_> = self
            .violations
            .iter()
            .map(|v| format!("violation: {v}"))
            .collect();
        if !lines.is_empty() {
            lines.extend(self.plan.iter().map(|fault| format!("fault {fault}")));
            lines.extend(self.events.iter().map(|event| format!("event: {event}")));
        }
        for (kind, (count, time)) in &self.faults {
            lines.push(format!(
                "{count} times, {:.1} s in all: {kind}",
                time.as_secs_f64()
            ));
        }
        lines.extend(
            self.tallies
                .iter()
                .map(|(what, count)| format!("{count} {what}")),
        );
        lines.extend(self.held.iter().cloned());
        lines.join("\n")
    }
}

fn client_count() -> usize {
    2 * (CLIENTS + 1) + 1
}

/// Lets the agent reach Valkey through the relay only; what apps connect to stays.
fn redirect(config: &Path, bed: &Bed, relay: &Relay) -> Result<()> {
    let text = fs::read_to_string(config)?;
    let own = format!("address = \"{}\"", bed.address());
    ensure!(text.contains(&own), "agent.toml has no {own}");
    let text = text.replace(&own, &format!("address = \"{}\"", relay.address()));
    fs::write(config, text).context("writing agent.toml")
}

/// What transfers move.
fn fill(bed: &Bed, store: &Store) -> Result<()> {
    let mut wire = bed.connect(store.app)?;
    for number in 0..ACCOUNTS {
        let reply = wire.command(&["SET", &format!("acct:{number}"), &BALANCE.to_string()])?;
        ensure!(reply.text() == "OK", "SET: {reply}");
    }
    Ok(())
}

/// Removes what the warm-up counted; the accounts keep their sum.
fn forget(bed: &Bed, store: &Store) -> Result<()> {
    let prefix = bed.prefix(store.name)?;
    let mut operator = bed.operator()?;
    for pattern in ["reg:*", "ctr:*", "lua:*", "queue"] {
        for name in operator
            .command(&["KEYS", &format!("{prefix}:{pattern}")])?
            .items()
        {
            operator.command(&["UNLINK", &name.text()])?;
        }
    }
    Ok(())
}

fn last(log: &str) -> String {
    const LINES_MAX: usize = 25;
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

/// The seed that was not given.
#[must_use]
pub fn seed_by_the_clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::from(now.unwrap_or_default().subsec_millis()) + u64::from(std::process::id()) * 1000
}

/// Where a run writes what it found.
#[must_use]
pub fn artefact(seed: u64) -> PathBuf {
    crate::tools::artefacts().join(format!("chaos-{seed}.txt"))
}
