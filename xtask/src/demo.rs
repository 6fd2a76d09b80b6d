//! `cargo xtask demo`: two apps, one address, two stores, told step by step.
//!
//! Invariant: what it prints is what the clients said just now; a claim that does not hold ends
//! the demo with an error.

mod paint;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use flect_tests::bed::{Bed, UNCLAIMED, cleanup};

use crate::build;
use crate::sandbox::{Accel, need_root};
use crate::setup::{self, Part};
use paint::Paint;

/// The arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Hand bytes over past TCP (sk_msg): as the kernel allows, always, or never
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
}

/// Shows it.
///
/// # Errors
/// When a part cannot be started, or something is not as told.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("demo", "everything it makes is removed at the end")?;
    setup::ensure(&[Part::Bpf, Part::Valkey, Part::Clients])?;
    eprintln!("Building the agent ...");
    let programs = build::programs()?;
    cleanup::end_on_signals()?;
    let start = Instant::now();
    let bed = Bed::builder()
        .programs(programs)
        .apps(&["shop", "blog"])
        .acceleration(args.accel.into())
        .start()?;
    tell(&bed)?;
    drop(bed);
    let paint = Paint::new();
    paint.end(&format!(
        "Done in {:.1} s. Valkey, agent, cgroups and kernel hooks are gone again.",
        start.elapsed().as_secs_f32()
    ));
    println!("Try it yourself:  cargo xtask sandbox -- sh -c 'valkey-cli -u $CACHE_URL'");
    Ok(ExitCode::SUCCESS)
}

fn tell(bed: &Bed) -> Result<()> {
    let paint = Paint::new();
    let mut operator = bed.operator()?;
    let info = operator.command(&["INFO", "server"])?.text();
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("valkey_version:"));
    paint.title("Flect KV: one Valkey, and every app has it for itself");
    paint.say(format!(
        "Valkey {} listens on {}. The agent is attached to a cgroup.",
        version.unwrap_or("of unknown version"),
        bed.address()
    ));
    paint.say(acceleration(&bed.status()?));

    paint.step(
        1,
        "Two apps in two cgroups, unmodified clients, the same address",
    );
    let mut shop = App::start(
        bed.node("shop")?
            .args(["-e", include_str!("demo/shop.cjs")]),
    )?;
    let mut blog = App::start(
        bed.python("blog")?
            .args(["-c", include_str!("demo/blog.py")]),
    )?;
    paint.heads("shop (Node.js, ioredis)", "blog (Python, redis-py)");
    let url = format!("CACHE_URL=redis://{}", bed.address());
    paint.typed(&url, &url);
    let set = both(
        &paint,
        (&mut shop, "await cache.set('user:1', 'Ada')"),
        (&mut blog, "cache.set('user:1', 'Bob')"),
    )?;
    ensure!(set == ("'OK'".into(), "True".into()), "the writes failed");
    both(
        &paint,
        (&mut shop, "await cache.incr('visits')"),
        (&mut blog, "cache.rpush('drafts', 'Hello')"),
    )?;

    paint.step(2, "The same key is two keys, and nobody sees the other's");
    paint.heads("shop", "blog");
    let values = both(
        &paint,
        (&mut shop, "await cache.get('user:1')"),
        (&mut blog, "cache.get('user:1')"),
    )?;
    ensure!(
        values == ("'Ada'".into(), "'Bob'".into()),
        "the stores are mixed up"
    );
    let keys = both(
        &paint,
        (&mut shop, "await cache.keys('*')"),
        (&mut blog, "cache.keys('*')"),
    )?;
    let own = ("[ 'user:1', 'visits' ]", "['drafts', 'user:1']");
    ensure!(
        (keys.0.as_str(), keys.1.as_str()) == own,
        "KEYS * is not disjoint"
    );

    paint.step(3, "What Valkey holds, as its operator sees it");
    let (shop_prefix, blog_prefix) = (bed.prefix("shop")?, bed.prefix("blog")?);
    paint.say(format!(
        "shop's store has the prefix {shop_prefix}, blog's has {blog_prefix}."
    ));
    paint.typed_alone("> KEYS {*}:*");
    for key in operator.command(&["KEYS", "{*}:*"])?.sorted() {
        paint.got_alone(&key);
    }
    let stored = operator.command(&["GET", &format!("{shop_prefix}:user:1")])?;
    ensure!(stored.text() == "Ada", "{shop_prefix}:user:1 is {stored}");

    paint.step(4, "Even FLUSHDB ends at the store's border");
    paint.heads("shop", "blog");
    both(
        &paint,
        (&mut shop, "await cache.dbsize()"),
        (&mut blog, "cache.flushdb()"),
    )?;
    let sizes = both(
        &paint,
        (&mut shop, "await cache.dbsize()"),
        (&mut blog, "cache.dbsize()"),
    )?;
    ensure!(sizes == ("2".into(), "0".into()), "FLUSHDB went too far");

    paint.step(5, "A process that belongs to no app is told so");
    let mut stranger = App::start(
        bed.python(UNCLAIMED)?
            .args(["-c", include_str!("demo/blog.py")]),
    )?;
    paint.typed_alone("cache.get('user:1')");
    let refusal = stranger.ask("cache.get('user:1')")?;
    paint.refused(&refusal);
    ensure!(
        refusal != "None" && !refusal.contains("'Ada'"),
        "a stranger got in"
    );

    paint.step(
        6,
        "Without the agent nothing passes, and with it everything is back",
    );
    paint.say("The agent is killed with SIGKILL. shop connects anew:");
    bed.kill_agent()?;
    let connect = "await new Promise((yes, no) => require('node:net').connect(\
                   +process.env.VALKEY_PORT, '127.0.0.1', yes).on('error', no))";
    paint.typed_alone(&format!(
        "net.connect({}, '127.0.0.1')",
        bed.address().port()
    ));
    let refusal = shop.ask(connect)?;
    paint.refused(&refusal);
    ensure!(
        refusal.contains("ECONNREFUSED"),
        "the connection was not refused"
    );
    paint.say("The agent is started again. shop's client has found its way back by itself:");
    bed.start_agent()?;
    let typed = "await cache.get('user:1')";
    paint.typed_alone(typed);
    let value = shop.ask(typed)?;
    paint.got_alone(&value);
    ensure!(value == "'Ada'", "the data is not back");
    Ok(())
}

fn acceleration(status: &serde_json::Value) -> String {
    let verdict = &status["acceleration"];
    let on = |direction: &str| verdict[direction] == serde_json::Value::Bool(true);
    match (on("client_to_agent"), on("agent_to_client")) {
        (true, true) => "Bytes go from socket to socket, past TCP, in both directions.".to_owned(),
        (true, false) => "Requests go from socket to socket, past TCP.".to_owned(),
        (false, true) => "Replies go from socket to socket, past TCP.".to_owned(),
        (false, false) => "Bytes go over plain TCP on loopback.".to_owned(),
    }
}

/// Asks both apps and shows both answers side by side.
fn both(
    paint: &Paint,
    (left, left_line): (&mut App, &str),
    (right, right_line): (&mut App, &str),
) -> Result<(String, String)> {
    paint.typed(left_line, right_line);
    let answers = (left.ask(left_line)?, right.ask(right_line)?);
    paint.got(&answers.0, &answers.1);
    Ok(answers)
}

/// A running app that answers expressions.
struct App {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl App {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting an app")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            child,
            stdin: stdin.context("the app's input")?,
            stdout: BufReader::new(stdout.context("the app's output")?),
        })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.stdin, "{line}").context("the app has ended")?;
        let mut answer = String::new();
        if self.stdout.read_line(&mut answer)? == 0 {
            bail!("the app has ended");
        }
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // The bed's end would end it as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
