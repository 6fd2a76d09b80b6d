//! Integrity mode: an app that has been told its prefix and stores it is the one way to make a reply
//! that holds it without breaking a rule.

use anyhow::{Result, ensure};
use flect_agent::metrics::StoreMetrics;

use super::node::{Node, app};
use crate::pair::shown;
use crate::smoke::check;
use crate::wire::Value;

/// What the client gets instead of a reply.
const WITHHELD: &str = "-ERR the agent withheld the reply";

/// What is wholly in hand is exchanged for one error, and the account of replies stays right.
pub fn withheld(node: &mut Node) -> Result<()> {
    let store = node.store("curious")?;
    let app_of = app(&[&store]);
    let mut wire = node.connect(&app_of)?;
    let mut other = node.connect(&app_of)?;
    let (prefix, user) = (store.prefix.to_string(), store.credentials.user.clone());
    let name = format!("{prefix}:x");
    let mut expected = 0;
    for text in [
        name.clone(),
        format!("{prefix}/3:"),
        format!("see {name}"),
        user,
    ] {
        ensure!(wire.command(&["SET", "k", &text])?.text() == "OK", "SET");
        // Between replies of one's own and of another session's on the same connection.
        wire.send_raw(b"PING\r\nGET k\r\nPING\r\nMULTI\r\nGET k\r\nPING\r\nEXEC\r\nECHO b\r\n")?;
        other.send_raw(b"ECHO o\r\nGET k\r\nECHO p\r\n")?;
        for (wire, replies) in [
            (
                &mut wire,
                &[
                    "PONG", WITHHELD, "PONG", "OK", "QUEUED", "QUEUED", WITHHELD, "b",
                ][..],
            ),
            (&mut other, &["o", WITHHELD, "p"]),
        ] {
            for reply in replies {
                let got = wire.read()?.text();
                ensure!(got.starts_with(reply), "{text}: {got} instead of {reply}");
                expected += u64::from(*reply == WITHHELD);
            }
        }
    }
    // Scripts, and a protocol of sets and maps.
    wire.command(&["HELLO", "3"])?;
    let script = "return redis.call('GET', KEYS[1])";
    let reply = wire.command(&["EVAL", script, "1", "k"])?.text();
    ensure!(reply.starts_with(WITHHELD), "EVAL: {reply}");
    wire.command(&["HSET", "h", "f", &name])?;
    let reply = wire.command(&["HGETALL", "h"])?.text();
    ensure!(reply.starts_with(WITHHELD), "HGETALL: {reply}");
    expected += 2;
    // What only resembles a name.
    for text in [
        prefix.clone(),
        format!("{{\"prefix\":\"{prefix}\"}}"),
        node.bed.address().to_string(),
        "{user1}:profile".to_owned(),
    ] {
        let reply = wire.command(&["ECHO", &text])?.text();
        ensure!(reply == text, "{text}: {reply}");
    }
    let counted = StoreMetrics::of(&store).integrity_violations;
    ensure!(
        counted == expected,
        "{counted} counted instead of {expected}"
    );
    check(&mut wire, "PING", "PONG")
}

/// A name anywhere in a large value, also where two reads meet, never arrives; a client that has the
/// beginning of it loses its connection, and nobody else does.
pub fn large(node: &mut Node) -> Result<()> {
    let store = node.store("large")?;
    let app_of = app(&[&store]);
    let mut other = node.connect(&app_of)?;
    let name = format!("{}:secret", store.prefix);
    let reads = worker_read_bytes();
    let places = (reads - 30..reads + 12).chain([3 * reads - 20, 400_000, 999_000]);
    let mut closed = 0;
    for place in places {
        let mut value = vec![b'v'; 1_000_000];
        value[place..place + name.len()].copy_from_slice(name.as_bytes());
        other.command(&[b"SET".as_slice(), b"big", &value])?;
        let mut wire = node.connect(&app_of)?;
        wire.send_raw(b"GET big\r\nECHO behind\r\n")?;
        let (bytes, end) = wire.read_until_silent(std::time::Duration::from_millis(300))?;
        let found = bytes
            .windows(store.prefix.as_str().len())
            .any(|window| window == store.prefix.as_str().as_bytes());
        ensure!(!found, "at {place}: {}", shown(&bytes));
        if end {
            closed += 1;
        } else {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let whole = text.starts_with(WITHHELD) && text.ends_with("$6\r\nbehind\r\n");
            ensure!(whole, "at {place}: {}", shown(&bytes));
        }
        check(&mut other, "ECHO unharmed", "unharmed")?;
    }
    ensure!(
        closed > 0,
        "no reply was passed on in part: the test reaches nothing"
    );
    Ok(())
}

/// What one read of a worker takes at most.
const fn worker_read_bytes() -> usize {
    flect_agent::worker::EARLY_BYTES_MAX
}

/// Messages are left out, and what comes behind them is not.
pub fn messages(node: &mut Node) -> Result<()> {
    let store = node.store("messages")?;
    let app_of = app(&[&store]);
    let name = format!("{}:x", store.prefix);
    for protocol in ["2", "3"] {
        let mut listener = node.connect(&app_of)?;
        let mut speaker = node.connect_to(1, &app_of, |_| {})?;
        listener.command(&["HELLO", protocol])?;
        listener.command(&["SUBSCRIBE", "c"])?;
        for text in [name.as_str(), "one", &name, &name, "two"] {
            speaker.command(&["PUBLISH", "c", text])?;
        }
        for text in ["one", "two"] {
            let message = listener.read()?.text();
            ensure!(message == format!("[message, c, {text}]"), "{message}");
        }
    }
    ensure!(
        StoreMetrics::of(&store).integrity_violations == 6,
        "{}",
        StoreMetrics::of(&store).integrity_violations
    );
    Ok(())
}

/// A reply that is read and dropped is nobody's to see.
pub fn muted(node: &mut Node) -> Result<()> {
    let store = node.store("muted")?;
    let app_of = app(&[&store]);
    let mut wire = node.connect(&app_of)?;
    let name = format!("{}:x", store.prefix);
    wire.command(&["SET", "k", &name])?;
    wire.send_raw(b"CLIENT REPLY SKIP\r\nGET k\r\nECHO a\r\n")?;
    let reply = wire.read()?;
    ensure!(reply == Value::Bulk(b"a".to_vec()), "{reply}");
    ensure!(
        StoreMetrics::of(&store).integrity_violations == 0,
        "counted"
    );
    Ok(())
}
