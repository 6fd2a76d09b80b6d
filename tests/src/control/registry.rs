//! Every change in the registry reaches every agent, announced or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::client::Client;
use super::second::{Options, Second};
use super::{Body, expect, flect, said, soon};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

/// How long until a measurement has told that a store is full, or that it is not: one pause between two
/// rounds and one between two looks at the result, many times over.
const MEASURED: Duration = Duration::from_secs(60);

pub const BODIES: [(&str, Body); 7] = [
    ("changes_are_followed", || changes_are_followed(true)),
    ("changes_are_followed_unannounced", || {
        changes_are_followed(false)
    }),
    ("a_change_is_read_alone", a_change_is_read_alone),
    ("a_removed_store_ends", a_removed_store_ends),
    (
        "no_store_takes_anothers_place",
        no_store_takes_anothers_place,
    ),
    ("a_memory_limit_is_kept", a_memory_limit_is_kept),
    ("a_store_being_filled_waits", a_store_being_filled_waits),
];

/// The bed's agent connects as a user who may not subscribe: then only polling is left.
fn forbid_subscribing(bed: &Bed) -> Result<()> {
    expect(
        &mut bed.operator()?,
        "ACL SETUSER poller on >secret ~* &* +@all -subscribe -psubscribe",
        "OK",
    )?;
    let password = bed.folder().join("poller.password");
    fs::write(&password, "secret\n")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let text = fs::read_to_string(bed.config_path())?;
    let user = format!("user = \"poller\"\npassword_file = {password:?}");
    fs::write(bed.config_path(), text.replace("user = \"default\"", &user))?;
    Ok(())
}

/// A store is made, limited, renamed and given a token while two agents serve.
fn changes_are_followed(announced: bool) -> Result<()> {
    let bed = Bed::builder().create_stores(false).agent_later().start()?;
    if !announced {
        forbid_subscribing(&bed)?;
    }
    bed.start_agent()?;
    let second = Second::start(&bed, &Options::default())?;
    let check = || -> Result<()> {
        let said_first = said(&mut bed.connect(APP1)?, "PING");
        let expected = "-DENIED store 'store1' does not exist in environment 'default'; \
                        its operator can make it: flect kv create store1";
        ensure!(said_first == expected, "{said_first}");
        let status = flect(&bed, &["status"])?;
        ensure!(status.contains("flect kv create store1"), "{status}");

        flect(&bed, &["kv", "create", "store1"])?;
        soon("the new store", || {
            Ok(said(&mut bed.connect(APP1)?, "PING") == "PONG")
        })?;
        let mut session = bed.connect(APP1)?;
        expect(&mut session, "SET a 1", "OK")?;

        flect(&bed, &["kv", "set", "store1", "--max-connections", "1"])?;
        soon("the limit", || {
            let second = bed
                .connect(APP1)?
                .read_until_silent(Duration::from_millis(20))?;
            Ok(second.0.starts_with(b"-ERR max number of clients"))
        })?;
        flect(&bed, &["kv", "set", "store1", "--max-connections", "none"])?;
        soon("no limit", || {
            Ok(said(&mut bed.connect(APP1)?, "PING") == "PONG")
        })?;

        let token = flect(&bed, &["kv", "token", "store1", "--new"])?;
        soon("the token at the second agent", || {
            Ok(said(&mut second.connect()?, &format!("AUTH store1 {token}")) == "OK")
        })?;
        soon("the token at the first agent", || {
            Ok(said(&mut bed.connect(APP1)?, "AUTH store1 wrong").starts_with("-WRONGPASS"))
        })?;
        let mut far = second.connect()?;
        expect(&mut far, &format!("AUTH store1 {token}"), "OK")?;
        expect(&mut far, "GET a", "1")?;

        let prefix = bed.prefix("store1")?;
        flect(&bed, &["kv", "rename", "store1", "cache"])?;
        soon("the new name", || {
            Ok(bed.prefix("cache").is_ok_and(|renamed| renamed == prefix))
        })?;
        soon("the new name at the second agent", || {
            Ok(said(&mut second.connect()?, &format!("AUTH cache {token}")) == "OK")
        })?;
        // Sessions stay, and the name in the configuration still leads there.
        expect(&mut session, "GET a", "1")?;
        expect(&mut far, "GET a", "1")?;
        expect(&mut bed.connect(APP1)?, "GET a", "1")?;
        expect(
            &mut second.connect()?,
            &format!("AUTH store1 {token}"),
            "OK",
        )?;

        let other = flect(&bed, &["kv", "token", "cache", "--new"])?;
        soon("another token", || {
            let old = said(&mut second.connect()?, &format!("AUTH cache {token}"));
            let new = said(&mut second.connect()?, &format!("AUTH cache {other}"));
            Ok(old.starts_with("-WRONGPASS") && new == "OK")
        })?;
        flect(&bed, &["kv", "token", "cache", "--remove"])?;
        soon("no token", || {
            let new = said(&mut second.connect()?, &format!("AUTH cache {other}"));
            Ok(new.starts_with("-WRONGPASS"))
        })?;
        expect(&mut session, "GET a", "1")?;
        let warned = bed.agent_log().contains("are not announced");
        ensure!(warned != announced, "announced: {announced}");
        Ok(())
    };
    check().with_context(|| logs(&bed, &second))
}

/// One record's change has no agent read all records, and where the log has a gap they do.
fn a_change_is_read_alone() -> Result<()> {
    let bed = Bed::builder().stores(2).start()?;
    let second = Second::start(&bed, &Options::default())?;
    let token = flect(&bed, &["kv", "token", "store1", "--new"])?;
    let login = format!("AUTH store1 {token}");
    soon("the token", || {
        Ok(said(&mut second.connect()?, &login) == "OK")
    })?;
    let mut operator = bed.operator()?;
    let set = |events: &str| -> Result<()> {
        let mut session = bed.connect(APP1)?;
        expect(
            &mut session,
            &format!("CONFIG SET notify-keyspace-events {events}"),
            "OK",
        )?;
        soon("the other agent's setting", || {
            let mut session = second.connect()?;
            expect(&mut session, &login, "OK")?;
            let told = said(&mut session, "CONFIG GET notify-keyspace-events");
            Ok(told.contains(events))
        })
    };
    // How often somebody reads all records while this is done.
    let read = |work: &dyn Fn() -> Result<()>| -> Result<usize> {
        let mut watching = bed.operator()?;
        expect(&mut watching, "MONITOR", "OK")?;
        work()?;
        expect(&mut bed.operator()?, "ECHO the-end", "the-end")?;
        let mut count = 0;
        loop {
            let line = watching.read()?.text();
            count += usize::from(line.ends_with(r#""HGETALL" "flect:{registry}:stores""#));
            if line.ends_with(r#""the-end""#) {
                return Ok(count);
            }
        }
    };
    // From the last change on that the log does not have: `flect kv token` is one that it has.
    let alone = read(&|| set("xKE"))?;
    ensure!(alone == 0, "all records were read {alone} times");
    expect(&mut operator, "DEL flect:{registry}:log", "1")?;
    let all = read(&|| set("gKE"))?;
    ensure!(all >= 2, "all records were read {all} times");
    Ok(())
}

fn logs(bed: &Bed, second: &Second) -> String {
    format!(
        "the agent's log:\n{}\nthe second agent's log:\n{}",
        bed.agent_log(),
        second.log()
    )
}

/// Takes a store out of the registry, as `flect kv rm` does at first.
fn remove(operator: &mut Wire, slug: &str, prefix: &str) -> Result<()> {
    let removal = format!("{{\"slug\":\"{slug}\",\"prefix\":\"{prefix}\",\"removed_at\":1}}");
    expect(operator, "MULTI", "OK")?;
    expect(
        operator,
        &format!("HDEL flect:{{registry}}:stores {slug}"),
        "QUEUED",
    )?;
    expect(
        operator,
        &format!("HSET flect:{{registry}}:removed {prefix} {removal}"),
        "QUEUED",
    )?;
    expect(
        operator,
        "HINCRBY flect:{registry}:meta version 1",
        "QUEUED",
    )?;
    expect(operator, "PUBLISH flect:{registry}:changes 0", "QUEUED")?;
    expect(operator, "EXEC", "")
}

fn a_removed_store_ends() -> Result<()> {
    let bed = Bed::builder().stores(2).start()?;
    let second = Second::start(&bed, &Options::default())?;
    let token = flect(&bed, &["kv", "token", "store1", "--new"])?;
    let login = format!("AUTH store1 {token}");
    soon("the token", || {
        Ok(said(&mut second.connect()?, &login) == "OK")
    })?;
    let mut operator = bed.operator()?;
    let (mut near, mut far) = (bed.connect(APP1)?, second.connect()?);
    expect(&mut far, &login, "OK")?;
    let mut moved = bed.connect(APP1)?;
    expect(&mut moved, "AUTH store2 any", "OK")?;
    expect(&mut moved, "SET b 2", "OK")?;
    expect(&mut near, "SET a 1", "OK")?;
    expect(&mut far, "GET a", "1")?;
    let prefix = bed.prefix("store1")?;
    let user = format!("flect.{}", prefix.trim_matches(['{', '}']));

    remove(&mut operator, "store1", &prefix)?;
    soon("the end of sessions", || {
        let ended = |wire: &mut Wire| -> Result<bool> {
            Ok(wire.read_until_silent(Duration::from_millis(10))?.1)
        };
        Ok(ended(&mut near)? && ended(&mut far)?)
    })?;
    let denied = said(&mut bed.connect(APP1)?, "PING");
    ensure!(denied.starts_with("-DENIED store 'store1'"), "{denied}");
    expect(&mut second.connect()?, &login, "-WRONGPASS")?;
    soon("the end of users", || {
        let users = said(&mut operator, "ACL LIST");
        Ok(!users.contains(&user))
    })?;
    // The app's other store is not touched, and the removed one's keys are somebody else's business.
    expect(&mut moved, "GET b", "2")?;
    expect(&mut operator, &format!("GET {prefix}:a"), "1")?;

    // A new store of the same name is another store.
    flect(&bed, &["kv", "create", "store1"])?;
    soon("the new store", || {
        Ok(said(&mut bed.connect(APP1)?, "GET a") == "(nil)")
    })?;
    // Nobody brings the users of the old one back.
    thread::sleep(Duration::from_secs(1));
    let users = said(&mut operator, "ACL LIST");
    ensure!(!users.contains(&user), "{users}");
    Ok(())
}

/// An app whose default store is missing does not get another one instead.
fn no_store_takes_anothers_place() -> Result<()> {
    let bed = Bed::builder().stores(2).create_stores(false).start()?;
    flect(&bed, &["kv", "create", "store2"])?;
    let mut named = bed.connect(APP1)?;
    soon("store2", || {
        named = bed.connect(APP1)?;
        Ok(said(&mut named, "AUTH store2 any") == "OK")
    })?;
    expect(&mut named, "SET a 2", "OK")?;
    expect(&mut named, "ACL WHOAMI", "store2")?;
    for line in [
        "PING",
        "GET a",
        "HELLO 3",
        "AUTH default any",
        "AUTH any",
        "AUTH store1 any",
    ] {
        expect(&mut bed.connect(APP1)?, line, "-DENIED store 'store1'")?;
    }
    let greeted = said(&mut bed.connect(APP1)?, "HELLO 3 AUTH store2 any");
    ensure!(greeted.contains("proto"), "{greeted}");
    // Not by the back door either.
    expect(&mut named, "AUTH default any", "-WRONGPASS")?;
    expect(&mut named, "GET a", "2")?;
    expect(&mut named, "RESET", "-WRONGPASS")?;
    ensure!(named.read().is_err(), "still open after RESET");

    flect(&bed, &["kv", "create", "store1"])?;
    soon("store1", || {
        Ok(said(&mut bed.connect(APP1)?, "GET a") == "(nil)")
    })
}

fn a_store_being_filled_waits() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut operator = bed.operator()?;
    let mut session = bed.connect(APP1)?;
    expect(&mut session, "SET a 1", "OK")?;
    let stores = "flect:{registry}:stores";
    let record = said(&mut operator, &format!("HGET {stores} store1"));
    let filling = record.replacen('{', "{\"filling\":true,", 1);
    let change = |operator: &mut Wire, record: &str| -> Result<()> {
        expect(operator, &format!("HSET {stores} store1 {record}"), "0")?;
        expect(operator, "HINCRBY flect:{registry}:meta version 1", "")
    };
    change(&mut operator, &filling)?;
    soon("the refusal", || {
        let denied = said(&mut bed.connect(APP1)?, "PING");
        Ok(denied.starts_with("-DENIED store 'store1' in environment 'default' is being filled"))
    })?;
    ensure!(
        session.read_until_silent(Duration::from_millis(100))?.1,
        "the session is open"
    );
    change(&mut operator, &record)?;
    soon("the store again", || {
        Ok(said(&mut bed.connect(APP1)?, "GET a") == "1")
    })
}

/// A memory limit that is set while the store is used: an agent measures, and writes are refused until
/// there is room.
fn a_memory_limit_is_kept() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut wire = bed.connect(APP1)?;
    let large = "x".repeat(300_000);
    expect(&mut wire, &format!("SET large {large}"), "OK")?;
    flect(&bed, &["kv", "set", "store1", "--max-memory", "200kb"])?;
    let full = |wire: &mut Wire| said(wire, "SET small x").starts_with("-OOM");
    wait_until(MEASURED, || Ok(full(&mut wire))).context("writes are not refused")?;
    let mut root = Client::start(&bed.socket(), 0, |_| Ok(()))?;
    let mut reply = root.ask(&serde_json::json!({ "op": "metrics" }))?;
    let stores = reply["ok"]["stores"].as_array_mut().context("no stores")?;
    let told = stores.iter().find(|store| store["name"] == "store1");
    let told = told.context("no store1")?;
    ensure!(
        told["memory_bytes"].as_u64() > Some(200_000) && told["key_count"] == 2,
        "{told}"
    );
    expect(&mut wire, "DEL large", "1")?;
    wait_until(MEASURED, || Ok(!full(&mut wire))).context("writes are refused still")
}
