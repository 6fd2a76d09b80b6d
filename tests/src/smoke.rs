//! End-to-end trials that touch every part once: the bed, real clients, the agent, and its end.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::{APP1, Acceleration, Bed, NEIGHBOUR, UNCLAIMED};

/// The trials of this module; those with an agent run with acceleration on and off.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = vec![Trial::test("smoke::direct_bed", || {
        direct_bed().map_err(|error| Failed::from(format!("{error:#}")))
    })];
    let with_agent: [(&str, fn(&Bed) -> Result<()>); 9] = [
        ("same_keys_are_disjoint", same_keys_are_disjoint),
        ("keys_bear_the_prefix", keys_bear_the_prefix),
        (
            "store_wide_commands_are_scoped",
            store_wide_commands_are_scoped,
        ),
        ("the_user_names_another_store", the_user_names_another_store),
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
        ("a_dead_agent_fails_closed", a_dead_agent_fails_closed),
        ("a_busy_neighbour_is_not_seen", a_busy_neighbour_is_not_seen),
    ];
    for (name, body) in with_agent {
        all.extend(for_each_acceleration(&format!("smoke::{name}"), body));
    }
    all
}

/// One trial per acceleration mode, each with a bed of its own that has two stores.
pub fn for_each_acceleration(name: &str, body: fn(&Bed) -> Result<()>) -> [Trial; 2] {
    [Acceleration::On, Acceleration::Off].map(|acceleration| {
        Trial::test(
            format!("{name}::accel_{}", acceleration.word()),
            move || {
                let run = || -> Result<()> {
                    let bed = Bed::builder()
                        .stores(2)
                        .acceleration(acceleration)
                        .start()?;
                    body(&bed).with_context(|| format!("the agent's log:\n{}", bed.agent_log()))
                };
                run().map_err(|error| Failed::from(format!("{error:#}")))
            },
        )
    })
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
    python(bed, APP1, "r.set('user:1', 'Ada')")?;
    let stored = format!("{}:user:1", bed.prefix("store1")?);
    let value = bed.operator()?.command(&["GET", &stored])?;
    ensure!(value.text() == "Ada", "{stored} is {value}");
    Ok(())
}

/// KEYS, SCAN, DBSIZE, RANDOMKEY and FLUSHDB end at the store's border.
fn store_wide_commands_are_scoped(bed: &Bed) -> Result<()> {
    python(bed, APP1, "[r.set(f'k{i}', i) for i in range(300)]")?;
    python(bed, "app2", "[r.set(f'k{i}', i) for i in range(7)]")?;
    let got = python(
        bed,
        "app2",
        "print(len(r.keys('*')), len(set(r.scan_iter(count=3))), r.dbsize(), \
               r.randomkey().startswith(b'k'))",
    )?;
    ensure!(got == "7 7 7 True", "app2 counts {got}");
    python(bed, "app2", "r.flushdb()")?;
    let got = python(bed, "app2", "print(r.dbsize(), r.randomkey(), r.get('k1'))")?;
    ensure!(got == "0 None None", "after FLUSHDB app2 sees {got}");
    let got = python(bed, APP1, "print(r.dbsize(), len(set(r.scan_iter())))")?;
    ensure!(
        got == "300 300",
        "after another app's FLUSHDB app1 counts {got}"
    );
    Ok(())
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
    let got = python(
        bed,
        "app2",
        "try: print(store('STORE2_URL').get('a'))\nexcept redis.RedisError: print('refused')",
    )?;
    ensure!(
        got == "refused",
        "app2 asked for app1's store and got {got}"
    );
    Ok(())
}

/// A cgroup below an app's is the app.
fn nested_cgroups_belong_to_the_app(bed: &Bed) -> Result<()> {
    python(bed, "app1/worker/3", "r.set('a', 'nested')")?;
    let got = python(bed, APP1, "print(r.get('a'))")?;
    ensure!(got == "b'nested'", "app1 reads {got}");
    Ok(())
}

/// A workload that no app claims gets an error that a client can show, and nothing else.
fn an_unclaimed_cgroup_is_refused(bed: &Bed) -> Result<()> {
    let script = "import socket, os\n\
        s = socket.create_connection((os.environ['VALKEY_HOST'], int(os.environ['VALKEY_PORT'])))\n\
        s.sendall(b'PING\\r\\n')\n\
        got = b''\n\
        while True:\n    \
            part = s.recv(1000)\n    \
            if not part: break\n    \
            got += part\n\
        print(got.decode())";
    let got = output(bed.python(UNCLAIMED)?.args(["-c", script]))?;
    ensure!(got.starts_with('-'), "the raw reply is {got:?}");
    ensure!(!got.contains("PONG"), "the raw reply is {got:?}");
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
    python(bed, APP1, "r.set('a', 'kept')")?;
    bed.kill_agent()?;
    let script = "import socket, os\n\
        try:\n    \
            socket.create_connection((os.environ['VALKEY_HOST'], int(os.environ['VALKEY_PORT'])), 5)\n    \
            print('connected')\n\
        except ConnectionRefusedError: print('refused')";
    let got = output(bed.python(APP1)?.args(["-c", script]))?;
    ensure!(got == "refused", "without an agent the app is {got}");
    bed.start_agent()?;
    let got = python(bed, APP1, "print(r.get('a'))")?;
    ensure!(got == "b'kept'", "after the restart app1 reads {got}");
    Ok(())
}

/// A neighbour that writes, publishes and flushes under the same names changes nothing.
fn a_busy_neighbour_is_not_seen(bed: &Bed) -> Result<()> {
    bed.start_neighbour("store1")?;
    let got = python(
        bed,
        APP1,
        "p = r.pubsub(); p.psubscribe('*'); p.get_message(timeout=5)\n\
         for i in range(100):\n    \
            r.set(f'k{i}', i); r.rpush('list', i); time.sleep(0.005)\n\
         assert [int(r.get(f'k{i}')) for i in range(100)] == list(range(100))\n\
         assert r.llen('list') == 100 and r.dbsize() == 101\n\
         print(p.get_message(timeout=0.1))",
    )?;
    ensure!(got == "None", "app1 hears {got}");
    let got = python(bed, NEIGHBOUR, "print(r.info('commandstats') is not None)")?;
    ensure!(got == "True", "the neighbour says {got}");
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
