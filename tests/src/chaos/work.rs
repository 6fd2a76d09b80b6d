//! What clients do, and what each reply must be.
//!
//! Invariant: what is sent is written into the ledger as unknown first; a key that one client writes
//! bears its number and, where the order of two connections would matter, the connection's.

use std::thread;
use std::time::Duration;

use super::client::Client;
use crate::wire::Value;

/// How many accounts a store has, and what each begins with.
pub const ACCOUNTS: usize = 10;
/// See [`ACCOUNTS`].
pub const BALANCE: i64 = 1000;
/// The list that everybody of a store shares.
pub const QUEUE: &str = "queue";
/// Beyond the agent's 68 KiB and 64 KiB: these take a connection of their own.
const LARGE_BYTES: usize = 150_000;
/// Other work shares the machine; the faults do not need more load.
const PAUSE_MS_MAX: u64 = 6;
/// Between a subscriber's looks at whether it shall end.
const LISTEN: Duration = Duration::from_millis(200);

const SCRIPT: &str = "local n = redis.call('INCR', KEYS[1]) \
    redis.call('SET', KEYS[1] .. ':copy', n) return {ARGV[1], n}";

/// Works until the ledger says stop.
pub fn mixture(client: &mut Client, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !client.ledger.is_stopped() {
        if !client.connected() {
            continue;
        }
        match random.u32(0..100) {
            0..30 => register(client, &mut random),
            30..45 => count(client),
            45..58 => push(client),
            58..70 => pop(client),
            70..82 => transfer(client, &mut random),
            82..88 => sum(client),
            88..94 => script(client),
            94..98 => publish(client),
            98 => large(client),
            // A new connection now and then, so that none lives as long as the run.
            _ => client.drop_connection(),
        }
        thread::sleep(Duration::from_millis(random.u64(0..PAUSE_MS_MAX)));
    }
    client.drop_connection();
}

/// Empties its store again and again, which must be seen nowhere else.
pub fn emptying(client: &mut Client) {
    while !client.ledger.is_stopped() {
        if !client.connected() {
            continue;
        }
        let tag = client.tag();
        // The names that the other stores use, too.
        let key = format!("reg:{}", client.epoch);
        let replies = client.pipeline(&[
            words(&["SET", &key, &tag]),
            words(&["GET", &key]),
            words(&["SET", "acct:0", &tag]),
            words(&["LPUSH", "emptied", &tag]),
        ]);
        expect(
            client,
            "GET",
            replies[1].as_ref(),
            replies[0].is_some(),
            &tag,
        );
        let flushed = client.pipeline(&[words(&["FLUSHDB"])]);
        if flushed[0].is_some() {
            let replies = client.pipeline(&[words(&["GET", &key]), words(&["DBSIZE"])]);
            expect(
                client,
                "GET after FLUSHDB",
                replies[0].as_ref(),
                true,
                "(nil)",
            );
        }
        thread::sleep(Duration::from_millis(PAUSE_MS_MAX));
    }
    client.drop_connection();
}

/// Hears what the store's clients publish: only that, and of each publisher in its order.
pub fn listening(client: &mut Client) {
    let mut heard = std::collections::HashMap::new();
    while !client.ledger.is_stopped() {
        if !client.connected() {
            continue;
        }
        let epoch = client.epoch;
        let done = client.pipeline(&[words(&["SUBSCRIBE", "news"])]);
        let mut connected = done[0].is_some();
        while connected && !client.ledger.is_stopped() {
            if let Some(message) = client.next(LISTEN) {
                let text: Vec<_> = message.items().iter().map(Value::text).collect();
                let tag = text.get(2).map(String::as_str).unwrap_or_default();
                let numbers = numbers_of(tag);
                let after = numbers.and_then(|(who, number)| heard.insert(who, number));
                if text.len() != 3 || text[..2] != ["message", "news"] {
                    client.violation(&format!("a subscriber hears {text:?}"));
                } else if numbers.is_none_or(|(_, number)| after.is_some_and(|last| last >= number))
                {
                    client.violation(&format!("a subscriber hears {tag} after {after:?}"));
                }
                client.ledger.count("messages heard");
                client.ledger.served(client.number);
            }
            connected = client.is_connected() && client.epoch == epoch;
        }
    }
    client.drop_connection();
}

/// A value is read as it was just written; a pipeline, with tags in between.
fn register(client: &mut Client, random: &mut fastrand::Rng) {
    let key = format!("reg:{}:{}", client.number, client.epoch);
    let tags: Vec<_> = (0..random.usize(1..6)).map(|_| client.tag()).collect();
    let requests: Vec<_> = tags
        .iter()
        .flat_map(|tag| {
            [
                words(&["SET", &key, tag]),
                words(&["GET", &key]),
                words(&["ECHO", tag]),
            ]
        })
        .collect();
    let note = |client: &Client, change: &dyn Fn(&mut super::ledger::Register)| {
        change(
            client
                .ledger
                .account(client.store.number)
                .registers
                .entry(key.clone())
                .or_default(),
        );
    };
    note(client, &|register| {
        register.unknown.extend(tags.iter().cloned())
    });
    let replies = client.pipeline(&requests);
    for (tag, three) in tags.iter().zip(replies.chunks(3)) {
        if three[0].is_some() {
            note(client, &|register| {
                let at = register.unknown.iter().position(|unknown| unknown == tag);
                register.unknown.drain(..=at.unwrap_or(0));
                register.acknowledged = Some(tag.clone());
            });
        }
        expect(client, "SET", three[0].as_ref(), true, "OK");
        expect(client, "GET", three[1].as_ref(), three[0].is_some(), tag);
        expect(client, "ECHO", three[2].as_ref(), true, tag);
    }
}

/// Counts, alone on its key, over all its connections.
fn count(client: &mut Client) {
    let key = format!("ctr:{}", client.number);
    counted(client, &key, &words(&["INCR", &key]), |reply| reply.text());
}

/// The same in Lua, with a tag that comes back.
fn script(client: &mut Client) {
    let key = format!("lua:{}", client.number);
    let tag = client.tag();
    let request = words(&["EVAL", SCRIPT, "1", &key, &tag]);
    counted(client, &key, &request, |reply| match reply.items() {
        [echoed, number] if echoed.text() == tag => number.text(),
        _ => format!("{reply} for {tag}"),
    });
}

fn counted(client: &mut Client, key: &str, request: &[String], number: impl Fn(&Value) -> String) {
    let note = |client: &Client, change: &mut dyn FnMut(&mut super::ledger::Counter)| {
        let mut account = client.ledger.account(client.store.number);
        change(account.counters.entry(key.to_owned()).or_default());
    };
    note(client, &mut |counter| counter.unknown += 1);
    let replies = client.pipeline(&[request.to_vec()]);
    let Some(reply) = &replies[0] else { return };
    let said = number(reply);
    let mut wrong = None;
    note(client, &mut |counter| {
        counter.unknown -= 1;
        counter.acknowledged += 1;
        let range = counter.acknowledged..=counter.acknowledged + counter.unknown;
        match said.parse() {
            Ok(number) if range.contains(&number) && number > counter.last => counter.last = number,
            _ => wrong = Some(*counter),
        }
    });
    if let Some(counter) = wrong {
        client.violation(&format!("{key} is {said}, but {counter:?}"));
    }
}

fn push(client: &mut Client) {
    let tag = client.tag();
    client
        .ledger
        .account(client.store.number)
        .maybe_pushed
        .insert(tag.clone());
    let replies = client.pipeline(&[words(&["LPUSH", QUEUE, &tag])]);
    match &replies[0] {
        Some(Value::Int(1..)) => {
            let mut account = client.ledger.account(client.store.number);
            account.maybe_pushed.remove(&tag);
            account.pushed.insert(tag);
        }
        Some(other) => client.violation(&format!("LPUSH is answered with {other}")),
        None => {}
    }
}

fn pop(client: &mut Client) {
    client.ledger.account(client.store.number).unknown_pops += 1;
    let replies = client.pipeline(&[words(&["BRPOP", QUEUE, "0.2"])]);
    let Some(reply) = &replies[0] else { return };
    let mut account = client.ledger.account(client.store.number);
    account.unknown_pops -= 1;
    let wrong = match reply {
        Value::Nil => None,
        Value::Array(items) if items.len() == 2 && items[0].text() == QUEUE => {
            let tag = items[1].text();
            let known = account.pushed.contains(&tag) || account.maybe_pushed.contains(&tag);
            match (known, account.popped.insert(tag.clone())) {
                (true, true) => None,
                (false, _) => Some(format!("BRPOP gives {tag}, which nobody pushed")),
                (_, false) => Some(format!("BRPOP gives {tag} a second time")),
            }
        }
        other => Some(format!("BRPOP is answered with {other}")),
    };
    drop(account);
    if let Some(wrong) = wrong {
        client.violation(&wrong);
    }
}

/// From one account to another: the sum stays whatever happens in between.
fn transfer(client: &mut Client, random: &mut fastrand::Rng) {
    let (from, to) = (random.usize(0..ACCOUNTS), random.usize(0..ACCOUNTS));
    let amount = random.u32(1..20).to_string();
    let tag = client.tag();
    let replies = client.pipeline(&[
        words(&["MULTI"]),
        words(&["DECRBY", &format!("acct:{from}"), &amount]),
        words(&["INCRBY", &format!("acct:{to}"), &amount]),
        words(&["ECHO", &tag]),
        words(&["EXEC"]),
    ]);
    if let Some(exec) = &replies[4] {
        let echoed = exec.items().get(2).map(Value::text);
        if replies[..4].iter().all(Option::is_some) && echoed.as_deref() != Some(&tag) {
            client.violation(&format!("EXEC is answered with {exec} for {tag}"));
        }
        client.ledger.count("transfers");
    }
    if replies.iter().any(Option::is_none) {
        // An EXEC that was refused has ended the transaction, a MULTI that was refused began none.
        client.drop_connection();
    }
}

fn sum(client: &mut Client) {
    let mut request = words(&["MGET"]);
    request.extend((0..ACCOUNTS).map(|number| format!("acct:{number}")));
    let replies = client.pipeline(&[request, words(&["KEYS", "acct:*"])]);
    if let Some(all) = &replies[0] {
        let sum: i64 = all
            .items()
            .iter()
            .filter_map(|item| item.text().parse::<i64>().ok())
            .sum();
        if sum != BALANCE * ACCOUNTS as i64 {
            client.violation(&format!("the accounts hold {sum}: {all}"));
        }
    }
    if let Some(names) = &replies[1] {
        let expect: Vec<_> = (0..ACCOUNTS)
            .map(|number| format!("acct:{number}"))
            .collect();
        if names.sorted() != expect {
            client.violation(&format!("KEYS acct:* gives {names}"));
        }
    }
}

fn publish(client: &mut Client) {
    let tag = client.tag();
    client.pipeline(&[words(&["PUBLISH", "news", &tag])]);
}

fn large(client: &mut Client) {
    let tag = client.tag();
    let key = format!("big:{}:{}", client.number, client.epoch);
    let value = tag.repeat(LARGE_BYTES / tag.len());
    let replies = client.pipeline(&[
        words(&["SET", &key, &value]),
        words(&["GET", &key]),
        words(&["ECHO", &tag]),
        words(&["UNLINK", &key]),
    ]);
    expect(
        client,
        "GET (large)",
        replies[1].as_ref(),
        replies[0].is_some(),
        &value,
    );
    expect(client, "ECHO", replies[2].as_ref(), true, &tag);
}

/// A reply that came must be this one, if what it depends on was done.
fn expect(client: &Client, what: &str, reply: Option<&Value>, done: bool, wanted: &str) {
    if let Some(reply) = reply.map(Value::text)
        && done
        && reply != wanted
    {
        let start = |text: &str| text.chars().take(60).collect::<String>();
        client.violation(&format!(
            "{what} gives {}, not {}",
            start(&reply),
            start(wanted)
        ));
    }
}

/// Client and sequence number of `<A.3.17>`.
fn numbers_of(tag: &str) -> Option<(usize, u64)> {
    let mut parts = tag.trim_matches(['<', '>']).split('.').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
