//! Stores that come and go, and how a connection proves which one it may have.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use flect_agent::registry::Limits;
use flect_agent::resp::Protocol;
use flect_agent::worker::Message;

use super::node::{self, Node, app, record};
use super::{ended, said};
use crate::bed::agent::wait_until;
use crate::smoke::check;
use crate::wire::{Wire, encode};

/// A store is served from the moment that the workers know of it.
pub fn added(node: &mut Node) -> Result<()> {
    let store = node.make("shop")?;
    let app = app(&[&store]);
    let mut early = node.connect(&app)?;
    let got = early.read()?.text();
    ensure!(got.starts_with("-WRONGPASS"), "before it is known: {got}");
    ended(&mut early)?;
    node.tell(|| Message::Store(store.clone()));
    for worker in 0..node.workers.len() {
        let mut wire = node.connect_to(worker, &app, |_| {})?;
        check(&mut wire, "SET k v", "OK")?;
        check(&mut wire, "GET k", "v")?;
    }
    // Again is no other store.
    node.tell(|| Message::Store(store.clone()));
    let mut wire = node.connect(&app)?;
    check(&mut wire, "GET k", "v")
}

/// Every session of a retired store ends, whatever it waits for, and nothing of it is left; the app's
/// other store goes on.
pub fn retired(node: &mut Node) -> Result<()> {
    let gone = node.store("gone")?;
    let stays = node.store("stays")?;
    let both = app(&[&stays, &gone]);
    let mut idle = node.connect(&app(&[&gone]))?;
    check(&mut idle, "SET k v", "OK")?;
    let mut blocked = node.connect(&app(&[&gone]))?;
    blocked.send(&["BLPOP", "list", "0"])?;
    let mut subscribed = node.connect_to(1, &app(&[&gone]), |_| {})?;
    check(&mut subscribed, "SUBSCRIBE news", "[subscribe, news, 1]")?;
    let mut queueing = node.connect(&app(&[&gone]))?;
    check(&mut queueing, "MULTI", "OK")?;
    check(&mut queueing, "SET k w", "QUEUED")?;
    let mut chosen = node.connect(&both)?;
    check(&mut chosen, "SET k stays", "OK")?;
    check(&mut chosen, "AUTH gone any", "OK")?;
    check(&mut chosen, "GET k", "v")?;
    let mut scanning = node.connect(&app(&[&gone]))?;
    let keys: Vec<u8> = (0..2000).flat_map(|_| encode(&["KEYS", "*"])).collect();
    scanning.send_raw(&keys)?;
    let mut other = node.connect(&both)?;
    check(&mut other, "GET k", "stays")?;

    gone.retire();
    node.tell(|| Message::Retire(gone.clone()));
    for wire in [
        &mut idle,
        &mut blocked,
        &mut subscribed,
        &mut queueing,
        &mut chosen,
        &mut scanning,
    ] {
        ended(wire)?;
    }
    check(&mut other, "GET k", "stays")?;
    ensure!(
        said(&mut other, "AUTH gone any")?.starts_with("-WRONGPASS"),
        "AUTH"
    );
    ensure!(
        said(&mut other, "HELLO 3 AUTH gone any")?.starts_with("-WRONGPASS"),
        "HELLO"
    );
    check(&mut other, "GET k", "stays")?;
    let mut late = node.connect(&app(&[&gone]))?;
    ensure!(
        late.read()?.text().starts_with("-WRONGPASS"),
        "a new connection"
    );
    ended(&mut late)?;
    ensure!(gone.sessions() == 0, "{} sessions", gone.sessions());
    // Nothing of it is connected any more; one connection of the other store is.
    let mut operator = node.bed.operator()?;
    wait_until(node::PATIENCE, || {
        let clients = operator.command(&["CLIENT", "LIST"])?.text();
        Ok(!clients.contains(&gone.credentials.user))
    })?;

    // The same name is another store.
    let again = node.store("gone")?;
    ensure!(again.number != gone.number, "a number was used twice");
    let mut wire = node.connect(&app(&[&again]))?;
    check(&mut wire, "SET k again", "OK")?;
    // A store that was retired once does not come back.
    node.tell(|| Message::Store(gone.clone()));
    let mut late = node.connect(&app(&[&gone]))?;
    ensure!(late.read()?.text().starts_with("-WRONGPASS"), "after all");
    Ok(())
}

/// Replies that come after a store's end reach nobody: sessions of the other store get their own.
pub fn late(node: &mut Node) -> Result<()> {
    let stays = node.store("stays")?;
    let mut other = node.connect(&app(&[&stays]))?;
    for round in 0..20 {
        let gone = node.store(&format!("gone{round}"))?;
        let mut wires: Vec<Wire> = (0..4)
            .map(|_| node.connect(&app(&[&gone])))
            .collect::<Result<_>>()?;
        for wire in &mut wires {
            let burst: Vec<u8> = (0..200)
                .flat_map(|_| [encode(&["INCR", "n"]), encode(&["DBSIZE"])].concat())
                .collect();
            wire.send_raw(&burst)?;
        }
        for number in 0..100 {
            other.send(&["ECHO", &number.to_string()])?;
        }
        node.tell(|| Message::Retire(gone.clone()));
        for number in 0..100 {
            let got = other.read()?.text();
            ensure!(got == number.to_string(), "{got} instead of {number}");
        }
        for wire in &mut wires {
            ended(wire)?;
        }
    }
    Ok(())
}

/// Where a store has a token, whoever sends a password must send this one.
pub fn tokens(node: &mut Node) -> Result<()> {
    let open = node.store("open")?;
    let kept = node.store("kept")?;
    kept.follow(&record(&kept, Limits::default(), Some("secret")));
    let mut wire = node.connect(&app(&[&open, &kept]))?;
    check(&mut wire, "SET k open", "OK")?;
    for line in [
        "AUTH kept wrong",
        "AUTH kept kept",
        "HELLO 3 AUTH kept Secret",
    ] {
        let got = said(&mut wire, line)?;
        let text = "-WRONGPASS invalid username-password pair or user is disabled.";
        ensure!(got == text, "{line}: {got}");
        check(&mut wire, "GET k", "open")?;
    }
    check(&mut wire, "AUTH kept secret", "OK")?;
    check(&mut wire, "SET k kept", "OK")?;
    check(&mut wire, "AUTH open anything", "OK")?;
    check(&mut wire, "GET k", "open")?;
    wire.command(&["HELLO", "3", "AUTH", "kept", "secret"])?;
    check(&mut wire, "GET k", "kept")?;
    // The default store: without a password the cgroup is the proof.
    let mut wire = node.connect(&app(&[&kept]))?;
    check(&mut wire, "GET k", "kept")?;
    for line in ["AUTH wrong", "AUTH default wrong"] {
        ensure!(said(&mut wire, line)?.starts_with("-WRONGPASS"), "{line}");
    }
    check(&mut wire, "AUTH secret", "OK")?;
    // A token that is taken away is not asked for.
    kept.follow(&record(&kept, Limits::default(), None));
    check(&mut wire, "AUTH wrong", "OK")
}

/// A connection whose login was read before, over a socket that is none of TCP's.
pub fn early(node: &mut Node) -> Result<()> {
    let first = node.store("first")?;
    let second = node.store("second")?;
    let app = app(&[&first, &second]);
    let mut plain = node.connect(&app)?;
    check(&mut plain, "SET k one", "OK")?;
    let mut wire = node.connect_to(1, &app, |accepted| {
        accepted.user = b"second".to_vec();
        accepted.protocol = Protocol::Resp3;
        let mut bytes = encode(&["SET", "k", "two"]);
        bytes.extend(encode(&["HGETALL", "none"]));
        bytes.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
        accepted.early = bytes;
    })?;
    ensure!(wire.read()?.text() == "OK", "SET");
    ensure!(wire.read_bytes()? == b"%0\r\n", "no RESP3");
    wire.send_raw(b"$1\r\nk\r\n")?;
    ensure!(wire.read()?.text() == "two", "GET");
    check(&mut wire, "ACL WHOAMI", "second")?;
    check(&mut plain, "GET k", "one")?;

    let (ours, theirs) = UnixStream::pair()?;
    let peer = "192.0.2.1:5000".parse()?;
    node.accept(0, &app, OwnedFd::from(theirs).into(), peer, |accepted| {
        accepted.early = encode(&["GET", "k"]);
    })?;
    ours.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reply = [0; 9];
    std::io::Read::read_exact(&mut &ours, &mut reply)?;
    ensure!(reply == *b"$3\r\none\r\n", "{}", reply.escape_ascii());
    let value = vec![b'x'; 1 << 20];
    let mut request = encode(&[b"SET".as_slice(), b"large", &value]);
    request.extend(encode(&["GET", "large"]));
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Write::write_all(&mut &ours, &request));
        let mut reply = vec![0; b"+OK\r\n$1048576\r\n\r\n".len() + value.len()];
        std::io::Read::read_exact(&mut &ours, &mut reply)?;
        ensure!(reply.ends_with(b"xx\r\n"), "the value");
        Ok(())
    })?;
    drop(ours);
    wait_until(node::PATIENCE, || Ok(first.sessions() == 1))
}
