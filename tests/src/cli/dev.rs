//! `flect dev` for an ordinary user: stores that work, keep their data, and are alone.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context, Result, ensure};

use super::Body;
use super::project::{Ended, NOBODY, Project, TWO, node};
use crate::tools::Programs;

pub const TRIALS: &[(&str, Body)] = &[
    ("dev_gives_stores_without_root", stores),
    ("dev_keeps_secrets", secrets),
    ("dev_forgets_when_asked", ephemeral),
    ("dev_is_one_in_a_project", one),
    ("dev_says_how_to_get_valkey", no_valkey),
    ("dev_respects_env_local", local),
];

/// `flect dev ARGS -- node -e SCRIPT`.
fn scripted(project: &Project, args: &[&str], script: &str) -> Result<Ended> {
    let script = node(script)?;
    let script = script.iter().map(String::as_str);
    let args: Vec<&str> = args.iter().copied().chain(script).collect();
    Ended::of(&mut project.dev(&args)?)
}

/// Two stores know nothing of each other, and find their keys again.
fn stores() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    let first = "const a = store('CACHE_URL'), b = store('SESSION_STORE_URL'); \
        await a.set('k', 'one'); await b.set('k', 'two'); await b.hset('h', 'f', 'v'); \
        const sub = store('CACHE_URL'), heard = []; sub.on('message', (c, m) => heard.push(m)); \
        await sub.subscribe('news'); await b.publish('news', 'foreign'); await a.publish('news', 'own'); \
        while (!heard.length) await new Promise(r => setTimeout(r, 10)); \
        console.log(process.getuid(), await a.get('k'), await b.get('k'), \
            (await a.keys('*')).sort().join(), (await b.keys('*')).sort().join(), heard.join()); \
        await b.flushall(); console.log(await a.dbsize(), await b.dbsize()); \
        try { await a.config('SET', 'maxmemory', '1') } catch (error) { console.log(error.message) }";
    let ran =
        scripted(&project, &[], first)?.expect(0, &format!("{NOBODY} one two k h,k own\n1 0\n"))?;
    ensure!(ran.stdout.contains("NOPERM CONFIG SET"), "{ran:?}");
    let urls = |ran: &Ended| ran.stdout.trim().to_owned();
    let again = "console.log(process.env.CACHE_URL, process.env.SESSION_STORE_URL); \
        if (await store('CACHE_URL').get('k') !== 'one') process.exitCode = 1";
    let second = scripted(&project, &[], again)?.expect(0, "redis://store1:")?;
    let third = scripted(&project, &[], again)?.expect(0, "redis://store1:")?;
    ensure!(
        urls(&second) == urls(&third),
        "URLs changed: {second:?} {third:?}"
    );
    // One store's token does not open the other.
    let crossed = "const url = new URL(process.env.CACHE_URL); url.username = 'store2'; \
        const r = new Redis(url.href, { retryStrategy: null, maxRetriesPerRequest: 0 }); \
        all.push(r); r.on('error', () => {}); \
        try { await r.get('k'); console.log('open') } catch { console.log('shut') }";
    scripted(&project, &[], crossed)?.expect(0, "shut")?;
    Ok(())
}

/// Files are the user's alone; no secret is in an argument list.
fn secrets() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    let look = "const fs = require('fs'); \
        const token = new URL(process.env.CACHE_URL).password; \
        const password = fs.readFileSync('.flect/valkey.password', 'utf8'); \
        let servers = 0; \
        for (const pid of fs.readdirSync('/proc').filter(n => /^[0-9]+$/.test(n))) { \
            let line = ''; try { line = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8') } catch {} \
            if (line.includes('valkey-server')) servers++; \
            if (pid != process.pid && (line.includes(token) || line.includes(password))) console.log('leak', line) } \
        console.log('servers', servers > 0)";
    let ran = scripted(&project, &[], look)?.expect(0, "servers true")?;
    ensure!(!ran.stdout.contains("leak"), "{ran:?}");
    let folder = project.path().join(".flect");
    ensure!(
        fs::metadata(&folder)?.mode() & 0o777 == 0o700,
        "others may look into .flect"
    );
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        ensure!(
            meta.mode() & 0o077 == 0 && meta.uid() == NOBODY,
            "{:?}",
            entry.file_name()
        );
    }
    ensure!(
        !folder.join("valkey.password").exists(),
        "a password was left behind"
    );
    let ignored = fs::read_to_string(folder.join(".gitignore"))?;
    ensure!(ignored.lines().any(|line| line == "*"), "{ignored}");
    Ok(())
}

fn ephemeral() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    let script = "const r = store('CACHE_URL'); console.log(await r.incr('n'), process.env.FLECT_CONFIG_DIR)";
    for _ in 0..2 {
        let ran = scripted(&project, &["--ephemeral"], script)?.expect(0, "1 /")?;
        let folder = ran
            .stdout
            .trim()
            .split(' ')
            .nth(1)
            .context("no folder")?
            .to_owned();
        ensure!(!fs::exists(&folder)?, "{folder} was left behind");
    }
    ensure!(!project.path().join(".flect").exists(), ".flect was made");
    Ok(())
}

/// A second one in the project is told of the first; flect inside works on its environment.
fn one() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    let flect = Programs::beside_current()?.flect;
    let valkey = crate::tools::program("valkey-server")?;
    let inside = format!(
        "'{flect}' dev --valkey '{valkey}' -- true; echo code $?; \
         '{flect}' dev --ephemeral --valkey '{valkey}' -- echo beside; \
         '{flect}' kv list --json; '{flect}' check; '{flect}' --socket .flect/agent.sock status",
        flect = flect.display(),
        valkey = valkey.display()
    );
    // The outer one has set the variables, and they would satisfy the inner ones.
    let inside = format!("unset CACHE_URL SESSION_STORE_URL; {inside}");
    let ran = Ended::of(&mut project.dev(&["--", "sh", "-c", &inside])?)?
        .expect(0, "another flect dev (pid ")?;
    for said in [
        "code 125",
        "beside",
        "\"environment\": \"dev\"",
        "the stores exist in environment dev",
        "ready",
    ] {
        ensure!(ran.stdout.contains(said), "not '{said}': {ran:?}");
    }
    Ok(())
}

fn no_valkey() -> Result<()> {
    // A copy finds nothing beside itself.
    let alone = tempfile::tempdir()?;
    let flect = alone.path().join("flect");
    fs::copy(Programs::beside_current()?.flect, &flect)?;
    let project = Project::new(TWO)?.with_flect(flect);
    let system = [
        "/usr/sbin",
        "/usr/local/sbin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
    ];
    let has_one = |folder: &&str| {
        ["valkey-server", "redis-server"]
            .iter()
            .any(|name| std::path::Path::new(folder).join(name).exists())
    };
    if !system.iter().any(has_one) {
        let ran = Ended::of(
            project
                .flect(&["dev", "--", "true"])
                .env("PATH", "/nonexistent"),
        )?
        .expect(125, "sudo apt install valkey-server")?;
        for said in [
            "brew install valkey",
            "docker run -d -p 6379:6379 valkey/valkey:8-alpine",
            "CACHE_URL=redis://localhost:6379\n",
            "SESSION_STORE_URL=redis://localhost:6379/1",
        ] {
            ensure!(ran.stderr.contains(said), "not '{said}': {ran:?}");
        }
    }
    Ended::of(&mut project.flect(&["dev", "--valkey", "/bin/echo", "--", "true"]))?
        .expect(125, "/bin/echo is no valkey-server")?;
    Ended::of(&mut project.flect(&["dev", "--valkey", "/nonexistent", "--", "true"]))?
        .expect(125, "cannot run /nonexistent")?;
    let old = project.write("old", "#!/bin/sh\necho Redis server v=7.0.15 sha=0\n")?;
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let old = old.to_str().context("the path")?.to_owned();
    Ended::of(&mut project.flect(&["dev", "--valkey", &old, "--", "true"]))?
        .expect(125, "is version 7.0; flect needs 7.2 or newer")?;
    Ok(())
}

/// With everything in .env.local there is nothing to start; with a part of it the rest is.
fn local() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    project.write(
        ".env.local",
        "CACHE_URL=redis://a\nSESSION_STORE_URL=redis://b\nMORE=1\n",
    )?;
    let show = ["--", "sh", "-c", "echo $CACHE_URL $SESSION_STORE_URL $MORE"];
    Ended::of(&mut project.dev(&show)?)?.expect(0, "redis://a redis://b 1")?;
    ensure!(!project.path().join(".flect").exists(), ".flect was made");
    Ended::of(&mut project.dev::<&str>(&[])?)?.expect(125, "there is nothing to start")?;
    project.write(".env.local", "CACHE_URL=redis://a\n")?;
    let ran = Ended::of(&mut project.dev(&show)?)?.expect(0, "redis://a redis://store2:")?;
    ensure!(ran.stderr.contains("CACHE_URL from .env.local"), "{ran:?}");
    Ok(())
}
