//! `flect run`: apps, variables, and that the command is itself.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Body;
use super::project::{Ended, NOBODY, Project, TWO, node};
use crate::bed::{APP1, Bed};
use crate::smoke::check;

pub const TRIALS: &[(&str, Body)] = &[
    ("run_as_a_permitted_user", permitted),
    ("run_chooses_the_app", chooses),
    ("run_refuses", refuses),
    ("run_tells_of_missing_stores", missing),
    ("run_needs_no_agent_for_what_is_set", local),
    ("run_becomes_the_command", becomes),
];

/// `flect ARGS` in a project, with a bed's agent.
fn flect(bed: &Bed, project: &Project, args: &[&str]) -> Result<Command> {
    let mut command = bed.flect()?;
    command.current_dir(project.path()).stdin(Stdio::null());
    command.env("NODE_PATH", crate::tools::node_modules());
    for name in ["CACHE_URL", "SESSION_STORE_URL"] {
        command.env_remove(name);
    }
    project.own(&mut command);
    command.args(args);
    Ok(command)
}

fn permitted() -> Result<()> {
    let bed = Bed::builder().stores(2).users(&["65534"]).start()?;
    let project = Project::of_nobody(TWO)?;
    let script = "await store('CACHE_URL').set('a', 'one'); \
        await store('SESSION_STORE_URL').set('a', 'two'); \
        console.log(await store('CACHE_URL').get('a'), await store('CACHE_URL').keys('*')); \
        console.log(require('fs').readFileSync('/proc/self/cgroup', 'utf8')); \
        console.log(process.getuid()); process.exitCode = 7";
    let mut args = vec!["run".to_owned(), "-v".to_owned()];
    args.extend(node(script)?);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = Ended::of(&mut flect(&bed, &project, &args)?)?.expect(7, "one [ 'a' ]")?;
    ensure!(ran.stdout.contains("/flect.run/app1/"), "{ran:?}");
    ensure!(ran.stdout.contains(&NOBODY.to_string()), "{ran:?}");
    ensure!(
        ran.stderr
            .contains("CACHE_URL from store store1 of app app1"),
        "{ran:?}"
    );
    let mut operator = bed.operator()?;
    for (store, value) in [("store1", "one"), ("store2", "two")] {
        check(
            &mut operator,
            &format!("GET {}:a", bed.prefix(store)?),
            value,
        )?;
    }
    // The URLs, without running anything.
    let printed = flect(&bed, &project, &["run", "--print-env", "--json"])?.output()?;
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout)?;
    let address = bed.address();
    let expected = serde_json::json!({ "app": "app1", "variables": {
        "CACHE_URL": format!("redis://{address}"),
        "SESSION_STORE_URL": format!("redis://store2:store2@{address}"),
    }});
    ensure!(printed == expected, "{printed}");
    // Nothing of flect stays open in the command.
    let count = ["run", "--", "sh", "-c", "ls /proc/self/fd | wc -l"];
    let own = Command::new("sh")
        .args(["-c", "ls /proc/self/fd | wc -l"])
        .stdin(Stdio::null())
        .output()?;
    Ended::of(&mut flect(&bed, &project, &count)?)?
        .expect(0, String::from_utf8_lossy(&own.stdout).trim())?;
    Ok(())
}

fn chooses() -> Result<()> {
    let bed = Bed::builder().stores(2).start()?;
    let project = Project::new(TWO)?;
    fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let show = ["--", "sh", "-c", "cat /proc/self/cgroup; echo $CACHE_URL"];
        [&["run"], more, &show].concat()
    }
    // Root may run them all, so it must say which.
    Ended::of(&mut flect(&bed, &project, &run(&[]))?)?.expect(
        125,
        "which app? you may run app1, app2, neighbour; choose with --app NAME",
    )?;
    Ended::of(&mut flect(&bed, &project, &run(&["--app", "app1"]))?)?
        .expect(0, "/flect.run/app1/")?;
    // Inside an app already: it stays where it is.
    let mut inside = flect(&bed, &project, &run(&[]))?;
    bed.place(APP1, &mut inside)?;
    let ran = Ended::of(&mut inside)?.expect(0, "/apps/app1")?;
    ensure!(!ran.stdout.contains("flect.run"), "{ran:?}");
    // The manifest says it; the command line says more.
    let own = "app = \"app2\"\n[[kv]]\nbinding = \"CACHE\"\nname = \"app2\"\n";
    project.write("flect.toml", own)?;
    Ended::of(&mut flect(&bed, &project, &run(&[]))?)?.expect(0, "/flect.run/app2/")?;
    Ended::of(&mut flect(&bed, &project, &run(&["--app", "app1"]))?)?.expect(
        125,
        "flect.toml:4:8: store 'app2' is not among app app1's stores (store1, store2); its operator adds it in agent.toml",
    )?;
    Ok(())
}

fn refuses() -> Result<()> {
    let bed = Bed::builder().stores(2).users(&["65534"]).start()?;
    let project = Project::of_nobody(TWO)?;
    let run = |args: &[&str]| Ended::of(&mut flect(&bed, &project, &[&["run"], args].concat())?);
    run(&["--app", "app2", "--", "true"])?.expect(
        125,
        "app 'app2' (--app) is none that you may run on this node; did you mean 'app1'?",
    )?;
    run(&["--app", "a/b", "--", "true"])?.expect(2, "is no app name")?;
    run(&["--"])?.expect(2, "")?;
    run(&["--", "no-such-command"])?
        .expect(127, "cannot run no-such-command: there is no such command")?;
    run(&["--", "./flect.toml"])?.expect(126, "cannot run ./flect.toml: Permission denied")?;
    run(&["--manifest", "elsewhere.toml", "--", "true"])?
        .expect(125, "cannot read elsewhere.toml")?;
    // Another user, whom no app names.
    let mut stranger = flect(&bed, &project, &["run", "--", "true"])?;
    Ended::of(stranger.uid(65533).gid(65533))?
        .expect(125, "there is no app on this node that you may run")?;
    bed.stop_agent()?;
    run(&["--", "true"])?.expect(
        125,
        "CACHE_URL, SESSION_STORE_URL would come from it; to develop without an agent: flect dev -- COMMAND",
    )?;
    Ok(())
}

/// A store that the operator bound and nobody made; once made, it works within a second.
fn missing() -> Result<()> {
    let bed = Bed::builder().create_stores(false).start()?;
    let project = Project::new("app = \"app1\"\n[[kv]]\nbinding = \"CACHE\"\nname = \"store1\"\n")?;
    let script = node("console.log(await store('CACHE_URL').set('a', 'b'))")?;
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let args = [&["run"], script.as_slice()].concat();
    Ended::of(&mut flect(&bed, &project, &args)?)?.expect(
        125,
        "flect.toml:4:8: store 'store1' does not exist; make it: flect kv create store1",
    )?;
    Ended::of(bed.flect()?.args(["kv", "create", "store1"]))?.expect(0, "created store store1")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    Ended::of(&mut flect(&bed, &project, &args)?)?.expect(0, "OK")?;
    Ok(())
}

/// The environment, then .env.local, then flect; and no agent for what is there.
fn local() -> Result<()> {
    let project = Project::new(TWO)?;
    project.write(
        ".env.local",
        "# a developer's own\nCACHE_URL=redis://localhost:6379\nexport SESSION_STORE_URL='redis://localhost:6379/1'\nGREETING='hello $(whoami)'\n",
    )?;
    let show = [
        "run",
        "--",
        "sh",
        "-c",
        "echo $CACHE_URL $SESSION_STORE_URL $GREETING",
    ];
    let ran = Ended::of(&mut project.flect(&show))?.expect(
        0,
        "redis://localhost:6379 redis://localhost:6379/1 hello $(whoami)",
    )?;
    ensure!(ran.stderr.contains("CACHE_URL from .env.local"), "{ran:?}");
    let mut own = project.flect(&show);
    own.env("CACHE_URL", "redis://own").env("GREETING", "");
    let ran = Ended::of(&mut own)?.expect(0, "redis://own redis://localhost:6379/1\n")?;
    ensure!(
        ran.stderr
            .contains("CACHE_URL from the environment, which hides .env.local"),
        "{ran:?}"
    );
    // An empty URL is none.
    let mut empty = project.flect(&show);
    Ended::of(empty.env("CACHE_URL", ""))?.expect(0, "redis://localhost:6379 ")?;
    Ended::of(&mut project.flect(&["run", "--print-env"]))?.expect(
        0,
        "CACHE_URL=redis://localhost:6379\nSESSION_STORE_URL=redis://localhost:6379/1\nGREETING='hello $(whoami)'\n",
    )?;
    // What is not set needs an agent.
    project.write(".env.local", "CACHE_URL=redis://localhost:6379\n")?;
    Ended::of(&mut project.flect(&show))?.expect(125, "SESSION_STORE_URL would come from it")?;
    // A mistake shows its line, not its content.
    project.write(".env.local", "A=1\npassword hunter2\n")?;
    let ran =
        Ended::of(&mut project.flect(&show))?.expect(125, ".env.local:2: expected NAME=value")?;
    ensure!(!ran.stderr.contains("hunter2"), "{ran:?}");
    Ok(())
}

fn becomes() -> Result<()> {
    let project = Project::new(TWO)?;
    project.write(
        ".env.local",
        "CACHE_URL=redis://a\nSESSION_STORE_URL=redis://b\n",
    )?;
    // The same process.
    let mut shell = project.flect(&[
        "run",
        "--",
        "sh",
        "-c",
        "echo $$; read line; echo got $line; kill -USR1 $$",
    ]);
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    child
        .stdin
        .take()
        .context("stdin")?
        .write_all(b"a line\n")?;
    let mut said = String::new();
    child
        .stdout
        .take()
        .context("stdout")?
        .read_to_string(&mut said)?;
    ensure!(said == format!("{}\ngot a line\n", child.id()), "{said}");
    let status = child.wait()?;
    ensure!(
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(10),
        "{status}"
    );
    Ended::of(&mut project.flect(&["run", "--", "sh", "-c", "kill -KILL $$"]))?.expect_signal(9)?;
    Ended::of(&mut project.flect(&["run", "--", "sh", "-c", "exit 42"]))?.expect(42, "")?;
    // Arguments arrive as they are.
    let words = [
        "run", "--", "printf", "<%s>", "a b", "--app", "", "$x", "-h",
    ];
    Ended::of(&mut project.flect(&words))?.expect(0, "<a b><--app><><$x><-h>")?;
    Ok(())
}
