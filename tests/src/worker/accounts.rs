//! Whose reply is whose: what has set other proxies' accounts wrong, and clients and connections that
//! end at any moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::node::{Node, app};
use crate::bed::agent::wait_until;
use crate::smoke::check;
use crate::wire::{Value, Wire, encode};

/// A server may answer a failed AUTH with nothing when replies are pending (redis#15640, valkey#2106), so
/// a login must not travel with others: each request gets one reply, in order.
pub fn failed_login(node: &mut Node) -> Result<()> {
    let store = node.store("login")?;
    let app_of = app(&[&store]);
    let mut wire = node.connect(&app_of)?;
    let mut other = node.connect(&app_of)?;
    for round in 0..50 {
        other.send_raw(&encode(&["ECHO", &format!("o{round}")]))?;
        for (number, login) in [
            "AUTH nosuch wrong",
            "AUTH flect.housekeeper wrong",
            "HELLO 3 AUTH nosuch wrong",
            "HELLO 4",
            "AUTH a b c",
        ]
        .into_iter()
        .enumerate()
        {
            let pipeline = format!("GET none\r\n{login}\r\nECHO {number}\r\n");
            wire.send_raw(pipeline.as_bytes())?;
            ensure!(wire.read()? == Value::Nil, "GET");
            ensure!(matches!(wire.read()?, Value::Error(_)), "{login}");
            ensure!(wire.read()?.text() == number.to_string(), "{login}");
        }
        ensure!(
            other.read()?.text() == format!("o{round}"),
            "the other session"
        );
    }
    Ok(())
}

/// What changes a connection's state, sent behind requests whose replies have not come: MULTI with wrong
/// arities, RESET, HELLO, CLIENT REPLY, overlapping prefixes of CLIENT TRACKING (valkey#3582 answers them
/// twice). Another session's replies on the same server stay its own.
pub fn states(node: &mut Node) -> Result<()> {
    let store = node.store("states")?;
    let app_of = app(&[&store]);
    let mut other = node.connect(&app_of)?;
    let talks: [(&str, &[&str]); 8] = [
        (
            "GET a|MULTI|GET|ECHO|NOSUCH x|SET k v w x|EXEC|ECHO end",
            &[
                "",
                "OK",
                "-ERR",
                "-ERR",
                "-ERR",
                "QUEUED",
                "-EXECABORT",
                "end",
            ],
        ),
        (
            "MULTI|ECHO in|CLIENT REPLY SKIP|ECHO out|EXEC|ECHO end",
            &["OK", "QUEUED"],
        ),
        (
            "ECHO 1|MULTI|ECHO 2|RESET|ECHO 3|EXEC|ECHO end",
            &["1", "OK", "QUEUED", "RESET", "3", "-ERR", "end"],
        ),
        (
            "ECHO 1|HELLO 3|ECHO 2|HELLO 2|ECHO 3|RESET|ECHO end",
            &["1", "", "2", "", "3", "RESET", "end"],
        ),
        (
            "CLIENT REPLY OFF|ECHO 1|GET a|NOSUCH|SUBSCRIBE|CLIENT REPLY ON|ECHO end",
            &["OK", "end"],
        ),
        (
            "CLIENT REPLY SKIP|ECHO 1|ECHO 2|CLIENT REPLY SKIP|CLIENT REPLY SKIP|ECHO 3|ECHO end",
            &["2", "end"],
        ),
        (
            "HELLO 3|CLIENT TRACKING ON BCAST PREFIX a PREFIX ab|ECHO 1|CLIENT TRACKING OFF|ECHO end",
            &["", "-ERR", "1", "OK", "end"],
        ),
        (
            "SUBSCRIBE a b|UNSUBSCRIBE|UNSUBSCRIBE|PING|RESET|ECHO end",
            &["", "", "", "", "", "PONG", "RESET", "end"],
        ),
    ];
    for round in 0..20 {
        for (talk, replies) in talks {
            let mut wire = node.connect(&app_of)?;
            let request = talk.replace('|', "\r\n") + "\r\n";
            wire.send_raw(request.as_bytes())?;
            other.send(&["ECHO", &format!("o{round}")])?;
            for expected in replies {
                let reply = wire.read().with_context(|| talk.to_owned())?.text();
                ensure!(
                    expected.is_empty() || reply.starts_with(expected),
                    "{talk}: {reply} instead of {expected}"
                );
            }
            ensure!(
                other.read()?.text() == format!("o{round}"),
                "{talk}: the other"
            );
        }
    }
    Ok(())
}

/// Clients that go away while their reply is on its way (redis-py#2665), at any point of it: whoever comes
/// next on the connection gets its own.
pub fn cancelled(node: &mut Node) -> Result<()> {
    let store = node.store("cancelled")?;
    let app_of = app(&[&store]);
    let mut other = node.connect(&app_of)?;
    let large = "l".repeat(3_000_000);
    ensure!(
        other.command(&["SET", "large", &large])?.text() == "OK",
        "SET"
    );
    ensure!(other.command(&["SET", "small", "s"])?.text() == "OK", "SET");
    for round in 0..120_u32 {
        let mut leaving = node.connect(&app_of)?;
        let tag = format!("tag{round}");
        match round % 8 {
            0 => leaving.send(&["GET", "small"])?,
            1 => leaving.send(&["GET", "large"])?,
            2 => leaving.send_raw(&encode(&["GET", "large"]).repeat(3))?,
            3 => leaving.send_raw(b"MULTI\r\nGET large\r\nGET small\r\nEXEC\r\n")?,
            4 => leaving.send(&["BLPOP", "list", "0"])?,
            5 => leaving.send_raw(b"SUBSCRIBE c d\r\nPING\r\nUNSUBSCRIBE\r\nGET small\r\n")?,
            6 => leaving.send_raw(b"WATCH small\r\nMULTI\r\nSET small s\r\n")?,
            _ => leaving.send_raw(b"CLIENT REPLY OFF\r\nGET large\r\nHELLO 3\r\nGET large\r\n")?,
        }
        if round % 3 == 0 {
            let mut some = [0; 8];
            // Some of the reply, where there is one.
            leaving.set_patience(Duration::from_millis(30))?;
            let _ = leaving.read_exact(&mut some);
        }
        other.send(&["ECHO", &tag])?;
        drop(leaving);
        ensure!(other.read()?.text() == tag, "round {round}: ECHO");
        let mut next = node.connect(&app_of)?;
        next.send_raw(format!("MULTI\r\nECHO {tag}\r\nEXEC\r\nECHO n{tag}\r\n").as_bytes())?;
        for expected in ["OK", "QUEUED", &format!("[{tag}]"), &format!("n{tag}")] {
            let reply = next.read()?.text();
            ensure!(
                reply == *expected,
                "round {round}: {reply} instead of {expected}"
            );
        }
    }
    // The blocked pops of clients that have gone take nothing.
    wait_until(Duration::from_secs(10), || {
        Ok(node.workers.iter().map(|w| w.sessions()).sum::<usize>() == 1)
    })?;
    check(&mut other, "RPUSH list a", "1")?;
    check(&mut other, "LLEN list", "1")
}

/// The operator ends the agent's connection in the middle of a reply that its client has begun to read: the
/// client's connection ends with what it has, a blocked client's with nothing, and nobody else's does.
pub fn killed_midway(node: &mut Node) -> Result<()> {
    let store = node.store("killed")?;
    let app_of = app(&[&store]);
    let user = store.credentials.user.clone();
    let mut other = node.connect_to(1, &app_of, |_| {})?;
    let mut operator = node.bed.operator()?;
    let large = "l".repeat(40_000_000);
    ensure!(
        other.command(&["SET", "large", &large])?.text() == "OK",
        "SET"
    );
    for round in 0..6 {
        let mut reading = node.connect(&app_of)?;
        let mut blocked = node.connect(&app_of)?;
        blocked.send(&["BLPOP", "none", "0"])?;
        reading.send_raw(b"ECHO first\r\nGET large\r\nECHO last\r\n")?;
        ensure!(reading.read()?.text() == "first", "ECHO");
        let mut some = vec![0; 100_000 * round];
        reading.read_exact(&mut some)?;
        let list = operator.command(&["CLIENT", "LIST"])?.text();
        // Those that owe nothing as well: their sessions take others and notice nothing.
        let own = |line: &&str| line.contains(&format!("user={user} "));
        for line in list.lines().filter(own) {
            let id = line
                .strip_prefix("id=")
                .and_then(|rest| rest.split(' ').next());
            operator.command(&["CLIENT", "KILL", "ID", id.context("no id")?])?;
        }
        let (rest, closed) = reading.read_until_silent(Duration::from_secs(2))?;
        ensure!(closed, "round {round}: still open");
        ensure!(
            rest.len() < large.len() && !rest.ends_with(b"last\r\n"),
            "round {round}: {} bytes, nothing was cut off",
            rest.len()
        );
        let (rest, closed) = blocked.read_until_silent(Duration::from_secs(2))?;
        ensure!(closed && rest.is_empty(), "round {round}: the blocked one");
        check(&mut other, &format!("ECHO o{round}"), &format!("o{round}"))?;
        let mut next = node.connect(&app_of)?;
        check(&mut next, "ECHO next", "next")?;
    }
    Ok(())
}

/// Invalidations and messages come between replies and inside pipelines in RESP3.
pub fn pushes(node: &mut Node) -> Result<()> {
    let store = node.store("pushes")?;
    let app_of = app(&[&store]);
    let mut wire = node.connect(&app_of)?;
    let mut writer = node.connect_to(1, &app_of, |_| {})?;
    wire.command(&["HELLO", "3"])?;
    wire.command(&["SUBSCRIBE", "c"])?;
    wire.command(&["CLIENT", "TRACKING", "ON", "BCAST"])?;
    let (rounds, per_round) = (40, 25);
    let (mut messages, mut invalidations) = (0, 0);
    for round in 0..rounds {
        for number in 0..per_round {
            writer.send(&["PUBLISH", "c", &format!("m{round}.{number}")])?;
            writer.send(&["SET", &format!("k{number}"), "v"])?;
            wire.send(&["ECHO", &format!("e{round}.{number}")])?;
        }
        let mut echoes = 0;
        while echoes < per_round {
            match wire.read()? {
                Value::Push(parts) if parts[0].text() == "message" => messages += 1,
                Value::Push(parts) if parts[0].text() == "invalidate" => invalidations += 1,
                Value::Bulk(bytes) => {
                    let expected = format!("e{round}.{echoes}");
                    ensure!(bytes == expected.as_bytes(), "{}", bytes.escape_ascii());
                    echoes += 1;
                }
                other => bail!("{other}"),
            }
        }
        for _ in 0..2 * per_round {
            writer.read()?;
        }
    }
    wire.send(&["ECHO", "end"])?;
    loop {
        match wire.read()? {
            Value::Push(parts) if parts[0].text() == "message" => messages += 1,
            Value::Push(_) => invalidations += 1,
            reply => break ensure!(reply.text() == "end", "{reply}"),
        }
    }
    ensure!(messages == rounds * per_round, "{messages} messages");
    ensure!(invalidations > 0, "no invalidation");
    Ok(())
}

/// How long clients and the operator's kills go on.
const TAGGED_FOR: Duration = Duration::from_secs(4);
/// More kills, and more ended clients than these, are needed to reach anything.
const ENDS_MIN: u64 = 20;

/// Many sessions with tags of their own, clients that leave at random, an operator who ends the agent's
/// connections at random: nobody ever reads another's tag, a neighbour store notices nothing, and all
/// go on when it is over.
pub fn tagged(node: &mut Node) -> Result<()> {
    let store = node.store("tagged")?;
    let calm = node.store("calm")?;
    let (app_of, calm_app) = (app(&[&store]), app(&[&calm]));
    let user = store.credentials.user.clone();
    let stop = AtomicBool::new(false);
    let (replies, ends) = (AtomicU64::new(0), AtomicU64::new(0));
    let connect = |worker| node.connect_to(worker, &app_of, |_| {});
    let mut wires: Vec<Wire> = (0..8).map(|n| connect(n % 2)).collect::<Result<_>>()?;
    let mut neighbour = node.connect(&calm_app)?;
    let mut operator = node.bed.operator()?;
    let mut kills = 0;
    std::thread::scope(|scope| -> Result<()> {
        let talks: Vec<_> = wires
            .drain(..)
            .enumerate()
            .map(|(number, wire)| {
                let (stop, replies, ends) = (&stop, &replies, &ends);
                scope.spawn(move || talk(number, wire, stop, replies, ends))
            })
            .collect();
        let (mut random, start) = (Random(7), Instant::now());
        let mut talks: Vec<Option<_>> = talks.into_iter().map(Some).collect();
        // A busy machine takes longer to reach anything.
        while start.elapsed() < TAGGED_FOR
            || start.elapsed() < 6 * TAGGED_FOR
                && (kills <= ENDS_MIN || ends.load(Ordering::Relaxed) <= ENDS_MIN)
        {
            for (number, slot) in talks.iter_mut().enumerate() {
                if slot
                    .as_ref()
                    .is_some_and(std::thread::ScopedJoinHandle::is_finished)
                {
                    let ended = slot.take().and_then(|talk| talk.join().ok());
                    ended.context("a client panicked")??;
                    let wire = connect(number % 2)?;
                    let (stop, replies, ends) = (&stop, &replies, &ends);
                    *slot = Some(scope.spawn(move || talk(number, wire, stop, replies, ends)));
                }
            }
            if random.below(6) == 0 {
                let list = operator.command(&["CLIENT", "LIST"])?.text();
                let own: Vec<&str> = list
                    .lines()
                    .filter(|line| line.contains(&format!("user={user} ")))
                    .filter_map(|line| line.strip_prefix("id=")?.split(' ').next())
                    .collect();
                if !own.is_empty() {
                    let id = own[random.below(own.len())];
                    operator.command(&["CLIENT", "KILL", "ID", id])?;
                    kills += 1;
                }
            }
            let tag = format!("calm{}", random.below(1 << 20));
            check(&mut neighbour, &format!("ECHO {tag}"), &tag)?;
            std::thread::sleep(Duration::from_millis(3));
        }
        stop.store(true, Ordering::Relaxed);
        for talk in talks.into_iter().flatten() {
            talk.join().ok().context("a client panicked")??;
        }
        Ok(())
    })?;
    let (replies, ends) = (replies.into_inner(), ends.into_inner());
    ensure!(
        kills > ENDS_MIN && ends > ENDS_MIN,
        "{kills} kills, {ends} ends: the test reaches nothing"
    );
    ensure!(replies > 1000, "only {replies} replies");
    for worker in 0..node.workers.len() {
        let mut wire = node.connect_to(worker, &app_of, |_| {})?;
        check(&mut wire, "ECHO after", "after")?;
    }
    Ok(())
}

/// One client: every reply bears its tag, until it leaves or its connection ends.
fn talk(
    number: usize,
    mut wire: Wire,
    stop: &AtomicBool,
    replies: &AtomicU64,
    ends: &AtomicU64,
) -> Result<()> {
    let seed = replies.load(Ordering::Relaxed) + 1;
    let mut random = Random(seed * 1000 + number as u64 + 1);
    let key = format!("key{number}");
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let tag = format!("t{number}.{round}.{}", "x".repeat(random.below(3) * 20_000));
        let (requests, expected): (Vec<u8>, Vec<String>) = match random.below(5) {
            0 => (encode(&["ECHO", &tag]), vec![tag.clone()]),
            1 => (
                [encode(&["SET", &key, &tag]), encode(&["GET", &key])].concat(),
                vec!["OK".to_owned(), tag.clone()],
            ),
            2 => (
                [
                    encode(&["MULTI"]),
                    encode(&["ECHO", &tag]),
                    encode(&["EXEC"]),
                ]
                .concat(),
                vec!["OK".to_owned(), "QUEUED".to_owned(), format!("[{tag}]")],
            ),
            3 => (
                [
                    encode(&["RPUSH", &format!("l{key}"), &tag]),
                    encode(&["BLPOP", &format!("l{key}"), "1"]),
                ]
                .concat(),
                vec![String::new(), format!("[l{key}, {tag}]")],
            ),
            _ => (
                (0..30)
                    .flat_map(|n| encode(&["ECHO", &format!("{tag}.{n}")]))
                    .collect(),
                (0..30).map(|n| format!("{tag}.{n}")).collect(),
            ),
        };
        if wire.send_raw(&requests).is_err() {
            break;
        }
        let leaves = random.below(25) == 0;
        for (count, expected) in expected.iter().enumerate() {
            if leaves && count == random.below(3) {
                ends.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            let Ok(reply) = wire.read() else {
                ends.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            let text = reply.text();
            let right = expected.is_empty() || text == *expected
                // What was pushed before the connection's end may still be there.
                || text.starts_with(&format!("[l{key}, t{number}."));
            ensure!(right, "client {number} got {}", &text[..text.len().min(60)]);
            replies.fetch_add(1, Ordering::Relaxed);
        }
    }
    ends.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// xorshift64: reproducible, and good enough to choose.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
