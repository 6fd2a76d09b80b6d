//! `flect top` at a real agent: as a table, as JSON, and on a terminal.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Body;
use super::town::Town;
use crate::bed::Bed;
use crate::smoke::output;
use crate::tools::{self, Programs};

pub const TRIALS: [(&str, Body); 4] = [
    ("top_as_a_table", as_a_table),
    ("top_as_json", as_json),
    ("top_on_a_terminal", on_a_terminal),
    ("top_without_an_agent", without_an_agent),
];

fn as_a_table() -> Result<()> {
    let town = Town::busy()?;
    let text = town.flect(&["top", "--sort", "name", "--interval", "0.5"])?;
    ensure!(!text.contains('\u{1b}'), "colours in a pipe: {text}");
    let mut lines = text.lines();
    let node = lines.next().unwrap_or_default();
    ensure!(
        node.starts_with("Valkey 127.0.0.1:") && node.contains("is reachable"),
        "{text}"
    );
    let head = lines.next().unwrap_or_default();
    ensure!(
        head.starts_with("STORE ") && head.ends_with("APPS"),
        "{text}"
    );
    let names: Vec<_> = lines
        .clone()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    ensure!(
        names
            == [
                "my-cache",
                "pages",
                "rate-limiter",
                "sessions",
                "suggestions"
            ],
        "{text}"
    );
    let cache: Vec<_> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let requests: f64 = cache[1].parse().context("no rate")?;
    ensure!(requests > 10.0, "{text}");
    ensure!(
        cache.contains(&"41.0") && cache.contains(&"get") && cache.ends_with(&["shop,", "search"]),
        "{text}"
    );
    Ok(())
}

fn as_json() -> Result<()> {
    let town = Town::busy()?;
    let once: Value =
        serde_json::from_str(&town.flect(&["top", "--json", "--once", "--interval", "3"])?)?;
    let stores = once["stores"].as_array().context("no stores")?;
    let rate = |store: &Value| store["requests_per_second"].as_f64();
    ensure!(
        stores.len() == 5 && stores.is_sorted_by(|a, b| rate(a) >= rate(b)),
        "{once:#}"
    );
    let find = |name: &str| stores.iter().find(|store| store["name"] == name);
    let cache = find("my-cache").context("no my-cache")?;
    ensure!(rate(cache) > Some(10.0), "{cache:#}");
    ensure!(cache["latency_p50_us"].as_f64() > Some(0.0), "{cache:#}");
    ensure!(cache["commands"][0]["name"] == "get", "{cache:#}");
    ensure!(once["seconds"].as_f64() > Some(0.9), "{once:#}");
    ensure!(once["refusals"][0]["reason"].is_string(), "{once:#}");
    let limiter = find("rate-limiter").context("no rate-limiter")?;
    ensure!(
        limiter["refused_per_second"].as_f64() > Some(0.0),
        "{limiter:#}"
    );
    ensure!(
        limiter["errors_per_second"].as_f64() > Some(0.0),
        "{limiter:#}"
    );
    // A document a line for as long as somebody reads; then it ends as commands do, without a word.
    let mut flect = town.bed.flect()?;
    flect.args(["top", "--json", "--interval", "0.2"]);
    let piped = std::process::Stdio::piped;
    let mut child = flect.stdout(piped()).stderr(piped()).spawn()?;
    let stdout = child.stdout.take().context("no stdout")?;
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout)).take(3);
    let lines: Vec<Value> = lines
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<Result<_>>()?;
    let end = child.wait_with_output()?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&end.status);
    ensure!(
        signal == Some(libc::SIGPIPE) && end.stderr.is_empty(),
        "{end:?}"
    );
    let times: Vec<_> = lines.iter().map(|line| line["at_ms"].as_u64()).collect();
    ensure!(times.is_sorted() && times[0] < times[2], "{times:?}");
    Ok(())
}

fn on_a_terminal() -> Result<()> {
    let town = Town::busy()?;
    let flect = Programs::beside_current()?.flect;
    let socket = town.bed.folder().join("agent.sock");
    let mut python = Command::new(tools::program("python3")?);
    python
        .args(["-c", include_str!("top.py")])
        .arg(flect)
        .args(["top", "--interval", "0.3", "--socket"])
        .arg(socket)
        .env_remove("NO_COLOR");
    let said = output(&mut python)?;
    ensure!(
        said == "colours\nq 0 restored\nSIGTERM 143 restored\nSIGINT 130 restored\n\
            SIGHUP 129 restored\nCtrl-C 0 restored\nno colours",
        "{said}"
    );
    Ok(())
}

fn without_an_agent() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    for args in [&["top"][..], &["top", "--json"], &["status", "--page"]] {
        let ended = bed.flect()?.args(args).output()?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.code() == Some(3), "{args:?}: {ended:?}");
        ensure!(said.contains("no agent answers at"), "{said}");
    }
    let ended = bed.flect()?.args(["top", "--interval", "0"]).output()?;
    ensure!(ended.status.code() == Some(2), "{ended:?}");
    Ok(())
}
