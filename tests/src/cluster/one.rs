//! A cluster of one node: nothing of it is seen, and slots make the store's own commands cheap.

use anyhow::{Result, ensure};

use super::Own;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

pub const BODIES: [(&str, Own); 2] = [
    ("one_node_looks_like_no_cluster", one_node),
    ("stores_have_slots_of_their_own", slots),
];

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
