//! Commands that the table has not: of a module, and of a server that is newer than the table.
//!
//! What is learnt belongs to a process, so each trial has one of its own.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flect_agent::commands;
use flect_agent::metrics::StoreMetrics;
use libtest_mimic::{Failed, Trial};

use super::node::{Node, app};
use crate::bed::Bed;
use crate::child::{self, Role};
use crate::smoke::check;
use crate::wire::Wire;

const MODULE: &str = "learnt-module";
const SERVER: &str = "learnt-server";

/// The trials' processes.
pub const ROLES: [(&str, Role); 2] = [(MODULE, |_| module()), (SERVER, |_| server())];

/// The trials of this module.
pub fn trials() -> Vec<Trial> {
    let names = [
        ("a_modules_commands_are_learnt", MODULE),
        ("a_newer_servers_commands_are_learnt", SERVER),
    ];
    let trial = |(name, role): (&str, &'static str)| {
        Trial::test(format!("worker::{name}"), move || {
            let run = || -> Result<()> {
                let output = child::command(role, &[])?.output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{}", said.trim());
                Ok(())
            };
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    names.into_iter().map(trial).collect()
}

/// Where cargo leaves what the tests depend on.
pub fn module_path() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("the executable stands in a folder")?;
    let name = "libflect_tests_module.so";
    let places = [folder.join(name), folder.join("deps").join(name)];
    let found = places.into_iter().find(|place| place.is_file());
    found.with_context(|| format!("{name} is not beside {}", own.display()))
}

/// A command that is refused by name, alone and in a script.
fn refused(wire: &mut Wire, words: &[&str], why: &str) -> Result<()> {
    let reply = wire.command(words)?.text();
    let name = words[0].to_uppercase();
    ensure!(
        reply.starts_with(&format!("-NOPERM {name} is not available in a store"))
            && reply.contains(why),
        "{words:?}: {reply}"
    );
    let script = format!("return redis.call('{}')", words.join("','"));
    let reply = wire.command(&["EVAL", &script, "0"])?.text();
    ensure!(
        reply.starts_with("-NOPERM"),
        "{words:?} in a script: {reply}"
    );
    Ok(())
}

fn module() -> Result<()> {
    let path = module_path()?;
    let bed = Bed::builder().valkey_option("--loadmodule", &path.display().to_string());
    let mut node = Node::start_with(bed)?;
    let forwarded = &node.learnt().forwarded;
    let expected = [
        "trial.box|get",
        "trial.count",
        "trial.get",
        "trial.leak",
        "trial.pick",
        "trial.set",
    ];
    ensure!(*forwarded == expected, "{:?}", node.learnt());
    let (store, other) = (node.store("mine")?, node.store("yours")?);
    let (app_of, other_app) = (app(&[&store]), app(&[&other]));
    let mut wire = node.connect(&app_of)?;
    let mut yours = node.connect(&other_app)?;
    let mut operator = node.bed.operator()?;
    check(&mut yours, "SET k theirs", "OK")?;
    for (command, reply) in [
        ("TRIAL.SET k mine", "OK"),
        ("GET k", "mine"),
        ("trial.get k", "mine"),
        ("trial.count 2 k none", "[mine, (nil)]"),
        ("trial.pick t w KEYS k none k", "[mine, (nil), mine]"),
        ("trial.pick keys w k KEYS", ""),
        ("trial.box GET k", "mine"),
        ("SELECT 3", "OK"),
        ("trial.get k", "(nil)"),
        ("trial.set k three", "OK"),
        ("SELECT 0", "OK"),
        ("trial.get k", "mine"),
        ("MULTI", "OK"),
        ("trial.get k", "QUEUED"),
        ("trial.set k m2", "QUEUED"),
        ("EXEC", "[mine, OK]"),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let got = wire.command(&words)?.text();
        let refused = reply.is_empty() && got.starts_with("-NOPERM");
        ensure!(
            refused || got == reply,
            "{command}: {got} instead of {reply}"
        );
    }
    let stored = operator.command(&["GET", &format!("{}/3:k", store.prefix)])?;
    ensure!(stored.text() == "three", "{stored}");
    // A value that is too large to be taken whole.
    let large = "l".repeat(300_000);
    ensure!(
        wire.command(&["trial.set", "big", &large])?.text() == "OK",
        "large"
    );
    ensure!(
        wire.command(&["trial.get", "big"])?.text() == large,
        "large"
    );
    // Scripts know them too.
    let script =
        "redis.call('trial.set', KEYS[1], ARGV[1]) return redis.call('trial.get', 's' .. 1)";
    let reply = wire.command(&["EVAL", script, "1", "s1", "v"])?.text();
    ensure!(reply == "v", "{reply}");
    // A reply with the key's name on the server does not arrive.
    let reply = wire.command(&["trial.leak", "k"])?.text();
    ensure!(reply.starts_with("-ERR the agent withheld"), "{reply}");
    ensure!(
        StoreMetrics::of(&store).integrity_violations == 1,
        "not counted"
    );
    refused(
        &mut wire,
        &["trial.move", "k"],
        "key positions are not declared",
    )?;
    refused(&mut wire, &["trial.info"], "names no keys")?;
    let reply = wire.command(&["trial.none", "k"])?.text();
    ensure!(
        reply.starts_with("-ERR unknown command 'trial.none'"),
        "{reply}"
    );
    let reply = wire.command(&["trial.box", "none"])?.text();
    ensure!(
        reply.starts_with("-ERR unknown subcommand 'none'"),
        "{reply}"
    );
    check(&mut yours, "GET k", "theirs")?;
    check(&mut yours, "trial.get k", "theirs")
}

/// As if a newer server had brought these: the table has not heard of them.
const NEW: [&str; 12] = [
    "blmove",
    "dbsize",
    "getex",
    "hset",
    "lmpop",
    "mset",
    "sintercard",
    "sort",
    "watch",
    "xread",
    "zunionstore",
    "xinfo|stream",
];

fn server() -> Result<()> {
    commands::hide(&NEW);
    let mut node = Node::start()?;
    let learnt = node.learnt().clone();
    let expected = [
        "blmove",
        "getex",
        "hset",
        "lmpop",
        "mset",
        "sintercard",
        "xinfo|stream",
        "xread",
        "zunionstore",
    ];
    ensure!(learnt.forwarded == expected, "{learnt:?}");
    let store = node.store("newer")?;
    let app_of = app(&[&store]);
    let mut wire = node.connect(&app_of)?;
    for (command, reply) in [
        ("HSET h f v", "1"),
        ("HGET h f", "v"),
        ("MSET a 1 b 2", "OK"),
        ("GETEX b PERSIST", "2"),
        ("GET a", "1"),
        ("SADD s x y", "2"),
        ("SINTERCARD 2 s s", "2"),
        ("ZADD z 1 m", "1"),
        ("ZUNIONSTORE out 2 z s WEIGHTS 1 1", "3"),
        ("ZCARD out", "3"),
        ("RPUSH l 1", "1"),
        ("BLMOVE l l2 LEFT LEFT 1", "1"),
        ("LLEN l2", "1"),
        ("XADD st 1-1 f v", "1-1"),
        ("XINFO STREAM none", "-ERR no such key"),
    ] {
        check(&mut wire, command, reply)?;
    }
    // Their replies hold names, which the table would have told.
    for command in ["LMPOP 1 l2 LEFT", "XREAD STREAMS st 0"] {
        let words: Vec<&str> = command.split(' ').collect();
        let reply = wire.command(&words)?.text();
        ensure!(
            reply.starts_with("-ERR the agent withheld"),
            "{command}: {reply}"
        );
    }
    check(&mut wire, "LLEN l2", "0")?;
    refused(&mut wire, &["dbsize"], "names no keys")?;
    refused(&mut wire, &["sort", "l"], "the server calls it dangerous")?;
    let reply = wire.command(&["watch", "a"])?.text();
    ensure!(reply.contains("a matter of the connection"), "{reply}");
    // Blocked over a connection of its own, others go on.
    let mut other = node.connect(&app_of)?;
    wire.send(&["BLMOVE", "empty", "l2", "LEFT", "LEFT", "5"])?;
    check(&mut other, "HSET h f w", "0")?;
    check(&mut other, "RPUSH empty e", "1")?;
    ensure!(wire.read()?.text() == "e", "BLMOVE");
    Ok(())
}
