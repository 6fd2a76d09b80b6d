//! A store's clients look at each other, end each other and watch each other, and nobody else's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side};
use crate::scenario;
use crate::smoke::check;
use crate::wire::Wire;

const SILENCE: Duration = Duration::from_millis(150);
const SECONDS_MAX: Duration = Duration::from_secs(10);

/// Fields that a private server has otherwise: addresses, buffers, descriptors, times.
const OWN_FIELDS: &[&str] = &[
    "id",
    "addr",
    "laddr",
    "fd",
    "age",
    "idle",
    "qbuf",
    "qbuf-free",
    "argv-mem",
    "multi-mem",
    "rbs",
    "rbp",
    "obl",
    "oll",
    "omem",
    "tot-mem",
    "tot-net-in",
    "tot-net-out",
    "tot-cmds",
];

/// Kill, unblock, pause: as on a private server.
pub fn conversations(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("clients.txt"))?;
    let lines = |side| described(pair, side);
    let (valkey, store) = (lines(Side::Private)?, lines(Side::Store)?);
    ensure!(valkey == store, "Valkey:\n{valkey:#?}\nstore:\n{store:#?}");
    Ok(())
}

/// MONITOR shows the same on both sides.
pub fn monitors(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("monitor.txt"))?;
    // A request that does not fit the agent's buffer is shown by its beginning.
    let mut monitor = pair.connect(Side::Store)?;
    check(&mut monitor, "MONITOR", "OK")?;
    let mut wire = pair.connect(Side::Store)?;
    let value = "v".repeat(200_000);
    wire.command(&["SET", "big", &value])?;
    let line = monitor.read()?.text();
    ensure!(
        line.ends_with("\"SET\" \"big\" \"... (200000 more bytes)\""),
        "{line}"
    );
    wire.command(&["GET", "big"])?;
    ensure!(monitor.read()?.text().ends_with("\"GET\" \"big\""), "GET");
    Ok(())
}

/// What CLIENT LIST says of clients in all kinds of states.
fn described(pair: &Pair, side: Side) -> Result<Vec<Vec<String>>> {
    pair.empty(side)?;
    let mut all = Vec::new();
    let mut client = |name: &str, lines: &[&str]| -> Result<()> {
        let mut wire = pair.connect(side)?;
        wire.command(&["CLIENT", "SETNAME", name])?;
        for line in lines {
            let args: Vec<&str> = line.split(' ').collect();
            match line.strip_prefix("BLPOP") {
                Some(_) => wire.send(&args)?,
                None => drop(wire.command(&args)?),
            }
        }
        all.push(wire);
        Ok(())
    };
    client("fresh", &[])?;
    client(
        "multi",
        &["WATCH k", "WATCH z", "MULTI", "SET k 1", "GET k"],
    )?;
    client("subscriber", &["SUBSCRIBE x y", "PSUBSCRIBE *"])?;
    client("shards", &["SSUBSCRIBE x"])?;
    client("tracking", &["HELLO 3", "CLIENT TRACKING on BCAST"])?;
    client(
        "untouched",
        &["CLIENT NO-TOUCH on", "CLIENT NO-EVICT on", "SELECT 3"],
    )?;
    client(
        "library",
        &[
            "CLIENT SETINFO LIB-NAME lib",
            "CLIENT SETINFO LIB-VER 1",
            "AUTH default x",
        ],
    )?;
    client("capable", &["CLIENT CAPA redirect", "READONLY"])?;
    client("blocked", &["BLPOP none 0"])?;
    client("monitor", &["MONITOR"])?;
    let mut asker = pair.connect(side)?;
    let list = std::cell::RefCell::new(String::new());
    wait_until(SECONDS_MAX, || {
        let text = asker.command(&["CLIENT", "LIST"])?.text();
        let ready = text.contains("flags=b ");
        *list.borrow_mut() = text;
        Ok(ready)
    })?;
    let list = list.into_inner();
    ensure!(!pair.leaks(list.as_bytes()), "{list}");
    let line = |line: &str| -> Vec<String> {
        let field = |field: &str| -> String {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let own = OWN_FIELDS.contains(&name);
            format!("{name}={}", if own { "..." } else { value })
        };
        line.split(' ').map(field).collect()
    };
    let mut lines: Vec<Vec<String>> = list
        .lines()
        .map(line)
        .filter(|line| line.len() > 1)
        .collect();
    lines.sort();
    Ok(lines)
}

/// A monitoring client that does not read is disconnected, and the agent stays small.
pub fn slow_monitors(pair: &Pair) -> Result<()> {
    let mut monitor = pair.connect(Side::Store)?;
    check(&mut monitor, "MONITOR", "OK")?;
    let mut wire = pair.connect(Side::Store)?;
    let value = "v".repeat(32 * 1024);
    pair.with_bounded_memory(|| {
        for _ in 0..40 {
            for _ in 0..50 {
                wire.send(&["SET", "k", &value])?;
            }
            for _ in 0..50 {
                wire.read()?;
            }
        }
        Ok(())
    })?;
    let clients = wire.command(&["CLIENT", "LIST"])?.text();
    ensure!(!clients.contains("flags=O"), "it still monitors: {clients}");
    check(&mut wire, "PING", "PONG")
}

/// A neighbour with the same names is neither listed nor killed, paused, unblocked or shown.
pub fn apart(pair: &Pair) -> Result<()> {
    let mut ours = pair.connect(Side::Store)?;
    let mut theirs = pair.bed.connect("app2")?;
    let mut blocked = pair.bed.connect("app2")?;
    let mut subscriber = pair.bed.connect("app2")?;
    let mut spy = pair.connect(Side::Store)?;
    check(&mut spy, "MONITOR", "OK")?;
    for wire in [&mut theirs, &mut blocked, &mut subscriber] {
        check(wire, "CLIENT SETNAME theirs", "OK")?;
    }
    let id = blocked.command(&["CLIENT", "ID"])?.text();
    check(&mut subscriber, "SUBSCRIBE news", "[subscribe, news, 1]")?;
    blocked.send(&["BLPOP", "list", "0"])?;
    wait_until(SECONDS_MAX, || {
        let list = theirs.command(&["CLIENT", "LIST"])?.text();
        Ok(list.contains("flags=b "))
    })?;
    let list = ours.command(&["CLIENT", "LIST"])?.text();
    ensure!(
        !list.contains("theirs") && list.lines().count() == 2,
        "{list}"
    );
    let address = blocked.stream().local_addr()?.to_string();
    for line in [
        format!("CLIENT KILL {address}"),
        format!("CLIENT KILL ADDR {address}"),
        format!(
            "CLIENT UNBLOCK {}",
            id.parse::<u64>().context("an id")? + 100
        ),
        "CLIENT KILL TYPE pubsub".to_owned(),
        "CLIENT KILL USER default".to_owned(),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let said = ours.command(&args)?.text();
        ensure!(
            said == "0" || said.starts_with("-ERR No such") || said == "1",
            "{line}: {said}"
        );
    }
    // The last of them has ended only the spy, which has seen nothing of theirs.
    ensure!(spy.read_to_end()?.is_empty(), "the spy has seen something");
    // Numbers of others are numbers of one's own, or of nobody.
    for number in 1..40 {
        let said = ours.command(&["CLIENT", "UNBLOCK", &number.to_string(), "ERROR"])?;
        ensure!(said.text() == "0", "CLIENT UNBLOCK {number}: {said}");
    }
    ensure!(blocked.is_silent_for(SILENCE)?, "theirs was unblocked");
    check(&mut ours, "CLIENT PAUSE 60000", "OK")?;
    check(&mut theirs, "SET k 1", "OK")?;
    check(&mut theirs, "PUBLISH news x", "1")?;
    ensure!(
        subscriber.read()?.to_string() == "[message, news, x]",
        "message"
    );
    check(&mut theirs, "CLIENT UNPAUSE", "OK")?;
    ours.send(&["PING"])?;
    ensure!(ours.is_silent_for(SILENCE)?, "another's UNPAUSE was heard");
    check(&mut theirs, "RPUSH list 1", "1")?;
    ensure!(
        blocked.read()?.to_string() == "[list, 1]",
        "theirs still waits"
    );
    Ok(())
}

/// Whom the server has blocked can be unblocked, however fresh that is.
pub fn unblocked(pair: &Pair) -> Result<()> {
    const TIMES: usize = 300;
    let mut operator = pair.operator(Side::Store)?;
    let (mut waiting, mut other) = (pair.connect(Side::Store)?, pair.connect(Side::Store)?);
    let id = waiting.command(&["CLIENT", "ID"])?.text();
    for time in 0..TIMES {
        waiting.send(&["WAIT", "1", "0"])?;
        wait_until(SECONDS_MAX, || {
            let info = operator.command(&["INFO", "clients"])?.text();
            Ok(info.contains("blocked_clients:1\r\n"))
        })?;
        let ended = other.command(&["CLIENT", "UNBLOCK", &id])?.text();
        ensure!(ended == "1", "time {time}: {ended} unblocked");
        let replicas = waiting.read()?.text();
        ensure!(replicas == "0", "time {time}: WAIT said {replicas}");
    }
    Ok(())
}

/// With more clients than workers, so that some pairs are served by two: each is killed, unblocked, held
/// back and heard by each other.
pub fn many(pair: &Pair) -> Result<()> {
    const CLIENTS: usize = 12;
    let connect = || -> Result<Vec<(String, Wire)>> {
        let client = |_| -> Result<(String, Wire)> {
            let mut wire = pair.connect(Side::Store)?;
            Ok((wire.command(&["CLIENT", "ID"])?.text(), wire))
        };
        (0..CLIENTS).map(client).collect()
    };
    let mut clients = connect()?;
    let mut monitor = pair.connect(Side::Store)?;
    check(&mut monitor, "MONITOR", "OK")?;
    for (id, wire) in &mut clients {
        wire.command(&["ECHO", id])?;
        let line = monitor.read()?.text();
        ensure!(line.ends_with(&format!("\"ECHO\" \"{id}\"")), "{line}");
    }
    drop(monitor);
    for blocker in 0..CLIENTS {
        let id = clients[blocker].0.clone();
        clients[blocker].1.send(&["BLPOP", "nothing", "0"])?;
        let other = &mut clients[(blocker + 1) % CLIENTS].1;
        wait_until(SECONDS_MAX, || {
            Ok(other.command(&["CLIENT", "UNBLOCK", &id])?.text() == "1")
        })?;
        let said = clients[blocker].1.read()?.to_string();
        ensure!(said == "(nil)", "unblocked with {said}");
    }
    check(&mut clients[0].1, "CLIENT PAUSE 60000 WRITE", "OK")?;
    for (_, wire) in &mut clients {
        wire.send(&["INCR", "count"])?;
    }
    let mut other = pair.connect(Side::Store)?;
    ensure!(clients[3].1.is_silent_for(SILENCE)?, "held back");
    check(&mut other, "GET count", "(nil)")?;
    check(&mut other, "CLIENT UNPAUSE", "OK")?;
    for (_, wire) in &mut clients {
        wire.read()?;
    }
    check(&mut other, "GET count", &CLIENTS.to_string())?;
    // It ends when it should, not when the agent happens to look, once a second.
    let start = Instant::now();
    for _ in 0..3 {
        check(&mut other, "CLIENT PAUSE 50", "OK")?;
        check(&mut other, "PING", "PONG")?;
    }
    let taken = start.elapsed();
    ensure!(taken >= Duration::from_millis(147), "paused for {taken:?}");
    ensure!(taken < Duration::from_millis(1500), "paused for {taken:?}");
    let said = other
        .command(&["CLIENT", "KILL", "USER", "default"])?
        .text();
    ensure!(said == CLIENTS.to_string(), "killed {said}");
    for (_, wire) in &mut clients {
        ensure!(wire.read_to_end()?.is_empty(), "closed");
    }
    let list = other.command(&["CLIENT", "LIST"])?.text();
    ensure!(list.lines().count() == 1, "{list}");
    Ok(())
}
