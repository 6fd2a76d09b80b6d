//! A Valkey that speaks TLS and asks for certificates, behind apps that speak neither.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Body;
use super::certificates::{Authority, Pair};
use crate::bed::agent::wait_until;
use crate::bed::ports::{self, Reserved};
use crate::bed::{APP1, Bed};
use crate::monitoring::reload::reload;
use crate::smoke::output;

pub const BODIES: [(&str, Body); 2] = [
    ("tls_carries_a_whole_conversation", conversation),
    ("tls_trusts_nobody_else", strangers),
];

/// For what an agent does by itself within seconds.
const SOON: Duration = Duration::from_secs(30);

/// A bed whose Valkey listens with TLS at a second port. The agent is not started.
struct Town {
    bed: Bed,
    files: TempDir,
    port: Reserved,
    authority: Authority,
    own: Pair,
}

impl Town {
    fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let authority = Authority::new("a trial's")?;
        let ca = files.path().join("ca.crt");
        authority.write(&ca)?;
        let server = authority.sign(files.path(), "server", &["localhost", "127.0.0.1"])?;
        let own = authority.sign(files.path(), "agent", &["flect"])?;
        let port = ports::reserve()?;
        let shown = |path: &std::path::Path| path.display().to_string();
        let bed = Bed::builder()
            .valkey_option("--tls-port", &port.number().to_string())
            .valkey_option("--tls-cert-file", &shown(&server.certificate))
            .valkey_option("--tls-key-file", &shown(&server.key))
            .valkey_option("--tls-ca-cert-file", &shown(&ca))
            .agent_later()
            .start()?;
        Ok(Self {
            bed,
            files,
            port,
            authority,
            own,
        })
    }

    /// Lets the agent connect with TLS, while apps go on to connect to the plain port.
    fn configure(&self, tls: &str) -> Result<()> {
        let path = self.bed.config_path();
        let text = fs::read_to_string(path)?;
        let plain = format!("address = \"{}\"", self.bed.address());
        ensure!(text.contains(&plain), "another configuration: {text}");
        let port = self.port.number();
        let text = text
            .replace(&plain, &format!("address = \"127.0.0.1:{port}\""))
            .replace(
                "\n[intercept]\n",
                &format!("\n[valkey.tls]\n{tls}\n[intercept]\n"),
            );
        fs::write(path, text)?;
        Ok(())
    }

    /// `ca = ...` and the agent's certificate.
    fn keys(&self, certificate: bool) -> String {
        let mut keys = format!("ca = \"{}\"\n", self.files.path().join("ca.crt").display());
        if certificate {
            keys += &format!(
                "certificate = \"{}\"\nkey = \"{}\"\n",
                self.own.certificate.display(),
                self.own.key.display()
            );
        }
        keys
    }
}

/// What a client does in a day. Replies of megabytes come back on connections of their own.
const CONVERSATION: &str = "import os, threading, time, redis\n\
    for protocol in (2, 3):\n\
    \x20   r = redis.Redis.from_url(os.environ['CACHE_URL'], protocol=protocol, socket_timeout=60)\n\
    \x20   r.flushall()\n\
    \x20   for size in (1, 16383, 16384, 16385, 70000, 9_000_000):\n\
    \x20       value = os.urandom(size); r.set('v', value); assert r.get('v') == value, size\n\
    \x20   p = r.pipeline(transaction=False)\n\
    \x20   for n in range(20000): p.set(f'k{n}', n)\n\
    \x20   p.execute()\n\
    \x20   assert len(r.keys('k*')) == 20000 and r.dbsize() == 20001\n\
    \x20   t = r.pipeline(); t.incr('n'); t.get('k7'); assert t.execute() == [1, b'7']\n\
    \x20   s = r.pubsub(); s.subscribe('news'); s.psubscribe('n*s')\n\
    \x20   while s.get_message(timeout=20)['type'] != 'psubscribe': pass\n\
    \x20   r.publish('news', b'x' * 300000)\n\
    \x20   got = sorted(s.get_message(timeout=20)['type'] for _ in range(2))\n\
    \x20   assert got == ['message', 'pmessage'], got\n\
    \x20   later = threading.Timer(0.3, lambda: r.rpush('list', 'pushed')); later.start()\n\
    \x20   assert list(r.blpop('list', 30)) == [b'list', b'pushed']\n\
    \x20   assert r.eval('return redis.call(\"GET\", KEYS[1])', 1, 'k9') == b'9'\n\
    \x20   r.function_load('#!lua name=l\\nredis.register_function(\"f\", function() return 5 end)', replace=True)\n\
    \x20   assert r.fcall('f', 0) == 5\n\
    \x20   r.function_delete('l')\n\
    print('done')";

fn conversation() -> Result<()> {
    let town = Town::new()?;
    town.configure(&town.keys(true))?;
    town.bed.start_agent()?;
    let got = output(town.bed.python(APP1)?.args(["-c", CONVERSATION]))
        .with_context(|| town.bed.agent_log())?;
    ensure!(got == "done", "{got}");
    // All that the agent has is encrypted, and the operator's commands are, too.
    let clients = town.bed.operator()?.command(&["CLIENT", "LIST"])?.text();
    let end = format!(":{} ", town.port.number());
    let own = |line: &&str| line.contains(" user=flect.");
    let plain = clients.lines().filter(own);
    let plain: Vec<_> = plain
        .filter(|line| {
            let place = line.split("laddr=").nth(1).unwrap_or_default();
            !place
                .split_inclusive(' ')
                .next()
                .unwrap_or_default()
                .ends_with(&end)
        })
        .collect();
    ensure!(
        plain.is_empty() && clients.lines().any(|line| own(&line)),
        "{clients}"
    );
    let list = output(town.bed.flect()?.args(["kv", "list"]))?;
    ensure!(list.contains("store1"), "{list}");
    // Apps are told of the address that they asked for, and none but the agent has a certificate.
    let told = town.bed.connect(APP1)?.command(&["CLIENT", "INFO"])?.text();
    let asked = format!("laddr={}", town.bed.address());
    ensure!(told.contains(&asked), "{told}");
    Ok(())
}

/// A server that somebody else vouches for, and an agent without a certificate: neither works, both are told
/// of, and once the files are mended the agent serves without a restart.
fn strangers() -> Result<()> {
    let town = Town::new()?;
    let ca = town.files.path().join("ca.crt");
    Authority::new("somebody else's")?.write(&ca)?;
    town.configure(&town.keys(true))?;
    town.bed.spawn_agent_with("A=1")?;
    let says = |word: &str| {
        wait_until(SOON, || Ok(town.bed.agent_log().contains(word)))
            .with_context(|| format!("no '{word}' in {}", town.bed.agent_log()))
    };
    says("UnknownIssuer")?;
    says("valkey.tls")?;
    ensure!(town.bed.status()?["ready"] == false, "it serves");
    town.authority.write(&ca)?;
    town.bed.wait_until_ready()?;
    let mut app = town.bed.connect(APP1)?;
    ensure!(app.command(&["SET", "a", "b"])?.text() == "OK", "it serves");
    // A reload that would end in nothing is not taken.
    let stranger =
        Authority::new("somebody else's")?.sign(town.files.path(), "stranger", &["flect"])?;
    fs::copy(&stranger.certificate, &town.own.certificate)?;
    fs::copy(&stranger.key, &town.own.key)?;
    let told = reload(&town.bed)?;
    let error = told["error"].as_str().unwrap_or_default();
    ensure!(error.contains("UnknownCA"), "{told}");
    ensure!(app.command(&["GET", "a"])?.text() == "b", "it goes on");
    // A certificate that is renewed is shown from then on, by new connections.
    let renewed = town
        .authority
        .sign(town.files.path(), "agent", &["flect"])?;
    ensure!(renewed.key == town.own.key, "the same files");
    let told = reload(&town.bed)?;
    ensure!(told["error"].is_null(), "{told}");
    town.bed.stop_agent()?;

    let text = fs::read_to_string(town.bed.config_path())?;
    fs::write(
        town.bed.config_path(),
        text.replace(&town.keys(true), &town.keys(false)),
    )?;
    town.bed.spawn_agent_with("A=1")?;
    says("CertificateRequired")?;
    ensure!(town.bed.status()?["ready"] == false, "it serves");
    Ok(())
}
