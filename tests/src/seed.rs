//! The users' documentation, line by line: what it shows is done here as it is written, with the
//! names that it uses.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::bed::Bed;
use crate::smoke::output;
use crate::tools;

/// The documentation's flect.toml, its first store and its several, and the app they belong to.
const MANIFEST: &str = r#"app = "shop"

[[kv]]
binding = "CACHE" # becomes CACHE_URL env var in the app
name = "my-cache" # KV slug from flect kv list

[[kv]]
binding = "SESSION_STORE"
name = "sessions"
[[kv]]
binding = "RATE_LIMIT"
name = "rate-limiter"
"#;

/// The platform engineer's part, so that `shop` may have these stores.
const APPS: &str = r#"
[[app]]
name = "shop"
cgroups = ["/*/apps/shop"]
stores = ["my-cache", "sessions", "rate-limiter"]

[[app]]
name = "other"
cgroups = ["/*/apps/other"]
stores = ["others"]
"#;

/// What a trial does in a town.
type Body = fn(&Town) -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let all: [(&str, Body); 4] = [
        ("stores_are_made_and_listed", stores_are_made_and_listed),
        ("the_code_does_what_it_says", the_code_does_what_it_says),
        (
            "a_local_valkey_takes_its_place",
            a_local_valkey_takes_its_place,
        ),
        ("memory_is_the_environments", memory_is_the_environments),
    ];
    all.into_iter()
        .map(|(name, body)| {
            Trial::test(format!("seed::{name}"), move || {
                let run = || {
                    let town = Town::new()?;
                    body(&town)
                        .with_context(|| format!("the agent's log:\n{}", town.bed.agent_log()))
                };
                run().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// A node with the documentation's app, and the app's folder.
struct Town {
    bed: Bed,
    project: TempDir,
}

impl Town {
    fn new() -> Result<Self> {
        let bed = Bed::builder()
            .create_stores(false)
            .config_tail(APPS)
            .start()?;
        let project = tempfile::tempdir()?;
        fs::write(project.path().join("flect.toml"), MANIFEST)?;
        fs::write(project.path().join("app.mjs"), include_str!("seed/app.mjs"))?;
        // As `npm install @flect/sdk` leaves it.
        symlink(
            tools::sdk_app().join("node_modules"),
            project.path().join("node_modules"),
        )?;
        Ok(Self { bed, project })
    }

    fn flect(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.bed.flect()?;
        for binding in ["CACHE", "SESSION_STORE", "RATE_LIMIT"] {
            command.env_remove(format!("{binding}_URL"));
        }
        command.current_dir(self.project.path()).args(args);
        Ok(command)
    }

    fn create(&self, names: &[&str]) -> Result<()> {
        for name in names {
            output(&mut self.flect(&["kv", "create", name])?)?;
        }
        Ok(())
    }

    fn run_app(&self) -> Result<String> {
        let node = tools::program("node")?;
        output(self.flect(&["run", "--"])?.arg(node).arg("app.mjs"))
    }
}

fn stores_are_made_and_listed(town: &Town) -> Result<()> {
    let before = output(&mut town.flect(&["kv", "list"])?)?;
    ensure!(before.contains("no stores yet"), "{before}");
    town.create(&["my-cache"])?;
    let listed = output(&mut town.flect(&["kv", "list"])?)?;
    ensure!(listed.contains("my-cache"), "{listed}");
    Ok(())
}

fn the_code_does_what_it_says(town: &Town) -> Result<()> {
    town.create(&["my-cache", "sessions", "rate-limiter", "others"])?;
    let said = town.run_app()?;
    ensure!(said.ends_with("all as documented"), "{said}");

    // Keys are stored as <prefix>:my-key, each store's under its own prefix.
    let mut operator = town.bed.operator()?;
    for (store, key) in [
        ("my-cache", "my-key"),
        ("my-cache", "hits:today"),
        ("sessions", "session:*"),
        ("rate-limiter", "rl:10.0.0.1:*"),
    ] {
        let prefix = town.bed.prefix(store)?;
        let stored = operator.command(&["KEYS", &format!("{prefix}:{key}")])?;
        ensure!(stored.items().len() == 1, "{store}: {key}: {stored}");
    }
    // No way across: not from another app, and not from one store of the app to another.
    let mut other = town.bed.connect("other")?;
    ensure!(
        other.command(&["KEYS", "*"])?.items().is_empty(),
        "names cross"
    );
    ensure!(
        other.command(&["GET", "my-key"])?.text() == "(nil)",
        "a value crosses"
    );
    let prefix = town.bed.prefix("my-cache")?;
    let guessed = other.command(&["GET", &format!("{prefix}:my-key")])?;
    ensure!(
        guessed.text() == "(nil)",
        "a guessed name crosses: {guessed}"
    );
    Ok(())
}

/// `.env.local` names a Valkey of the developer's own; flect needs no agent then.
fn a_local_valkey_takes_its_place(town: &Town) -> Result<()> {
    let local = Bed::builder().direct(true).start()?;
    let port = local.address().port();
    let lines = ["CACHE", "SESSION_STORE", "RATE_LIMIT"]
        .map(|binding| format!("{binding}_URL=redis://localhost:{port}\n"));
    fs::write(town.project.path().join(".env.local"), lines.concat())?;
    let said = town.run_app();
    // All three bindings share one plain database here, so only what came before that counts.
    let text = match &said {
        Ok(said) => said.clone(),
        Err(error) => format!("{error:#}"),
    };
    ensure!(text.contains("connected to localhost"), "{text}");
    let stored = local.operator()?.command(&["GET", "my-key"])?;
    ensure!(stored.text() == "value", "{stored}");
    Ok(())
}

fn memory_is_the_environments(town: &Town) -> Result<()> {
    town.create(&["my-cache", "sessions", "rate-limiter"])?;
    let set = [
        "env",
        "set",
        "--max-memory",
        "64mb",
        "--eviction-policy",
        "allkeys-lru",
    ];
    output(&mut town.flect(&set)?)?;
    let mut app = town.bed.connect("shop")?;
    let info = app.command(&["INFO", "memory"])?.text();
    ensure!(info.contains("maxmemory:67108864"), "{info}");
    ensure!(info.contains("maxmemory_policy:allkeys-lru"), "{info}");
    Ok(())
}
