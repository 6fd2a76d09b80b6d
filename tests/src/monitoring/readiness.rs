//! Health and readiness say what is the case.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Body;
use super::held::Held;
use super::http::{at_socket, bed, scrape};
use super::text::Scrape;
use crate::bed::Bed;
use crate::bed::agent::wait_until;
use crate::chaos::maps;

pub const TRIALS: [(&str, Body); 3] = [
    ("readiness_follows_valkey", follows_valkey),
    ("readiness_sees_a_hook_go", sees_a_hook_go),
    ("health_sees_a_worker_stand", health_sees_a_worker_stand),
];

/// The agent asks Valkey every two seconds, and waits for an answer for some more.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

fn follows_valkey() -> Result<()> {
    let (bed, _folder, socket) = bed(Bed::builder())?;
    ensure!(
        at_socket(&socket, "/readyz")? == (200, "ok\n".to_owned()),
        "not ready"
    );
    bed.kill_valkey()?;
    wait_until(NOTICED_WITHIN, || {
        Ok(at_socket(&socket, "/readyz")? == (503, "Valkey does not answer\n".to_owned()))
    })?;
    // The process lives and serves what it can.
    ensure!(at_socket(&socket, "/healthz")?.0 == 200, "not healthy");
    ensure!(
        Scrape::parse(&scrape(&socket)?)?.one("flect_ready", &[])? == 0.0,
        "ready"
    );
    let status = bed.status()?;
    ensure!(
        status["ready"] == false && status["not_ready"] == "Valkey does not answer",
        "{status}"
    );
    bed.start_valkey()?;
    wait_until(NOTICED_WITHIN, || {
        Ok(at_socket(&socket, "/readyz")?.0 == 200)
    })
}

/// Somebody detaches a hook by force: with bpftool, or by removing the cgroup.
fn sees_a_hook_go() -> Result<()> {
    let (bed, _folder, socket) = bed(Bed::builder())?;
    maps::detach(&bed.pins(), "link_connect4")?;
    let (code, text) = at_socket(&socket, "/readyz")?;
    ensure!(code == 503 && text.contains("connect4"), "{code} {text}");
    let seen = Scrape::parse(&scrape(&socket)?)?;
    ensure!(
        seen.one("flect_hook_attached", &[("hook", "connect4")])? == 0.0,
        "attached"
    );
    ensure!(
        seen.one("flect_hook_attached", &[("hook", "connect6")])? == 1.0,
        "connect6"
    );
    Ok(())
}

/// A worker that does not turn is found, though everything else goes on.
fn health_sees_a_worker_stand() -> Result<()> {
    let (bed, _folder, socket) = bed(Bed::builder().workers(2))?;
    ensure!(at_socket(&socket, "/healthz")?.0 == 200, "not healthy");
    let held = Held::thread(&bed, "worker-1")?;
    let (code, text) = at_socket(&socket, "/healthz")?;
    ensure!(
        code == 503 && text == "worker 1 does not turn\n",
        "{code} {text}"
    );
    let seen = Scrape::parse(&scrape(&socket)?)?;
    ensure!(
        seen.one("flect_workers_answering", &[])? == 1.0,
        "both answer"
    );
    drop(held);
    wait_until(NOTICED_WITHIN, || {
        Ok(at_socket(&socket, "/healthz")?.0 == 200)
    })
}
