//! Scripts that never end: the server does nothing else meanwhile, for any store.

use anyhow::{Result, ensure};

use super::stage::{self, told};
use crate::bed::{APP1, Bed, NEIGHBOUR};
use crate::wire::Wire;

const ENDLESS: [&str; 3] = ["EVAL", "while true do end", "0"];

fn bed(busy_seconds: u32) -> Result<Bed> {
    stage::bed(&format!("busy_seconds = {busy_seconds}"), |b| {
        b.valkey_option("--busy-reply-threshold", "200")
    })
}

/// Starts the script and waits until the neighbour is told BUSY.
fn begin(bed: &Bed) -> Result<(Wire, Wire)> {
    let mut neighbour = bed.connect(NEIGHBOUR)?;
    ensure!(neighbour.command(&["PING"])?.text() == "PONG", "PING");
    let mut endless = bed.connect(APP1)?;
    endless.send(&ENDLESS)?;
    stage::wait_until(|| {
        let got = neighbour.command(&["GET", "k"])?.text();
        stage::breathe();
        Ok(got.starts_with("-BUSY"))
    })?;
    Ok((endless, neighbour))
}

/// It is ended with Valkey's words for its client, and the neighbour is served again.
pub fn endless() -> Result<()> {
    let bed = bed(1)?;
    let run = || {
        let (mut endless, mut neighbour) = begin(&bed)?;
        let got = endless.read()?.text();
        ensure!(
            got.contains("Script killed by user with SCRIPT KILL"),
            "{got}"
        );
        ensure!(
            neighbour.command(&["SET", "k", "v"])?.text() == "OK",
            "the neighbour is not served"
        );
        stage::wait_until(|| Ok(!stage::audited(&bed, "scripts").is_empty()))
    };
    told(&bed, run())
}

/// Without the limit it goes on for longer than that, until the operator ends it.
pub fn self_check() -> Result<()> {
    let bed = bed(0)?;
    let run = || {
        let mut operator = bed.operator()?;
        let (mut endless, _neighbour) = begin(&bed)?;
        ensure!(
            endless.is_silent_for(std::time::Duration::from_secs(2))?,
            "somebody has ended the script"
        );
        let got = operator.command(&["SCRIPT", "KILL"])?.text();
        ensure!(got == "OK", "{got}");
        endless.read()?;
        Ok(())
    };
    told(&bed, run())
}
