//! The users' command against a real environment: stores, environments, `flect doctor`.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::bed::{Bed, UNCLAIMED};

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let all: [(&str, Body); 7] = [
        ("stores", stores),
        ("names_and_limits", names_and_limits),
        ("environments", environments),
        (
            "an_older_registry_is_migrated",
            an_older_registry_is_migrated,
        ),
        ("a_newer_registry_is_refused", a_newer_registry_is_refused),
        ("doctor", doctor),
        ("an_intercepted_shell_is_told", an_intercepted_shell_is_told),
    ];
    all.into_iter()
        .map(|(name, run)| {
            Trial::test(format!("operator::{name}"), move || {
                run().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// A command's end, as scripts see it.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("no JSON: {}{}", self.stdout, self.stderr))
    }

    /// Fails unless the command ended with this code and said this.
    fn expect(self, code: i32, said: &str) -> Result<Self> {
        ensure!(
            self.code == code && (self.stdout.contains(said) || self.stderr.contains(said)),
            "ended with {} instead of {code}, or did not say '{said}':\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

fn ended(command: &mut Command) -> Result<Ended> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().context("starting flect")?;
    Ok(Ended {
        code: status.code().context("flect was killed")?,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

fn flect(bed: &Bed, args: &[&str]) -> Result<Ended> {
    ended(bed.flect()?.args(args))
}

fn stores() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    flect(&bed, &["kv", "list"])?.expect(0, "no stores yet: flect kv create NAME")?;
    flect(&bed, &["kv", "create", "my-cache"])?.expect(0, "created store my-cache")?;
    flect(&bed, &["kv", "create", "my-cache"])?.expect(1, "there is a store 'my-cache' already")?;
    flect(&bed, &["kv", "create", "My_Cache"])?.expect(2, "'My_Cache' is no store name")?;
    flect(&bed, &["kv", "show", "my-cash"])?.expect(4, "did you mean 'my-cache'?")?;
    let shown = flect(&bed, &["kv", "show", "my-cache", "--json"])?.json()?;
    let prefix = shown["prefix"].as_str().context("no prefix")?;
    ensure!(
        prefix.len() == 7 && prefix.starts_with('{') && prefix.ends_with('}'),
        "{shown}"
    );
    let listed = flect(&bed, &["kv", "list", "--json"])?.json()?;
    ensure!(listed["stores"][0]["prefix"] == prefix, "{listed}");
    ensure!(listed["environment"] == "default", "{listed}");
    let text = flect(&bed, &["kv", "ls"])?.expect(0, "my-cache")?.stdout;
    ensure!(!text.contains('\u{1b}'), "colours in a pipe: {text}");
    let coloured = flect(&bed, &["kv", "ls", "--color", "always"])?.stdout;
    ensure!(coloured.contains('\u{1b}'), "no colours: {coloured}");
    Ok(())
}

fn names_and_limits() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let limits = ["kv", "create", "a", "--max-memory", "10mb", "--rate", "50"];
    flect(&bed, &limits)?.expect(0, "created")?;
    let set = [
        "kv",
        "set",
        "a",
        "--rate",
        "none",
        "--max-connections",
        "7",
        "--json",
    ];
    let shown = flect(&bed, &set)?.json()?;
    let expected = serde_json::json!({
        "memory_bytes": 10_485_760, "connections": 7, "upstreams": null, "buffer_bytes": null,
        "commands_per_second": null
    });
    ensure!(shown["limits"] == expected, "{shown}");
    flect(&bed, &["kv", "set", "a"])?.expect(1, "nothing to set")?;
    flect(&bed, &["kv", "set", "a", "--rate", "0"])?.expect(2, "'none' takes the limit away")?;

    let prefix = shown["prefix"].clone();
    flect(&bed, &["kv", "rename", "a", "b"])?.expect(0, "called b now")?;
    // The earlier name finds it, until somebody else is called so.
    let renamed = flect(&bed, &["kv", "show", "a", "--json"])?.json()?;
    ensure!(
        renamed["name"] == "b" && renamed["prefix"] == prefix && renamed["earlier_names"][0] == "a",
        "{renamed}"
    );
    flect(&bed, &["kv", "create", "a"])?.expect(0, "created")?;
    let new = flect(&bed, &["kv", "show", "a", "--json"])?.json()?;
    ensure!(new["name"] == "a" && new["prefix"] != prefix, "{new}");
    flect(&bed, &["kv", "rename", "b", "a"])?.expect(1, "there is a store 'a' already")?;

    let token = flect(&bed, &["kv", "token", "b", "--new"])?;
    ensure!(token.stdout.trim().len() == 64, "{}", token.stdout);
    let mut operator = bed.operator()?;
    let registry = operator.command(&["HGET", "flect:{registry}:stores", "b"])?;
    ensure!(
        !registry.text().contains(token.stdout.trim()),
        "the registry holds the token itself"
    );
    flect(&bed, &["kv", "token", "b"])?.expect(0, "b has a token")?;
    flect(&bed, &["kv", "token", "b", "--remove"])?.expect(0, "b has no token")?;
    Ok(())
}

fn environments() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let own = bed.folder().join("own");
    fs::create_dir(&own)?;
    let flect = |args: &[&str]| ended(bed.flect()?.env("FLECT_CONFIG_DIR", &own).args(args));
    flect(&["kv", "list"])?.expect(3, "flect env add NAME --address HOST:PORT")?;
    let address = bed.address().to_string();
    for name in ["staging", "production"] {
        flect(&["env", "add", name, "--address", &address])?.expect(0, "is known")?;
    }
    flect(&["env", "add", "gone", "--address", "127.0.0.1:1"])?.expect(3, "127.0.0.1:1")?;
    flect(&["kv", "list"])?.expect(
        3,
        "no environment selected: flect env use NAME; known: production, staging",
    )?;
    flect(&["env", "use", "prod"])?.expect(3, "known: production, staging")?;
    flect(&["env", "use", "production"])?.expect(0, "environment production from now on")?;
    let listed = flect(&["env", "list", "--json"])?.json()?;
    ensure!(
        listed[0]["selected"] == true && listed[1]["selected"] == false,
        "{listed}"
    );
    flect(&["kv", "list", "--env", "staging"])?.expect(0, "environment staging has no stores")?;

    let set = [
        "env",
        "set",
        "--max-memory",
        "64mb",
        "--eviction-policy",
        "allkeys-lru",
    ];
    flect(&set)?.expect(0, "of 64.0 MiB, eviction allkeys-lru")?;
    let mut operator = bed.operator()?;
    let policy = operator.command(&["CONFIG", "GET", "maxmemory-policy"])?;
    ensure!(
        policy.sorted().contains(&"allkeys-lru".to_owned()),
        "{policy}"
    );
    flect(&["env", "set", "--eviction-policy", "lru"])?.expect(2, "possible values")?;
    flect(&["env", "remove", "staging"])?.expect(0, "forgotten")?;
    flect(&["env", "remove", "staging"])?.expect(1, "names no environment 'staging'")?;

    fs::write(
        own.join("environments.toml"),
        "[environment.x]\nadress = \"a:1\"\n",
    )?;
    flect(&["env", "list"])?.expect(3, "line 2")?;
    Ok(())
}

/// The layout before schema 1 had two plain hashes and a key of its own.
fn an_older_registry_is_migrated() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let mut operator = bed.operator()?;
    for command in [
        ["HSET", "flect:stores", "store1", "{aaaaa}"],
        ["HSET", "flect:prefixes", "{aaaaa}", "store1"],
        ["HSET", "flect:prefixes", "{bbbbb}", "in-vain"],
    ] {
        operator.command(&command)?;
    }
    operator.command(&["SET", "flect:user-key", &"ab".repeat(32)])?;
    bed.start_agent()?;
    ensure!(
        bed.prefix("store1")? == "{aaaaa}",
        "the store lost its keys"
    );
    let left = operator.command(&["EXISTS", "flect:stores", "flect:prefixes", "flect:user-key"])?;
    ensure!(left.text() == "0", "{left}");
    let claimed = operator.command(&["HGET", "flect:{registry}:prefixes", "{bbbbb}"])?;
    ensure!(
        claimed.text() == "in-vain",
        "a claimed prefix may be given again"
    );
    let mut app = bed.connect("app1")?;
    app.command(&["SET", "k", "v"])?;
    let stored = operator.command(&["EXISTS", "{aaaaa}:k"])?;
    ensure!(stored.text() == "1", "{stored}");
    Ok(())
}

fn a_newer_registry_is_refused() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let mut operator = bed.operator()?;
    operator.command(&["HSET", "flect:{registry}:meta", "schema", "99"])?;
    flect(&bed, &["kv", "list"])?.expect(1, "upgrade flect")?;
    Ok(())
}

fn doctor() -> Result<()> {
    let bed = Bed::builder().start()?;
    let find = |report: &Value, what: &str| -> Result<Value> {
        let all = report.as_array().context("no list")?;
        let found = all.iter().find(|finding| finding["what"] == what);
        Ok(found
            .with_context(|| format!("nothing about {what}: {report}"))?
            .clone())
    };
    let report = flect(&bed, &["doctor", "--json"])?
        .expect(0, "verdict")?
        .json()?;
    for what in [
        "kernel",
        "cgroup v2",
        "agent.toml",
        "agent",
        "server",
        "operator's rights",
    ] {
        let finding = find(&report, what)?;
        ensure!(finding["verdict"] == "good", "{finding}");
    }
    let mut operator = bed.operator()?;
    operator.command(&["ACL", "SETUSER", "default", "-acl|setuser", "-unlink"])?;
    let report = flect(&bed, &["doctor", "--json"])?
        .expect(1, "verdict")?
        .json()?;
    let rights = find(&report, "operator's rights")?;
    let detail = rights["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains("ACL SETUSER") && detail.contains("UNLINK"),
        "{rights}"
    );
    bed.kill_agent()?;
    let report = flect(&bed, &["doctor", "--json"])?.json()?;
    ensure!(find(&report, "agent")?["verdict"] == "warning", "{report}");
    Ok(())
}

/// `flect` in a cgroup that no app claims: its own connection goes to the agent, who refuses it.
fn an_intercepted_shell_is_told() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut command = bed.flect()?;
    bed.place(UNCLAIMED, &mut command)?;
    ended(command.args(["kv", "list"]))?.expect(
        3,
        "this node's agent takes the connection for an app's (no app of this node claims the cgroup",
    )?;
    Ok(())
}
