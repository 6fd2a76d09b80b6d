//! A Valkey that forgets: the registry, the users and the settings come back.

use anyhow::{Context, Result};

use super::second::{Options, Second};
use super::{Body, PATIENCE, expect, flect, said};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};

pub const BODIES: [(&str, Body); 2] = [
    ("a_flushed_registry_comes_back", || lost("FLUSHALL")),
    ("a_restarted_valkey_is_put_in_order", || {
        lost("DEBUG RESTART")
    }),
];

/// Two agents hold a copy; whoever is first gives it back, and nothing is different afterwards but
/// that the keys are gone.
fn lost(by: &str) -> Result<()> {
    let bed = Bed::builder().stores(2).start()?;
    let second = Second::start(&bed, &Options::default())?;
    flect(&bed, &["env", "set", "--max-memory", "111mb"])?;
    flect(&bed, &["kv", "create", "unbound", "--rate", "50"])?;
    let token = flect(&bed, &["kv", "token", "store2", "--new"])?;
    let list = || flect(&bed, &["kv", "list", "--json"]);
    let before = list()?;
    let login = format!("AUTH store2 {token}");
    wait_until(
        PATIENCE,
        || Ok(said(&mut second.connect()?, &login) == "OK"),
    )?;
    expect(&mut bed.connect(APP1)?, "SET a 1", "OK")?;

    let check = || -> Result<()> {
        let mut operator = bed.operator()?;
        // The server that restarts answers nothing.
        let _ = said(&mut operator, by);
        wait_until(PATIENCE, || {
            let Ok(mut operator) = bed.operator() else {
                return Ok(false);
            };
            let settings = said(&mut operator, "CONFIG GET maxmemory");
            Ok(settings.contains("116391936")
                && said(&mut bed.connect(APP1)?, "GET a") == "(nil)"
                && said(&mut second.connect()?, &login) == "OK")
        })?;
        let mut after = String::new();
        wait_until(PATIENCE, || {
            after = list()?;
            Ok(after == before)
        })
        .with_context(|| format!("{after}\ninstead of\n{before}"))?;
        expect(&mut bed.connect(APP1)?, "SET a 2", "OK")?;
        let mut far = second.connect()?;
        expect(&mut far, &login, "OK")?;
        expect(&mut far, "SET b 3", "OK")?;
        // It asks Valkey from time to time, and may have asked last before the users were back.
        wait_until(PATIENCE, || Ok(bed.status()?["ready"] == true)).context("not ready")
    };
    check().with_context(|| format!("{}\n---\n{}", bed.agent_log(), second.log()))
}
