//! Hooks that outlive their agent, agents that come and go, workloads in network namespaces.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use flect_agent::interception::{Interception, InterceptionError, detach, netns_cookie};

use super::Body;
use super::identity::{expected, told};
use super::puppet::eventually;
use super::stage::Stage;

/// The folder of this schema's pins in the pin folder.
const SCHEMA: &str = "v3";

pub(super) const BODIES: [(&str, Body); 8] = [
    (
        "an_unknown_namespace_works_on_retry",
        an_unknown_namespace_works_on_retry,
    ),
    (
        "a_known_namespace_works_at_once",
        a_known_namespace_works_at_once,
    ),
    ("an_agent_takes_over", an_agent_takes_over),
    ("listeners_are_handed_over", listeners_are_handed_over),
    (
        "listeners_of_other_namespaces_are_handed_over",
        listeners_of_other_namespaces_are_handed_over,
    ),
    ("another_schema_is_exchanged", another_schema_is_exchanged),
    (
        "what_is_not_of_the_agent_is_not_touched",
        what_is_not_of_the_agent_is_not_touched,
    ),
    ("detach_leaves_nothing", detach_leaves_nothing),
];

fn an_unknown_namespace_works_on_retry(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let mut a = stage.puppet("a")?;
    a.go("unshare")?;
    let open = format!("open s {}", stage.asked());
    a.is_refused(&open)?;
    eventually("the retry succeeds", || Ok(a.try_go(&open)?.is_ok()))?;
    ensure!(told(&mut a, "s")? == expected(stage, "a")?);
    // Neighbours on the same loopback addresses in other namespaces are who they are.
    let mut b = stage.puppet("b")?;
    b.go(&open)?;
    ensure!(told(&mut b, "s")? == expected(stage, "b")?);
    a.go("write s hello")?;
    ensure!(a.go("read s")? == "hello");
    Ok(())
}

fn a_known_namespace_works_at_once(stage: &mut Stage) -> Result<()> {
    let mut a = stage.puppet("a")?;
    a.go("unshare")?;
    let _hooks = stage.serve()?;
    for address in ["127.0.0.1", "[::1]"] {
        a.go(&format!("open s {address}:{}", stage.asked().port()))?;
        let told = told(&mut a, "s")?;
        ensure!(
            told.starts_with(&format!("{} ", stage.cgroup("a")?.0)),
            "{told}"
        );
    }
    Ok(())
}

/// A second agent over the first one's pins: programs are swapped in place, connections go on.
fn an_agent_takes_over(stage: &mut Stage) -> Result<()> {
    let asked = stage.asked();
    let links = |stage: &Stage| -> Result<usize> {
        Ok(fs::read_dir(stage.settings.pin.join(SCHEMA))?
            .flatten()
            .filter(|pin| pin.file_name().to_string_lossy().starts_with("link_"))
            .count())
    };
    let mut first = stage.attach()?;
    let listeners = first.take_listeners();
    let before = links(stage)?;
    let mut a = stage.puppet("a")?;
    a.go(&format!("open s {asked}"))?;
    let (accepted, _) = accept(&listeners[0])?;
    drop((first, listeners));

    let _second = stage.serve()?;
    ensure!(links(stage)? == before, "links have been added");
    a.go(&format!("open t {asked}"))?;
    ensure!(told(&mut a, "t")? == expected(stage, "a")?);
    // What the first agent has accepted is still connected.
    std::io::Write::write_all(&mut &accepted, b"hello")?;
    ensure!(a.go("read s")? == "hello");
    stage.valkey_was_not_reached()
}

/// A connection that waits in the backlog while one agent follows the other keeps its identity.
fn listeners_are_handed_over(stage: &mut Stage) -> Result<()> {
    let mut first = stage.attach()?;
    let listeners = first.take_listeners();
    drop(first);
    let mut a = stage.puppet("a")?;
    a.go(&format!("open s {}", stage.asked()))?;
    let mut second = Interception::attach_inheriting(&stage.mount, &stage.settings, listeners)?;
    let listeners = second.take_listeners();
    let (accepted, _) = accept(&listeners[0])?;
    let identity = second.identify(std::os::fd::AsFd::as_fd(&accepted))?;
    ensure!(identity.cgroup == stage.cgroup("a")?);
    ensure!(identity.asked == stage.asked());
    ensure!(
        second
            .identify(std::os::fd::AsFd::as_fd(&accepted))
            .is_err(),
        "an identity was given out twice"
    );
    Ok(())
}

/// The same in a workload's namespace, and after the first agent has watched for a while.
fn listeners_of_other_namespaces_are_handed_over(stage: &mut Stage) -> Result<()> {
    let mut a = stage.puppet("a")?;
    a.go("unshare")?;
    let mut first = stage.attach()?;
    let count = first.take_listeners().len();
    first.watch(|_| {})?;
    let copies = first.rest()?;
    ensure!(copies.len() == count && count > 2, "{copies:?} of {count}");
    drop(first);
    a.go(&format!("open s {}", stage.asked()))?;
    let mut second = Interception::attach_inheriting(&stage.mount, &stage.settings, copies)?;
    let listeners = second.take_listeners();
    ensure!(listeners.len() == count, "{listeners:?} of {count}");
    let own = second.own_namespace();
    let of_a = |it: &&std::net::TcpListener| {
        let cookie = netns_cookie(std::os::fd::AsFd::as_fd(*it));
        cookie.is_ok_and(|cookie| cookie != own) && it.local_addr().is_ok_and(|it| it.is_ipv4())
    };
    let listener = listeners.iter().find(of_a).context("none there")?;
    let (accepted, _) = accept(listener)?;
    let identity = second.identify(std::os::fd::AsFd::as_fd(&accepted))?;
    ensure!(identity.cgroup == stage.cgroup("a")? && identity.netns_cookie != own);
    Ok(())
}

fn accept(listener: &std::net::TcpListener) -> Result<(std::net::TcpStream, std::net::SocketAddr)> {
    listener.set_nonblocking(false)?;
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(false)?;
    Ok((stream, peer))
}

/// Hooks of another release, earlier or later, are exchanged, and at no time is there none.
fn another_schema_is_exchanged(stage: &mut Stage) -> Result<()> {
    let open = format!("open s {}", stage.asked());
    let pin = stage.settings.pin.clone();
    let mut a = stage.puppet("a")?;
    drop(stage.attach()?);
    for other in ["v0", "v77"] {
        fs::rename(pin.join(SCHEMA), pin.join(other))?;
        // The old hooks still refuse.
        a.is_refused(&open)?;
        drop(stage.attach()?);
        let entries = fs::read_dir(&pin)?.flatten();
        let left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        ensure!(left == [SCHEMA], "{left:?}");
        a.is_refused(&open)?;
    }
    let _hooks = stage.serve()?;
    a.go(&open)?;
    ensure!(told(&mut a, "s")? == expected(stage, "a")?);
    stage.valkey_was_not_reached()
}

/// What is not the agent's is not touched, and the hooks stay.
fn what_is_not_of_the_agent_is_not_touched(stage: &mut Stage) -> Result<()> {
    drop(stage.attach()?);
    let pin = &stage.settings.pin;
    fs::create_dir(pin.join("mine"))?;
    match Interception::attach(&stage.mount, &stage.settings) {
        Err(error @ InterceptionError::OtherSchema { .. }) => {
            ensure!(error.to_string().contains("'mine'"), "{error}");
        }
        other => bail!("{other:?}"),
    }
    let mut a = stage.puppet("a")?;
    a.is_refused(&format!("open s {}", stage.asked()))
}

fn detach_leaves_nothing(stage: &mut Stage) -> Result<()> {
    let pin = stage.settings.pin.clone();
    ensure!(detach(&pin)?.removed.is_empty());
    drop(stage.attach()?);
    let report = detach(&pin)?;
    ensure!(
        report
            .removed
            .iter()
            .any(|name| *name == format!("{SCHEMA}/link_connect4")),
        "{report:?}"
    );
    ensure!(!pin.exists());
    let mut a = stage.puppet("a")?;
    a.go(&format!("open s {}", stage.asked()))
        .context("after detach, connections go straight to Valkey")?;
    Ok(())
}
