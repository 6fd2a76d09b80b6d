//! Who is behind a connection.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::Body;
use super::puppet::{Puppet, eventually};
use super::stage::Stage;

pub(super) const BODIES: [(&str, Body); 7] = [
    ("two_cgroups_on_one_address", two_cgroups_on_one_address),
    (
        "getpeername_is_the_asked_address",
        getpeername_is_the_asked_address,
    ),
    ("a_process_that_moves", a_process_that_moves),
    ("a_socket_that_is_passed_on", a_socket_that_is_passed_on),
    ("ten_thousand_reconnects", ten_thousand_reconnects),
    ("one_tuple_for_two_apps", one_tuple_for_two_apps),
    ("a_reused_socket_forgets", a_reused_socket_forgets),
];

/// Whom the agent takes a connection for: cgroup id and asked address.
pub(super) fn told(puppet: &mut Puppet, slot: &str) -> Result<String> {
    puppet.go(&format!("read {slot}"))
}

pub(super) fn expected(stage: &Stage, app: &str) -> Result<String> {
    Ok(format!("{} {}", stage.cgroup(app)?.0, stage.asked()))
}

fn two_cgroups_on_one_address(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let open = format!("open s {}", stage.asked());
    let (mut a, mut b) = (stage.puppet("a")?, stage.puppet("b")?);
    a.go(&open)?;
    b.go(&open)?;
    ensure!(told(&mut a, "s")? == expected(stage, "a")?);
    ensure!(told(&mut b, "s")? == expected(stage, "b")?);
    stage.valkey_was_not_reached()
}

fn getpeername_is_the_asked_address(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let port = stage.asked().port();
    let mut a = stage.puppet("a")?;
    // What is asked, what getpeername says, and what the agent is told was asked: an unspecified
    // address means loopback, to the kernel as to us.
    for (ask, peer, agent) in [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]", "[::1]"),
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("[::]", "[::1]", "[::1]"),
        ("[::ffff:0.0.0.0]", "[::ffff:127.0.0.1]", "127.0.0.1"),
    ] {
        a.go(&format!("open s {ask}:{port}"))?;
        let says: SocketAddr = a.go("peer s")?.parse()?;
        ensure!(says == format!("{peer}:{port}").parse()?, "{ask}: {says}");
        let told = told(&mut a, "s")?;
        ensure!(
            told == format!("{} {agent}:{port}", stage.cgroup("a")?.0),
            "{ask}: {told}"
        );
    }
    // Sockets without a memory of ours tell the truth.
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?;
    a.go(&format!("open s {address}"))?;
    ensure!(a.go("peer s")?.parse::<SocketAddr>()? == address);
    Ok(())
}

/// An established connection stays its maker's; a socket made before the move is refused; new sockets
/// are the new cgroup's.
fn a_process_that_moves(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let asked = stage.asked();
    let mut puppet = stage.puppet("a")?;
    puppet.go(&format!("open old {asked}"))?;
    ensure!(told(&mut puppet, "old")? == expected(stage, "a")?);
    puppet.go(&format!("socket made {asked}"))?;
    puppet.go(&format!("join {}", stage.procs("b")?.display()))?;
    puppet.go("write old still")?;
    ensure!(puppet.go("read old")? == "still");
    puppet.is_refused(&format!("connect made {asked}"))?;
    puppet.go(&format!("open new {asked}"))?;
    ensure!(told(&mut puppet, "new")? == expected(stage, "b")?);
    stage.valkey_was_not_reached()
}

fn a_socket_that_is_passed_on(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let asked = stage.asked();
    let mailbox = format!("flect-kernel-{}", std::process::id());
    let (mut a, mut b) = (stage.puppet("a")?, stage.puppet("b")?);
    b.go(&format!("mailbox {mailbox}"))?;
    // Not connected yet: neither may speak for the other.
    a.go(&format!("socket s {asked}"))?;
    a.go(&format!("send s {mailbox}"))?;
    b.go("receive s")?;
    b.is_refused(&format!("connect s {asked}"))?;
    // Its maker may.
    a.go(&format!("connect s {asked}"))?;
    ensure!(told(&mut a, "s")? == expected(stage, "a")?);
    // Connected: it stays what it is, whoever reads it.
    a.go(&format!("open t {asked}"))?;
    a.go(&format!("send t {mailbox}"))?;
    b.go("receive t")?;
    ensure!(told(&mut b, "t")? == expected(stage, "a")?);
    stage.valkey_was_not_reached()
}

fn ten_thousand_reconnects(stage: &mut Stage) -> Result<()> {
    let hooks = stage.serve()?;
    let (mut a, mut b) = (stage.puppet("a")?, stage.puppet("b")?);
    a.order(&format!(
        "storm 5000 {} {}",
        stage.asked(),
        stage.cgroup("a")?.0
    ))?;
    b.order(&format!(
        "storm 5000 {} {}",
        stage.asked(),
        stage.cgroup("b")?.0
    ))?;
    for puppet in [&mut a, &mut b] {
        let said = puppet.answer()??;
        ensure!(said == "0 wrong", "{said}");
    }
    eventually("no entry is left behind", || Ok(hooks.pending()? == 0))
}

/// The same four numbers, now one app's, now the other's.
fn one_tuple_for_two_apps(stage: &mut Stage) -> Result<()> {
    let hooks = stage.serve()?;
    let (mut a, mut b) = (stage.puppet("a")?, stage.puppet("b")?);
    let local = {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        free.local_addr()?
    };
    let from = format!("from s {local} {}", stage.asked());
    for turn in 0..500 {
        let (puppet, app) = if turn % 2 == 0 {
            (&mut a, "a")
        } else {
            (&mut b, "b")
        };
        puppet.go(&from)?;
        // Every other pair is closed before the agent has said anything.
        if turn % 4 < 2 {
            let told = told(puppet, "s")?;
            ensure!(told == expected(stage, app)?, "turn {turn}: {told}");
        }
        puppet.go("reset s")?;
    }
    eventually("no entry is left behind", || Ok(hooks.pending()? == 0))
}

/// connect, disconnect (AF_UNSPEC), connect again: each connect tells its own story, and one that is
/// not intercepted leaves none.
fn a_reused_socket_forgets(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let (port, listen_port) = (stage.asked().port(), stage.settings.listen_port);
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut a = stage.puppet("a")?;
    a.go(&format!("open s 127.0.0.1:{port}"))?;
    ensure!(told(&mut a, "s")? == expected(stage, "a")?);
    a.go("disconnect s")?;
    a.go(&format!("connect s {}", other.local_addr()?))?;
    ensure!(a.go("peer s")? == other.local_addr()?.to_string());
    a.go("disconnect s")?;
    // Straight to the agent's port: what the socket was once is no identity.
    a.is_refused(&format!("connect s 127.0.0.1:{listen_port}"))?;
    ensure!(stage.refused() == 0);
    Ok(())
}
