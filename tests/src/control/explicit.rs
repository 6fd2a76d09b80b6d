//! Explicit mode without TLS: what strangers get, and what a token opens.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::client::NOBODY;
use super::second::{Options, Second};
use super::{Body, expect, flect, said, soon};
use crate::bed::Bed;
use crate::smoke::output;
use crate::tools;
use crate::wire::{Wire, encode};

pub const BODIES: [(&str, Body); 5] = [
    ("a_token_opens_its_store", a_token_opens_its_store),
    ("strangers_get_as_far_as_at_valkey", strangers),
    ("strangers_cost_little", strangers_cost_little),
    ("explicit_mode_needs_no_root", needs_no_root),
    ("clients_use_the_url", clients_use_the_url),
];

/// A bed without its agent, and an explicit agent on its Valkey that serves these stores.
pub fn served(names: &[&str], options: &Options) -> Result<(Bed, Second, Vec<String>)> {
    let bed = Bed::builder().agent_later().start()?;
    let mut tokens = Vec::new();
    for name in names {
        flect(&bed, &["kv", "create", name])?;
        tokens.push(flect(&bed, &["kv", "token", name, "--new"])?);
    }
    let second = Second::start(&bed, options)?;
    Ok((bed, second, tokens))
}

fn a_token_opens_its_store() -> Result<()> {
    let (bed, second, tokens) = served(&["one", "two"], &Options::default())?;
    let [one, two] = tokens.as_slice() else {
        anyhow::bail!("two tokens");
    };
    flect(&bed, &["kv", "create", "open"])?;
    let mut wire = second.connect()?;
    expect(&mut wire, &format!("AUTH one {one}"), "OK")?;
    expect(&mut wire, "SET a 1", "OK")?;
    expect(&mut wire, "ACL WHOAMI", "one")?;
    let info = said(&mut wire, "CLIENT INFO");
    let local = wire.stream().local_addr()?;
    ensure!(info.contains(&format!(" addr={local} ")), "{info}");
    ensure!(
        info.contains(&format!(" laddr={} ", second.address())),
        "{info}"
    );
    // From there no other store can be reached.
    expect(&mut wire, &format!("AUTH two {two}"), "-WRONGPASS")?;
    expect(&mut wire, &format!("HELLO 3 AUTH two {two}"), "-WRONGPASS")?;
    expect(&mut wire, "AUTH one wrong", "-WRONGPASS")?;
    expect(&mut wire, "GET a", "1")?;
    expect(&mut wire, &format!("AUTH one {one}"), "OK")?;
    expect(&mut wire, "RESET", "RESET")?;
    expect(&mut wire, "GET a", "1")?;

    let greeting = said(
        &mut second.connect()?,
        &format!("HELLO 3 AUTH two {two} SETNAME me"),
    );
    ensure!(greeting.contains("proto"), "{greeting}");
    // A URL without a user: the token alone says which store.
    let mut unnamed = second.connect()?;
    expect(&mut unnamed, &format!("AUTH {two}"), "OK")?;
    expect(&mut unnamed, "GET a", "(nil)")?;
    // What is pipelined behind the login is served after it.
    let mut wire = second.connect()?;
    let mut bytes = encode(&["AUTH", "one", one]);
    bytes.extend(encode(&["GET", "a"]));
    bytes.extend(encode(&["SET", "large", &"x".repeat(200_000)]));
    bytes.extend(encode(&["STRLEN", "large"]));
    wire.send_raw(&bytes)?;
    for expected in ["OK", "1", "OK", "200000"] {
        let got = wire.read()?.text();
        ensure!(got == expected, "{got} instead of {expected}");
    }
    for refused in [
        format!("AUTH one {two}"),
        format!("AUTH {one}x"),
        "AUTH open any".to_owned(),
        "AUTH open ".to_owned(),
        "AUTH no-such any".to_owned(),
        format!("AUTH ../one {one}"),
    ] {
        let begin = Instant::now();
        expect(&mut second.connect()?, &refused, "-WRONGPASS")?;
        ensure!(
            begin.elapsed() > Duration::from_millis(150),
            "answered at once"
        );
    }
    let status = second.status()?;
    ensure!(
        status["refusals"]
            .as_array()
            .is_some_and(|list| list.len() >= 6),
        "{status}"
    );
    ensure!(
        !second.log().contains(one.as_str()) && !status.to_string().contains(one.as_str()),
        "a token is told"
    );
    // Keys bear the store's prefix, as everywhere.
    let keys = said(&mut bed.operator()?, "KEYS *:large");
    ensure!(keys.contains("}:large"), "{keys}");
    Ok(())
}

/// The same as a Valkey with a password says.
fn strangers() -> Result<()> {
    let (bed, second, _) = served(&["one"], &Options::default())?;
    // A private Valkey to compare with.
    let private = Bed::builder()
        .direct(true)
        .valkey_option("--requirepass", "secret")
        .start()?;
    for line in [
        "PING",
        "GET a",
        "SELECT 1",
        "MULTI",
        "HELLO",
        "HELLO 3",
        "HELLO 2 SETNAME x",
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH nobody wrong",
        "HELLO 3 AUTH default wrong",
        "AUTH",
        "AUTH a b c",
        "RESET",
        "QUIT",
    ] {
        let expected = said(&mut Wire::connect(private.address())?, line);
        let got = said(&mut second.connect()?, line);
        ensure!(got == expected, "{line}: {got} instead of {expected}");
    }
    drop(bed);
    Ok(())
}

fn strangers_cost_little() -> Result<()> {
    let (_bed, second, tokens) = served(&["one"], &Options::default())?;
    let login = format!("AUTH one {}", tokens[0]);
    // A request that never ends is cut off.
    let mut endless = second.connect()?;
    let sent = endless.send_raw(&[b"AUTH ".as_slice(), &[b'x'; 100_000]].concat());
    let rest = endless.read_to_end().unwrap_or_default();
    let told = rest.starts_with(b"-ERR Protocol error: unauthenticated");
    ensure!(told || sent.is_err(), "{}", rest.escape_ascii());
    // A place is free again once the client has seen why.
    drop(endless);
    // One machine cannot hold more than its share, and what it has holds for ten seconds.
    let begin = Instant::now();
    let mut waiting: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(second.address())?;
        // Some of them are closed at once.
        let _ = stream.write_all(b"PI");
        waiting.push(stream);
    }
    let mut refused = 0;
    for stream in &mut waiting {
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let ended = match std::io::Read::read(stream, &mut [0; 10]) {
            Ok(0) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            Ok(_) => false,
        };
        refused += usize::from(ended);
    }
    ensure!(refused >= 150, "only {refused} of 300 were refused");
    crate::bed::agent::wait_until(Duration::from_secs(30), || {
        Ok(said(&mut second.connect()?, &login) == "OK")
    })
    .context("nobody gets in any more")?;
    let took = begin.elapsed();
    ensure!(
        took > Duration::from_secs(5),
        "let go after {took:?}, {refused} refused\n{}",
        second.log()
    );
    Ok(())
}

fn needs_no_root() -> Result<()> {
    let options = Options {
        uid: Some(NOBODY),
        ..Options::default()
    };
    let (bed, second, tokens) = served(&["one"], &options)?;
    let mut wire = second.connect()?;
    expect(&mut wire, &format!("AUTH one {}", tokens[0]), "OK")?;
    expect(&mut wire, "SET a 1", "OK")?;
    flect(&bed, &["kv", "create", "two"])?;
    let token = flect(&bed, &["kv", "token", "two", "--new"])?;
    soon("another store", || {
        Ok(said(&mut second.connect()?, &format!("AUTH two {token}")) == "OK")
    })?;
    // A token that was made a moment ago is not refused, and the one before it is.
    let mut token = token;
    for _ in 0..5 {
        let new = flect(&bed, &["kv", "token", "two", "--new"])?;
        expect(&mut second.connect()?, &format!("AUTH two {new}"), "OK")?;
        let old = said(&mut second.connect()?, &format!("AUTH two {token}"));
        ensure!(old.starts_with("-WRONGPASS"), "{old}");
        token = new;
    }
    let status = second.status()?;
    ensure!(
        status["mode"] == "explicit" && status["acceleration"].is_null(),
        "{status}"
    );
    // Its own user is its operator.
    let mut own = super::client::Client::start(&second.socket(), NOBODY, |_| Ok(()))?;
    let reply = own.ask(&serde_json::json!({ "op": "status" }))?;
    ensure!(super::socket::code(&reply) == "ok", "{reply}");
    Ok(())
}

fn clients_use_the_url() -> Result<()> {
    let (_bed, second, tokens) = served(&["one"], &Options::default())?;
    let url = format!("redis://one:{}@{}", tokens[0], second.address());
    let script = "import os, redis\n\
        r = redis.Redis.from_url(os.environ['URL'])\n\
        p = r.pipeline(); p.set('a', 'b'); p.get('a'); assert p.execute() == [True, b'b']\n\
        t = redis.Redis.from_url(os.environ['URL'] + '?protocol=3'); assert t.get('a') == b'b'\n\
        bad = redis.Redis.from_url(os.environ['URL'].replace('one:', 'one:x'))\n\
        try: bad.ping(); print('got in')\n\
        except redis.AuthenticationError: print('refused')";
    let mut command = Command::new(tools::program("python3")?);
    command
        .env("PYTHONPATH", tools::python_packages())
        .env("URL", &url);
    let got = output(command.args(["-c", script]))?;
    ensure!(got == "refused", "{got}");
    let script = "const r = new (require('ioredis'))(process.env.URL);\
        r.get('a').then(v => { console.log(v); r.disconnect() })";
    let mut command = Command::new(tools::program("node")?);
    command
        .env("NODE_PATH", tools::node_modules())
        .env("URL", &url);
    let got = output(command.args(["-e", script]))?;
    ensure!(got == "b", "{got}");
    Ok(())
}
