//! That there is no way around.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Body;
use super::identity::{expected, told};
use super::puppet::eventually;
use super::stage::{PATIENCE, Stage};

pub(super) const BODIES: [(&str, Body); 8] = [
    (
        "the_agents_port_asked_directly",
        the_agents_port_asked_directly,
    ),
    ("the_agents_port_is_taken", the_agents_port_is_taken),
    ("refused_while_no_agent_runs", refused_while_no_agent_runs),
    (
        "a_connection_older_than_the_hooks",
        a_connection_older_than_the_hooks,
    ),
    (
        "a_socket_older_than_the_hooks",
        a_socket_older_than_the_hooks,
    ),
    ("raw_packets_do_not_leave", raw_packets_do_not_leave),
    ("multipath_is_refused", multipath_is_refused),
    ("others_are_left_alone", others_are_left_alone),
];

/// By an app the hook refuses it; by a process that is not managed the agent does, with a reset.
fn the_agents_port_asked_directly(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let port = stage.settings.listen_port;
    let (mut a, mut outsider) = (stage.puppet("a")?, stage.outsider()?);
    for (turn, address) in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
        .into_iter()
        .enumerate()
    {
        a.is_refused(&format!("open s {address}:{port}"))?;
        // The reset may come while connect has not returned yet.
        let mut answer = outsider.try_go(&format!("open s {address}:{port}"))?;
        if answer.is_ok() {
            answer = outsider.try_go("read s")?;
        }
        ensure!(
            answer
                .as_ref()
                .is_err_and(|error| error.raw_os_error() == Some(libc::ECONNRESET)),
            "{address}: {answer:?}"
        );
        ensure!(
            stage.refused() == turn + 1,
            "an app came to the agent's port"
        );
    }
    Ok(())
}

fn the_agents_port_is_taken(stage: &mut Stage) -> Result<()> {
    let hooks = stage.serve()?;
    let port = stage.settings.listen_port;
    let mut a = stage.puppet("a")?;
    let mut take_all = |when: &str| -> Result<()> {
        for address in ["127.0.0.1", "0.0.0.0", "127.0.0.9", "[::1]", "[::]"] {
            for options in ["", " reuseport"] {
                let answer = a.try_go(&format!("listen l {address}:{port}{options}"))?;
                ensure!(
                    answer.as_ref().is_err_and(|error| matches!(
                        error.raw_os_error(),
                        Some(libc::EADDRINUSE | libc::EPERM)
                    )),
                    "{when}, {address}{options}: {answer:?}"
                );
            }
        }
        a.go("listen l 127.0.0.1:0")?;
        Ok(())
    };
    take_all("with an agent")?;
    drop(hooks);
    take_all("without an agent")
}

/// Pinned hooks without an agent: nobody listens, and nothing passes.
fn refused_while_no_agent_runs(stage: &mut Stage) -> Result<()> {
    drop(stage.attach()?);
    let mut a = stage.puppet("a")?;
    let port = stage.asked().port();
    for address in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let answer = a.try_go(&format!("open s {address}:{port}"))?;
        ensure!(
            answer
                .as_ref()
                .is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED)),
            "{address}: {answer:?}"
        );
    }
    stage.valkey_was_not_reached()
}

fn a_connection_older_than_the_hooks(stage: &mut Stage) -> Result<()> {
    let asked = stage.asked();
    let (mut a, mut outsider) = (stage.puppet("a")?, stage.outsider()?);
    a.go(&format!("open s {asked}"))?;
    let mut theirs = accept(stage)?;
    outsider.go(&format!("open s {asked}"))?;
    let mut unmanaged = accept(stage)?;
    a.go("write s before")?;
    ensure!(read(&mut theirs)? == "before");

    let _hooks = stage.serve()?;
    // Ended at once (this takes the module tcp_diag); held by the guard in any case.
    let _failed = a.try_go("write s after")?;
    // The server learns of it too, so that it does not keep a connection that nobody has.
    theirs.set_read_timeout(Some(PATIENCE))?;
    let got = theirs.read(&mut [0; 1]);
    ensure!(
        got.as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "the shared Valkey got {got:?}"
    );
    let ended = a.try_go("write s again")?;
    ensure!(ended.is_err(), "the app was not told: {ended:?}");
    // Who is not managed is not touched.
    outsider.go("write s after")?;
    ensure!(read(&mut unmanaged)? == "after");
    // The app comes back, through the hooks.
    a.go(&format!("open s {asked}"))?;
    ensure!(told(&mut a, "s")? == expected(stage, "a")?);
    Ok(())
}

/// Nobody knows who made it.
fn a_socket_older_than_the_hooks(stage: &mut Stage) -> Result<()> {
    let asked = stage.asked();
    let mut a = stage.puppet("a")?;
    a.go(&format!("socket s {asked}"))?;
    let _hooks = stage.serve()?;
    a.is_refused(&format!("connect s {asked}"))?;
    a.go(&format!("open t {asked}"))?;
    ensure!(told(&mut a, "t")? == expected(stage, "a")?);
    stage.valkey_was_not_reached()
}

fn raw_packets_do_not_leave(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (mut a, mut outsider) = (stage.puppet("a")?, stage.outsider()?);
    let raw = format!("raw {}", stage.asked());
    let answer = a.try_go(&raw)?;
    ensure!(
        answer
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)),
        "{answer:?}"
    );
    a.go(&format!("raw {}", other.local_addr()?))?;
    outsider.go(&raw)?;
    Ok(())
}

/// Its subflows carry no identity. Kernels without multipath TCP refuse the socket itself.
fn multipath_is_refused(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let mut a = stage.puppet("a")?;
    let answer = a.try_go(&format!("multipath s {}", stage.asked()))?;
    ensure!(answer.is_err(), "{answer:?}");
    stage.valkey_was_not_reached()
}

/// Other ports, other addresses, and processes outside the managed root.
fn others_are_left_alone(stage: &mut Stage) -> Result<()> {
    let _hooks = stage.serve()?;
    let asked = stage.asked();
    let mut outsider = stage.outsider()?;
    outsider.go(&format!("open s {asked}"))?;
    accept(stage)?;
    let mut a = stage.puppet("a")?;
    let elsewhere = std::net::TcpListener::bind(("127.0.0.9", asked.port()))?;
    a.go(&format!("open s {}", elsewhere.local_addr()?))?;
    elsewhere.accept()?;
    // The agent itself.
    let mut own = TcpStream::connect(asked)?;
    own.write_all(b"hello")?;
    ensure!(read(&mut accept(stage)?)? == "hello");
    Ok(())
}

/// Takes the next connection that reaches the shared Valkey.
fn accept(stage: &Stage) -> Result<TcpStream> {
    stage.valkey.set_nonblocking(true)?;
    let mut accepted = None;
    eventually("a connection at the shared Valkey", || {
        accepted = stage.valkey.accept().ok();
        Ok(accepted.is_some())
    })?;
    let (stream, _) = accepted.ok_or_else(|| anyhow::anyhow!("no connection"))?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// What has come; nothing when nothing comes, or only the end.
fn read(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(PATIENCE.min(Duration::from_millis(300))))?;
    let mut buffer = [0; 256];
    let read = stream.read(&mut buffer).unwrap_or(0);
    Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
}
