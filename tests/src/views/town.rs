//! A bed that looks like a node in use: three apps, six stores, and load on them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flect_agent::accountant;
use serde_json::{Value, json};

use crate::bed::agent::wait_until;
use crate::bed::{Bed, UNCLAIMED};
use crate::wire::Wire;

/// The apps and their stores, the default first.
pub const APPS: [(&str, &[&str]); 3] = [
    ("shop", &["my-cache", "sessions", "rate-limiter"]),
    ("blog", &["pages"]),
    ("search", &["suggestions", "my-cache"]),
];

/// The control socket answers at once.
const REPLY_WITHIN: Duration = Duration::from_secs(10);
/// The agent reads every few seconds what stores hold.
const MEASURED_WITHIN: Duration = Duration::from_secs(60);

/// The bed and what keeps it busy.
pub struct Town {
    pub bed: Bed,
    stop: Arc<AtomicBool>,
    busy: Vec<JoinHandle<()>>,
}

impl Town {
    /// The bed with its apps and a status page, without load.
    pub fn quiet() -> Result<Self> {
        let bed = Bed::builder().status_page(Some(0)).agent_later().start()?;
        let text = fs::read_to_string(bed.config_path())?;
        let (head, _) = text.split_once("\n[[app]]").context("no apps")?;
        let root = head
            .lines()
            .find_map(|line| line.strip_prefix("cgroup = \"")?.strip_suffix('"'))
            .context("no root")?;
        let mut text = head.replace("[valkey]\n", "[valkey]\nenvironment = \"production\"\n");
        for (app, stores) in APPS {
            text += &format!(
                "\n[[app]]\nname = \"{app}\"\ncgroups = [\"{root}/apps/{app}\"]\nstores = {stores:?}\n"
            );
        }
        fs::write(bed.config_path(), text)?;
        // Another node measures the stores, so that what the trial says of them stays.
        let lease = ["SET", accountant::LEASE, "another", "EX", "3600"];
        bed.operator()?.command(&lease)?;
        bed.start_agent()?;
        Ok(Self {
            bed,
            stop: Arc::default(),
            busy: Vec::new(),
        })
    }

    /// The same under load, with limits, measured memory, errors and refusals.
    pub fn busy() -> Result<Self> {
        let mut town = Self::quiet()?;
        town.limit(
            "my-cache",
            &["--max-memory", "64mb", "--max-connections", "50"],
        )?;
        town.limit("rate-limiter", &["--rate", "5000"])?;
        for (store, megabytes, keys) in [
            ("my-cache", 41, 18_204),
            ("sessions", 6, 2_911),
            ("pages", 128, 640),
        ] {
            town.measure(store, megabytes << 20, keys)?;
        }
        let product = |n: u64| vec!["GET".to_owned(), format!("product:{}", n * n % 7)];
        town.load("shop", "my-cache", 2, move |n| match n % 9 {
            0 => vec!["SET".into(), format!("product:{}", n % 7), "x".repeat(400)],
            1 => vec![
                "HINCRBY".into(),
                "views".into(),
                format!("{}", n % 5),
                "1".into(),
            ],
            _ => product(n),
        })?;
        town.load("shop", "sessions", 4, |n| match n % 4 {
            0 => vec![
                "SETEX".into(),
                format!("session:{}", n % 90),
                "3600".into(),
                "{}".into(),
            ],
            _ => vec!["GET".into(), format!("session:{}", n % 11)],
        })?;
        town.load("shop", "rate-limiter", 6, |n| match n % 10 {
            // A mistake of the app: the server says WRONGTYPE.
            5 => vec!["LPUSH".into(), "rl:10.0.0.8".into(), "x".into()],
            // Not for apps: the agent says NOPERM.
            8 => vec!["ACL".into(), "SETUSER".into(), "x".into()],
            _ => vec!["INCR".into(), format!("rl:10.0.0.{}", n % 9)],
        })?;
        town.load("blog", "pages", 15, |n| {
            vec!["GET".into(), format!("page:/posts/{}", n % 3)]
        })?;
        // Idle connections count as well.
        town.load("search", "suggestions", 400, |_| vec!["PING".into()])?;
        wait_until(MEASURED_WITHIN, || {
            let metrics = town.control("metrics")?;
            let stores = metrics["stores"].as_array().context("no stores")?;
            let measured = stores.iter().filter(|s| s["memory_bytes"].is_u64());
            Ok(measured.count() >= 3)
        })?;
        let mut stranger = town.bed.connect(UNCLAIMED)?;
        stranger.send_raw(b"PING\r\n")?;
        let _ = stranger.read_to_end()?;
        Ok(town)
    }

    /// What `flect` says to these arguments.
    pub fn flect(&self, args: &[&str]) -> Result<String> {
        crate::smoke::output(self.bed.flect()?.args(args))
    }

    /// What the control socket answers.
    pub fn control(&self, operation: &str) -> Result<Value> {
        let mut stream = UnixStream::connect(self.bed.folder().join("agent.sock"))?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        writeln!(stream, "{}", json!({ "op": operation }))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        ensure!(answer["ok"].is_object(), "{answer}");
        Ok(answer["ok"].take())
    }

    fn limit(&self, store: &str, limits: &[&str]) -> Result<()> {
        let mut args = vec!["kv", "set", store];
        args.extend(limits);
        self.flect(&args).map(drop)
    }

    /// Says what a store holds, as the measuring parts of Flect do.
    fn measure(&self, store: &str, memory_bytes: u64, keys: u64) -> Result<()> {
        let usage = json!({ "memory_bytes": memory_bytes, "keys": keys, "measured_at": 0 });
        let prefix = self.bed.prefix(store)?;
        let mut operator = self.bed.operator()?;
        operator.command(&[
            "HSET",
            "flect:{registry}:usage",
            &prefix,
            &usage.to_string(),
        ])?;
        operator.command(&["DEL", "flect:{registry}:round"])?;
        Ok(())
    }

    /// A connection of an app to one of its stores, used again and again with these pauses.
    fn load(
        &mut self,
        app: &str,
        store: &str,
        pause_ms: u64,
        command: impl Fn(u64) -> Vec<String> + Send + 'static,
    ) -> Result<()> {
        let mut wire: Wire = self.bed.connect(app)?;
        let got = wire.command(&["AUTH", store, store])?.text();
        ensure!(got == "OK", "{app} asked for {store} and got {got}");
        let stop = self.stop.clone();
        self.busy.push(thread::spawn(move || {
            for number in 0.. {
                // An agent that was stopped by the trial ends its connections.
                if stop.load(Ordering::Relaxed) || wire.command(&command(number)).is_err() {
                    return;
                }
                // Waves, so that a chart has something to show.
                let wave = (number as f64 / 90.0).sin() + 1.4;
                thread::sleep(Duration::from_micros((pause_ms as f64 * wave * 1e3) as u64));
            }
        }));
        Ok(())
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for busy in self.busy.drain(..) {
            // A thread of load that panicked has done its harm.
            let _ = busy.join();
        }
    }
}
