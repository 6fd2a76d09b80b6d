//! Limits and tokens of stores, as the registry says them, at an agent with hooks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::bed::{APP1, Acceleration, Bed};
use crate::wire::{Wire, encode};

/// Where the registry keeps its records.
const STORES: &str = "flect:{registry}:stores";
/// SHA-256 of `secret`.
const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for acceleration in [Acceleration::On, Acceleration::Off] {
        let name = format!("limits::of_the_registry::accel_{}", acceleration.word());
        all.push(Trial::test(name, move || {
            of_the_registry(acceleration).map_err(|error| Failed::from(format!("{error:#}")))
        }));
    }
    all
}

/// Changes a store's record behind the agent's back.
fn change(operator: &mut Wire, store: &str, fields: &Value) -> Result<()> {
    let text = operator.command(&["HGET", STORES, store])?.text();
    let mut record: Value = serde_json::from_str(&text).context(text)?;
    let record = record.as_object_mut().context("no object")?;
    record.extend(fields.as_object().context("no object")?.clone());
    let text = Value::Object(record.clone()).to_string();
    operator.command(&["HSET", STORES, store, &text])?;
    Ok(())
}

fn of_the_registry(acceleration: Acceleration) -> Result<()> {
    let bed = Bed::builder()
        .stores(3)
        .acceleration(acceleration)
        .start()?;
    bed.stop_agent()?;
    let mut operator = bed.operator()?;
    let limits = json!({ "connections": 2 });
    change(&mut operator, "store1", &json!({ "limits": limits }))?;
    change(&mut operator, "store2", &json!({ "token": SECRET }))?;
    let limits = json!({ "commands_per_second": 100 });
    change(&mut operator, "store3", &json!({ "limits": limits }))?;
    bed.start_agent()?;
    let check = || -> Result<()> {
        let mut first = bed.connect(APP1)?;
        ensure!(first.command(&["PING"])?.text() == "PONG", "the first");
        let got = first.command(&["AUTH", "store2", "store2"])?.text();
        ensure!(got.starts_with("-WRONGPASS"), "{got}");
        let mut second = bed.connect(APP1)?;
        ensure!(second.command(&["PING"])?.text() == "PONG", "the second");
        let mut third = bed.connect(APP1)?;
        let got = third.read()?.text();
        ensure!(got == "-ERR max number of clients reached", "{got}");
        ensure!(third.read().is_err(), "the third is open");
        let got = first.command(&["AUTH", "store2", "secret"])?.text();
        ensure!(got == "OK", "{got}");
        let mut third = bed.connect(APP1)?;
        ensure!(
            third.command(&["AUTH", "store3", "x"])?.text() == "OK",
            "AUTH"
        );
        let begin = Instant::now();
        let burst: Vec<u8> = (0..150).flat_map(|_| encode(&["INCR", "n"])).collect();
        third.send_raw(&burst)?;
        for number in 1..=150 {
            let got = third.read()?.text();
            ensure!(got == number.to_string(), "{got} instead of {number}");
        }
        let took = begin.elapsed();
        // Ten may come at once.
        ensure!(took > Duration::from_millis(1350), "150 in {took:?}");
        Ok(())
    };
    check().with_context(|| format!("the agent's log:\n{}", bed.agent_log()))
}
