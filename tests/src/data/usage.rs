//! `flect kv usage`.

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;

use super::stage::Stage;

/// What every key takes, summed up by asking for each.
fn truth(stage: &Stage, prefix: &str) -> Result<(f64, f64)> {
    let mut operator = stage.operator()?;
    let names = stage.names(prefix)?;
    let mut bytes = 0_i64;
    for part in names.chunks(500) {
        for name in part {
            operator.send(&[
                &b"MEMORY"[..],
                b"USAGE",
                &[prefix.as_bytes(), name].concat(),
            ])?;
        }
        for _ in part {
            bytes += operator.read()?.text().parse::<i64>()?;
        }
    }
    Ok((names.len() as f64, bytes as f64))
}

/// The interval holds the truth: with a factor, as one interval in twenty need not, and a sample without any of
/// a few keys that are larger tells too narrow a one.
fn holds(estimate: &Json, truth: f64) -> Result<()> {
    let field = |name: &str| estimate[name].as_f64().context("no number");
    let (value, low, high) = (field("value")?, field("low")?, field("high")?);
    ensure!(low <= value && value <= high, "{estimate}");
    let room = 4.0 * (high - value).max(value - low);
    ensure!(
        (value - truth).abs() <= room,
        "{estimate}, but it is {truth}"
    );
    Ok(())
}

/// Stores of very different sizes side by side, sampled, told within the error that is stated.
pub fn is_within_its_error(stage: &Stage) -> Result<()> {
    let big = stage.create("big")?;
    let small = stage.create("small")?;
    stage.create("empty")?;
    stage.populate(&big, 150_000, 100)?;
    stage.populate(&small, 80, 300)?;
    stage.populate(&format!("{small}/2"), 40, 1000)?;
    let of = |shown: &Json, name: &str| -> Result<Json> {
        let stores = shown["stores"].as_array().context("no stores")?;
        let found = stores.iter().find(|store| store["name"] == name);
        Ok(found.context("store is missing")?.clone())
    };
    let alone = of(&stage.json(&["kv", "usage", "big"])?, "big")?;
    ensure!(alone["walked_all"] == false, "a sample is enough: {alone}");
    ensure!(alone["measured"].as_u64() < Some(10_000), "{alone}");
    let shown = stage.json(&["kv", "usage"])?;
    let exact = stage.json(&["kv", "usage", "--exact"])?;
    for (name, prefix) in [("big", &big), ("small", &small)] {
        let (keys, bytes) = truth(stage, prefix)?;
        let mut all = vec![of(&shown, name)?];
        if name == "big" {
            all.push(alone.clone());
        }
        for store in all {
            holds(&store["keys"], keys)?;
            holds(&store["memory_bytes"], bytes)?;
        }
        let exact = of(&exact, name)?;
        ensure!(exact["keys"]["value"] == keys, "{exact}, but {keys} keys");
        ensure!(
            exact["memory_bytes"]["value"] == bytes,
            "{exact}, but {bytes} bytes"
        );
        ensure!(exact["measured_all"] == true, "{exact}");
    }
    // A hundred keys among so many others are counted, not guessed.
    let store = of(&shown, "small")?;
    ensure!(
        store["walked_all"] == true && store["keys"]["value"] == 120.0,
        "{store}"
    );
    ensure!(store["databases"]["2"] == 40.0, "{store}");
    let bounded = of(
        &stage.json(&["kv", "usage", "big", "--max-keys", "5000"])?,
        "big",
    )?;
    ensure!(bounded["found"].as_u64() < Some(10_000), "{bounded}");
    holds(&bounded["keys"], 150_000.0)
}

/// Types, lives and the biggest keys; text that fits its terminal.
pub fn tells_types_and_sizes(stage: &Stage) -> Result<()> {
    let prefix = stage.create("store")?;
    stage.fill(&prefix)?;
    let shown = stage.json(&["kv", "usage", "store"])?;
    let store = &shown["stores"][0];
    let (keys, bytes) = truth(stage, &prefix)?;
    ensure!(
        store["keys"]["value"] == keys && store["memory_bytes"]["value"] == bytes,
        "{store}"
    );
    let biggest = &store["biggest"][0];
    ensure!(
        biggest["key"] == "large" && biggest["type"] == "string",
        "{store}"
    );
    let types = store["types"].as_array().context("no types")?;
    for kind in ["string", "list", "set", "zset", "hash", "stream"] {
        ensure!(
            types.iter().any(|other| other["type"] == kind),
            "no {kind}: {store}"
        );
    }
    let expires = store["expires"].as_array().context("no expiries")?;
    let of = |class: &str| {
        expires
            .iter()
            .find(|pair| pair[0] == class)
            .map(|pair| pair[1].clone())
    };
    ensure!(of("30 days and more") == Some(2.0.into()), "{store}");
    let mut command = stage.command(&["kv", "usage", "store"]);
    let output = command.env("LC_ALL", "C").output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.is_ascii() || !text.contains('█'),
        "ASCII was asked for: {text}"
    );
    for line in text.lines() {
        ensure!(line.chars().count() <= 80, "too long: {line}");
    }
    stage.fails(&["kv", "usage", "stor"], 4)?;
    Ok(())
}

/// On a server with slots, each store is walked by itself.
pub fn of_a_cluster_node(stage: &Stage) -> Result<()> {
    let big = stage.create("big")?;
    let small = stage.create("small")?;
    stage.populate(&big, 20_000, 10)?;
    stage.populate(&small, 100, 10)?;
    let shown = stage.json(&["kv", "usage", "--exact"])?;
    for store in shown["stores"].as_array().context("no stores")? {
        let keys = if store["name"] == "big" {
            20_000.0
        } else {
            100.0
        };
        ensure!(store["keys"]["value"] == keys, "{store}");
    }
    let sampled = stage.json(&["kv", "usage", "big"])?;
    holds(&sampled["stores"][0]["keys"], 20_000.0)?;
    ensure!(sampled["stores"][0]["walked_all"] == false, "{sampled}");
    stage.flect(&["kv", "rm", "big", "--yes"])?;
    ensure!(
        stage.names(&big)?.is_empty() && stage.names(&small)?.len() == 100,
        "wrong keys went"
    );
    Ok(())
}
