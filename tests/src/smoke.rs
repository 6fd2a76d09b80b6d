//! End-to-end trials that touch every part once: the bed, real clients, the agent, and its end.

use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed, NEIGHBOUR, UNCLAIMED};
use crate::setting::Setting;
use crate::wire::{Value, Wire};

/// An agent tries to reach its server again every few seconds at the least, and may be slow.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// What a trial does with its bed.
type Body = fn(&Bed) -> Result<()>;

/// What the server has a part in.
const OF_THE_SERVER: [(&str, Body); 6] = [
    ("same_keys_are_disjoint", same_keys_are_disjoint),
    ("keys_bear_the_prefix", keys_bear_the_prefix),
    (
        "store_wide_commands_are_scoped",
        store_wide_commands_are_scoped,
    ),
    ("the_user_names_another_store", the_user_names_another_store),
    ("a_dead_agent_fails_closed", a_dead_agent_fails_closed),
    ("a_busy_neighbour_is_not_seen", a_busy_neighbour_is_not_seen),
];

/// What the kernel and the agent do alone.
const OF_THE_KERNEL: [(&str, Body); 3] = [
    (
        "nested_cgroups_belong_to_the_app",
        nested_cgroups_belong_to_the_app,
    ),
    (
        "an_unclaimed_cgroup_is_refused",
        an_unclaimed_cgroup_is_refused,
    ),
    (
        "getpeername_is_the_asked_address",
        getpeername_is_the_asked_address,
    ),
];

/// The trials of this module; those with an agent run with acceleration on and off.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = vec![Trial::test("smoke::direct_bed", || {
        direct_bed().map_err(|error| Failed::from(format!("{error:#}")))
    })];
    all.push(Trial::test("smoke::over_a_unix_socket", || {
        over_a_unix_socket().map_err(|error| Failed::from(format!("{error:#}")))
    }));
    for (name, body) in OF_THE_SERVER.into_iter().chain(OF_THE_KERNEL) {
        all.extend(for_each_acceleration(&format!("smoke::{name}"), body));
    }
    all
}

/// The trials that the server has a part in.
#[must_use]
pub fn of_the_server(setting: Setting) -> Vec<Trial> {
    OF_THE_SERVER
        .map(|(name, body)| setting.trial_with_bed(&format!("smoke::{name}"), body))
        .into()
}

/// One trial per acceleration mode, each with a bed of its own that has two stores.
pub fn for_each_acceleration(name: &str, body: fn(&Bed) -> Result<()>) -> [Trial; 2] {
    Setting::OF_EVERY_KERNEL.map(|setting| setting.trial_with_bed(name, body))
}

/// Runs a command and returns what it prints, without the last line's end.
///
/// # Errors
/// When it fails; the message has its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("starting")?;
    ensure!(
        output.status.success(),
        "{:?} ended with {}:\n{}{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// The bed alone: Valkey, both clients, the operator's way. Needs no root.
fn direct_bed() -> Result<()> {
    let bed = Bed::builder().direct(true).stores(2).start()?;
    let python =
        "import os, redis; r = redis.Redis.from_url(os.environ['STORE2_URL']); r.set('a', 'b')";
    let mut command = Command::new(crate::tools::program("python3")?);
    command.env("PYTHONPATH", crate::tools::python_packages());
    output(command.envs(bed.environment()).args(["-c", python]))?;
    let node = "const r = new (require('ioredis'))(process.env.STORE2_URL); \
                r.get('a').then(v => { console.log(v); r.disconnect() })";
    let mut command = Command::new(crate::tools::program("node")?);
    command.env("NODE_PATH", crate::tools::node_modules());
    let got = output(command.envs(bed.environment()).args(["-e", node]))?;
    ensure!(got == "b", "ioredis read {got:?}");
    let mut operator = bed.operator()?;
    let keyspace = operator.command(&["INFO", "keyspace"])?.text();
    ensure!(keyspace.contains("db1:keys=1"), "{keyspace}");
    Ok(())
}

/// The agent reaches a Valkey of its machine over a unix socket, and then nobody who takes the port of one
/// that is down is offered a password.
fn over_a_unix_socket() -> Result<()> {
    let bed = Bed::builder().stores(2).over_socket().start()?;
    store_wide_commands_are_scoped(&bed)?;
    keys_bear_the_prefix(&bed)?;
    let clients = bed.operator()?.command(&["CLIENT", "LIST"])?.text();
    let agents = || clients.lines().filter(|line| line.contains("user=flect."));
    ensure!(agents().count() > 1, "{clients}");
    ensure!(
        agents().all(|line| line.contains("/valkey.sock:0")),
        "{clients}"
    );
    bed.kill_valkey()?;
    let impostor = TcpListener::bind(bed.address())?;
    impostor.set_nonblocking(true)?;
    // Each of these makes the agent look for its server.
    for _ in 0..5 {
        let reply = bed.connect(APP1)?.command(&["GET", "user:1"]);
        ensure!(reply.is_err(), "{reply:?}");
        thread::sleep(Duration::from_millis(200));
    }
    let came = impostor.accept().map(|(_, from)| from);
    ensure!(
        matches!(&came, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        "the agent came to the impostor: {came:?}"
    );
    drop(impostor);
    bed.start_valkey()?;
    wait_until(SERVED_WITHIN, || {
        let reply = bed.connect(APP1)?.command(&["SET", "user:1", "Ada"]);
        Ok(reply.is_ok_and(|reply| reply.text() == "OK"))
    })
}

/// redis-py in one app and ioredis in another, the same address and keys.
fn same_keys_are_disjoint(bed: &Bed) -> Result<()> {
    python(
        bed,
        APP1,
        "r.set('key', 'of app1'); r.rpush('only:app1', 1)",
    )?;
    node(
        bed,
        "app2",
        "await r.set('key', 'of app2'); await r.sadd('only:app2', 1)",
    )?;
    let got = python(bed, APP1, "print(r.get('key'), sorted(r.keys('*')))")?;
    ensure!(
        got == "b'of app1' [b'key', b'only:app1']",
        "app1 sees {got}"
    );
    let got = node(
        bed,
        "app2",
        "console.log(await r.get('key'), (await r.keys('*')).sort().join(' '))",
    )?;
    ensure!(got == "of app2 key only:app2", "app2 sees {got}");
    Ok(())
}

/// What is stored is `<prefix>:<key>`.
fn keys_bear_the_prefix(bed: &Bed) -> Result<()> {
    check(&mut bed.connect(APP1)?, "SET user:1 Ada", "OK")?;
    let stored = format!("{}:user:1", bed.prefix("store1")?);
    check(&mut bed.operator()?, &format!("GET {stored}"), "Ada")
}

/// KEYS, SCAN, DBSIZE, RANDOMKEY and FLUSHDB end at the store's border.
fn store_wide_commands_are_scoped(bed: &Bed) -> Result<()> {
    let (mut one, mut two) = (bed.connect(APP1)?, bed.connect("app2")?);
    for number in 0..300 {
        check(&mut one, &format!("SET k{number} {number}"), "OK")?;
    }
    for number in 0..7 {
        check(&mut two, &format!("SET k{number} {number}"), "OK")?;
    }
    let expect: Vec<_> = (0..7).map(|number| format!("k{number}")).collect();
    let keys = two.command(&["KEYS", "*"])?.sorted();
    ensure!(keys == expect, "KEYS * of app2: {keys:?}");
    let scanned = scan(&mut two)?;
    ensure!(scanned == expect, "SCAN of app2: {scanned:?}");
    check(&mut two, "DBSIZE", "7")?;
    let random = two.command(&["RANDOMKEY"])?.text();
    ensure!(expect.contains(&random), "RANDOMKEY of app2: {random}");
    check(&mut two, "FLUSHDB", "OK")?;
    check(&mut two, "DBSIZE", "0")?;
    check(&mut two, "RANDOMKEY", "(nil)")?;
    check(&mut one, "DBSIZE", "300")?;
    ensure!(
        scan(&mut one)?.len() == 300,
        "app1's keys after app2's FLUSHDB"
    );
    Ok(())
}

/// Every key that SCAN gives, sorted, each once.
fn scan(wire: &mut Wire) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = wire.command(&["SCAN", &cursor, "COUNT", "3"])?;
        let [next, keys] = reply.items() else {
            bail!("SCAN answered {reply}");
        };
        all.extend(keys.items().iter().map(Value::text));
        cursor = next.text();
        if cursor == "0" {
            all.sort();
            all.dedup();
            return Ok(all);
        }
    }
}

/// The URL's user chooses among the app's stores, in both clients.
fn the_user_names_another_store(bed: &Bed) -> Result<()> {
    python(
        bed,
        APP1,
        "r.set('a', 1); s = store('STORE2_URL'); s.set('a', 2)",
    )?;
    let got = node(
        bed,
        APP1,
        "const s = store('STORE2_URL'); console.log(await r.get('a'), await s.get('a')); s.disconnect()",
    )?;
    ensure!(got == "1 2", "app1 reads {got}");
    // Another app may name the store, but it is not its own.
    let reply = bed
        .connect("app2")?
        .command(&["AUTH", "store2", "store2"])?
        .text();
    ensure!(
        reply.starts_with('-'),
        "app2 asked for app1's store and got {reply}"
    );
    Ok(())
}

/// A cgroup below an app's is the app.
fn nested_cgroups_belong_to_the_app(bed: &Bed) -> Result<()> {
    check(&mut bed.connect("app1/worker/3")?, "SET a nested", "OK")?;
    check(&mut bed.connect(APP1)?, "GET a", "nested")
}

/// A workload that no app claims gets an error that a client can show, and nothing else.
fn an_unclaimed_cgroup_is_refused(bed: &Bed) -> Result<()> {
    let mut wire = bed.connect(UNCLAIMED)?;
    wire.send_raw(b"PING\r\n")?;
    let got = wire.read_to_end()?;
    let got = String::from_utf8_lossy(&got);
    let one_error = got.starts_with('-') && got.find("\r\n") == Some(got.len() - 2);
    ensure!(one_error, "the raw reply is {got:?}");
    let got = python(
        bed,
        UNCLAIMED,
        "try: print('got in', r.ping())\nexcept redis.RedisError as e: print('refused')",
    )?;
    ensure!(got == "refused", "redis-py says {got}");
    Ok(())
}

/// The app cannot tell that its connection goes elsewhere: IPv4, IPv6 and v4-mapped.
fn getpeername_is_the_asked_address(bed: &Bed) -> Result<()> {
    let script = "import socket, os\n\
        port = int(os.environ['VALKEY_PORT'])\n\
        for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'),\n\
                             (socket.AF_INET6, '::ffff:127.0.0.1')):\n    \
            s = socket.socket(family)\n    \
            s.connect((host, port))\n    \
            s.sendall(b'PING\\r\\n')\n    \
            assert s.recv(100) == b'+PONG\\r\\n'\n    \
            peer = s.getpeername()\n    \
            assert peer[:2] == (host, port), (host, port, peer)";
    output(bed.python(APP1)?.args(["-c", script])).map(drop)
}

/// Without an agent connections are refused; with the next one everything is there again.
fn a_dead_agent_fails_closed(bed: &Bed) -> Result<()> {
    check(&mut bed.connect(APP1)?, "SET a kept", "OK")?;
    bed.kill_agent()?;
    match bed.connect(APP1) {
        Ok(_) => bail!("connected without an agent"),
        Err(error) => ensure!(error.kind() == io::ErrorKind::ConnectionRefused, "{error}"),
    }
    bed.start_agent()?;
    check(&mut bed.connect(APP1)?, "GET a", "kept")
}

/// A neighbour that writes, publishes and flushes under the same names changes nothing.
fn a_busy_neighbour_is_not_seen(bed: &Bed) -> Result<()> {
    bed.start_neighbour("store1")?;
    let (mut wire, mut listener) = (bed.connect(APP1)?, bed.connect(APP1)?);
    listener.command(&["PSUBSCRIBE", "*"])?;
    for number in 0..100 {
        check(&mut wire, &format!("SET k{number} {number}"), "OK")?;
        check(
            &mut wire,
            &format!("RPUSH list {number}"),
            &format!("{}", number + 1),
        )?;
        thread::sleep(Duration::from_millis(5));
    }
    for number in 0..100 {
        check(&mut wire, &format!("GET k{number}"), &format!("{number}"))?;
    }
    check(&mut wire, "DBSIZE", "101")?;
    // The neighbour was not idle: its store holds what it learnt, or nothing after a FLUSHDB.
    let mut neighbour = bed.connect(NEIGHBOUR)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while neighbour.command(&["EXISTS", "k1", "list"])?.text() == "0" {
        ensure!(Instant::now() < deadline, "the neighbour does nothing");
    }
    check(&mut wire, "PUBLISH news own", "1")?;
    let heard = listener.read()?;
    let words: Vec<_> = heard.items().iter().map(Value::text).collect();
    ensure!(
        words == ["pmessage", "*", "news", "own"],
        "app1 hears {heard}"
    );
    Ok(())
}

/// Sends a command, its words parted by blanks, and expects this reply as text.
///
/// # Errors
/// When the reply is another.
pub fn check(wire: &mut Wire, command: &str, expect: &str) -> Result<()> {
    let words: Vec<_> = command.split(' ').collect();
    let reply = wire.command(&words).with_context(|| command.to_owned())?;
    ensure!(
        reply.text() == expect,
        "{command} gives {reply}, expected {expect}"
    );
    Ok(())
}

/// Runs Python in an app, with `r` connected to `CACHE_URL` and `store(variable)` for the others.
///
/// # Errors
/// When the script fails.
pub fn python(bed: &Bed, app: &str, script: &str) -> Result<String> {
    let whole = format!(
        "import os, time, redis\n\
         def store(name): return redis.Redis.from_url(os.environ[name])\n\
         r = store('CACHE_URL')\n{script}"
    );
    output(bed.python(app)?.args(["-c", &whole]))
}

/// Runs JavaScript in an app, with `r` connected to `CACHE_URL` and `store(variable)` for the
/// others.
///
/// # Errors
/// When the script fails.
pub fn node(bed: &Bed, app: &str, script: &str) -> Result<String> {
    let whole = format!(
        "const Redis = require('ioredis');\n\
         const store = name => new Redis(process.env[name]);\n\
         const r = store('CACHE_URL');\n\
         (async () => {{ {script} }})().then(() => r.disconnect(), \
         error => {{ console.error(error); process.exit(1) }});"
    );
    output(bed.node(app)?.args(["-e", &whole]))
}
