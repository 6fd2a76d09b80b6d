//! A cluster of one node: nothing of it is seen, and slots make the store's own commands cheap.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Own;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::smoke::output;
use crate::wire::Wire;

pub const BODIES: [(&str, Own); 4] = [
    ("one_node_looks_like_no_cluster", one_node),
    ("stores_have_slots_of_their_own", slots),
    ("scripts_answer_what_a_cluster_would", scripts),
    ("memory_limits_hold_beside_many_keys", limits),
];

/// Rounds are some seconds apart, and a busy machine takes longer for one.
const MEASURED_WITHIN: Duration = Duration::from_secs(60);

/// What an app of a cluster of one node is told.
fn one_node() -> Result<()> {
    let bed = Bed::builder().slots().start()?;
    let mut app = bed.connect(APP1)?;
    check(&mut app, &["SET", "a", "1"], "OK")?;
    check(&mut app, &["MSET", "b", "2", "{x}c", "3"], "OK")?;
    check(&mut app, &["DBSIZE"], "3")?;
    check(
        &mut app,
        &["EVAL", "return redis.call('GET', 'a')", "0"],
        "1",
    )?;
    check(&mut app, &["SELECT", "3"], "OK")?;
    check(&mut app, &["SET", "a", "other"], "OK")?;
    check(&mut app, &["MOVE", "a", "4"], "1")?;
    check(&mut app, &["SWAPDB", "4", "5"], "OK")?;
    check(&mut app, &["SELECT", "5"], "OK")?;
    check(&mut app, &["COPY", "a", "copy", "DB", "6"], "1")?;
    check(&mut app, &["KEYS", "*"], "[a]")?;
    check(&mut app, &["FLUSHDB"], "OK")?;
    check(&mut app, &["SELECT", "0"], "OK")?;
    check(&mut app, &["DBSIZE"], "3")?;
    check(&mut app, &["CONFIG", "GET", "databases"], "[databases, 16]")?;
    let info = app.command(&["INFO"])?.text();
    ensure!(info.contains("cluster_enabled:0"), "{info}");
    ensure!(!info.contains("cluster_enabled:1"), "{info}");
    for words in [&["CLUSTER", "SLOTS"][..], &["CLUSTER", "INFO"], &["ASKING"]] {
        let told = app.command(words)?.text();
        ensure!(
            told.contains("cluster support disabled"),
            "{words:?}: {told}"
        );
    }
    check(&mut app, &["FLUSHALL"], "OK")?;
    check(&mut app, &["RANDOMKEY"], "(nil)")
}

fn check(wire: &mut Wire, words: &[&str], expect: &str) -> Result<()> {
    let told = wire.command(words)?.text();
    ensure!(told == expect, "{words:?}: {told}");
    Ok(())
}

/// `flect kv show` tells the slot, and no two stores have the same.
fn slots() -> Result<()> {
    let bed = Bed::builder().slots().stores(4).start()?;
    let mut operator = bed.operator()?;
    let mut seen = Vec::new();
    for store in ["store1", "store2", "store3", "store4", "app2"] {
        let out = bed
            .flect()?
            .args(["kv", "show", store, "--json"])
            .output()?;
        let shown: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        let key = format!("{}:k", bed.prefix(store)?);
        let slot = operator.command(&["CLUSTER", "KEYSLOT", &key])?.text();
        let slot: u16 = slot.parse()?;
        ensure!(shown["slot"] == slot, "{shown}, Valkey: {slot}");
        ensure!(shown["slot_shared_with"] == 0, "{shown}");
        ensure!(shown["shard"] == bed.address().to_string(), "{shown}");
        ensure!(!seen.contains(&slot), "two stores in {slot}");
        seen.push(slot);
    }
    Ok(())
}

/// A script may answer what a cluster's node answers instead of carrying a request out. It is told as it is, and
/// nothing runs twice.
fn scripts() -> Result<()> {
    const LIBRARY: &str = "#!lua name=says\nserver.register_function('says', function(keys, args) \
                           server.call('INCR', 'runs') return server.error_reply(args[1]) end)";
    const SCRIPT: &str = "redis.call('INCR', 'runs') return redis.error_reply(ARGV[1])";
    let bed = Bed::builder().slots().start()?;
    let mut app = bed.connect(APP1)?;
    check(&mut app, &["FUNCTION", "LOAD", LIBRARY], "says")?;
    let sha = app.command(&["SCRIPT", "LOAD", SCRIPT])?.text();
    let address = bed.address();
    let node = format!("MOVED 1 {address}");
    let ask = format!("ASK 1 {address}");
    let mut runs = 0;
    for text in [
        "MOVED 1 127.0.0.1:1",
        &node,
        &ask,
        "ASK 1 127.0.0.1:1",
        "TRYAGAIN later",
        "CLUSTERDOWN it is",
    ] {
        // The second time the server has the script already.
        for words in [
            &["EVAL", SCRIPT, "1", "runs", text][..],
            &["EVAL", SCRIPT, "1", "runs", text],
            &["EVALSHA", &sha, "1", "runs", text],
            &["FCALL", "says", "1", "runs", text],
        ] {
            let told = app.command(words)?.text();
            // No app is shown where the server is.
            let shown = told == format!("-{text}") || text.contains(&address.to_string());
            ensure!(shown && told.starts_with('-'), "{words:?}: {told}");
            runs += 1;
            check(&mut app, &["GET", "runs"], &runs.to_string())?;
        }
    }
    Ok(())
}

/// However many keys the server has, each store with a limit is measured: those of others are none of its walk.
fn limits() -> Result<()> {
    const STORES: [&str; 3] = ["store1", "store2", "store3"];
    let bed = Bed::builder().slots().stores(3).start()?;
    let mut operator = bed.operator()?;
    // With the keys that one round looks at, two stores would have had all of them.
    let populated = operator.command(&["DEBUG", "POPULATE", "1200000", "foreign", "1"])?;
    ensure!(populated.text() == "OK", "{}", populated.text());
    let value = "x".repeat(100_000);
    for store in STORES {
        output(
            bed.flect()?
                .args(["kv", "set", store, "--max-memory", "1mb"]),
        )?;
        let mut app = bed.connect(APP1)?;
        check(&mut app, &["AUTH", store, "-"], "OK")?;
        for key in 0..20 {
            check(&mut app, &["SET", &key.to_string(), &value], "OK")?;
        }
    }
    for store in STORES {
        let mut app = bed.connect(APP1)?;
        check(&mut app, &["AUTH", store, "-"], "OK")?;
        wait_until(MEASURED_WITHIN, || {
            let told = app.command(&["SET", "more", "x"])?.text();
            Ok(told.contains("OOM"))
        })
        .with_context(|| format!("{store} may have more than its limit"))?;
    }
    Ok(())
}
