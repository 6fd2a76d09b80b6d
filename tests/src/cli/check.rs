//! `flect check`: offline, against an environment, against an agent.

use std::fs;

use anyhow::{Result, ensure};

use super::Body;
use super::project::{Ended, Project, TWO};
use crate::bed::Bed;
use crate::tools;

pub const TRIALS: &[(&str, Body)] = &[
    ("check_offline", offline),
    ("check_schema", schema),
    ("check_online", online),
    ("check_trusts_no_stranger", stranger),
];

fn offline() -> Result<()> {
    let project = Project::new(TWO)?;
    let right = Ended::of(&mut project.flect(&["check", "--offline"]))?;
    right.expect(0, "CACHE_URL is store store1")?;
    // From a folder below, or named from elsewhere.
    fs::create_dir(project.path().join("sub"))?;
    Ended::of(
        project
            .flect(&["check"])
            .current_dir(project.path().join("sub")),
    )?
    .expect(0, "is right")?;
    let folder = project.path().to_str().unwrap_or_default();
    Ended::of(project.flect(&["check", folder]).current_dir("/"))?.expect(0, "is right")?;
    Ended::of(project.flect(&["check"]).current_dir("/"))?
        .expect(1, "there is no flect.toml in /")?;

    // What stands beside it must be readable as well.
    project.write(".env.local", "A B\n")?;
    Ended::of(&mut project.flect(&["check"]))?.expect(1, ".env.local:1: expected NAME=value")?;
    fs::remove_file(project.path().join(".env.local"))?;

    project.write(
        "flect.toml",
        "[[kv]]\nbindng = \"CACHE\"\nname = \"store1\"\n",
    )?;
    let wrong = Ended::of(&mut project.flect(&["check"]))?;
    let wrong = wrong.expect(
        1,
        "flect.toml:2:1: [[kv]] has no key 'bindng'; did you mean 'binding'?",
    )?;
    ensure!(
        wrong.stdout.contains("2 | bindng = \"CACHE\"\n  | ^^^^^^"),
        "{wrong:?}"
    );
    ensure!(
        !wrong.stdout.contains('\u{1b}'),
        "colours in a pipe: {wrong:?}"
    );
    let json = Ended::of(&mut project.flect(&["check", "--json"]))?
        .expect(1, "")?
        .json()?;
    let expected = serde_json::json!([
        { "line": 1, "column": 1, "message": "this [[kv]] has no binding; add it: such as binding = \"CACHE\"" },
        { "line": 2, "column": 1, "message": "[[kv]] has no key 'bindng'; did you mean 'binding'?" },
    ]);
    ensure!(
        json["valid"] == false && json["problems"] == expected,
        "{json}"
    );
    Ok(())
}

fn schema() -> Result<()> {
    let project = Project::new(TWO)?;
    let printed = Ended::of(&mut project.flect(&["check", "--schema"]))?
        .expect(0, "")?
        .stdout;
    let published = tools::workspace().join("config/flect.schema.json");
    // Machines for tests may have the programs without the tree.
    if published.exists() {
        ensure!(fs::read_to_string(published)? == printed, "{printed}");
    }
    Ok(())
}

fn online() -> Result<()> {
    let bed = Bed::builder().stores(2).start()?;
    let project = Project::new(&format!("app = \"app1\"\n{TWO}"))?;
    let check = |args: &[&str]| Ended::of(bed.flect()?.args(args).current_dir(project.path()));
    let right = check(&["check"])?.expect(0, "the stores exist in environment default")?;
    ensure!(
        right.stdout.contains("app app1 has them on this node"),
        "{right:?}"
    );
    let json = check(&["check", "--json"])?.json()?;
    ensure!(
        json["environment"] == "default" && json["agent_app"] == "app1",
        "{json}"
    );

    let near = "[[kv]]\nbinding = \"CACHE\"\nname = \"store-1\"\n";
    project.write("flect.toml", near)?;
    check(&["check"])?.expect(
        1,
        "flect.toml:3:8: environment default has no store 'store-1'; did you mean 'store1'? otherwise make it: flect kv create store-1",
    )?;
    check(&["check", "--offline"])?.expect(0, "is right")?;
    // It exists, but not for this app.
    project.write(
        "flect.toml",
        "app = \"app2\"\n[[kv]]\nbinding = \"CACHE\"\nname = \"store1\"\n",
    )?;
    check(&["check"])?.expect(1, "store 'store1' is not among app app2's stores (app2);")?;
    // An environment that was asked for must be known.
    check(&["check", "--env", "nowhere"])?.expect(3, "no environment 'nowhere' is known")?;
    Ok(())
}

/// A manifest on the way up that somebody else put there is not taken.
fn stranger() -> Result<()> {
    let outer = Project::of_nobody(TWO)?;
    let inner = outer.path().join("inner");
    fs::create_dir(&inner)?;
    let found = Ended::of(outer.flect(&["check"]).current_dir(&inner).uid_root())?;
    found.expect(1, "belongs to another user (uid 65534)")?;
    let named = ["check", "--offline", "../flect.toml"];
    Ended::of(outer.flect(&named).current_dir(&inner).uid_root())?.expect(0, "is right")?;
    // The owner's own folder below is fine, for root too.
    std::os::unix::fs::chown(&inner, Some(65534), Some(65534))?;
    Ended::of(outer.flect(&["check"]).current_dir(&inner).uid_root())?.expect(0, "is right")?;
    Ok(())
}

/// Takes back the user that the project has chosen.
trait AsRoot {
    fn uid_root(&mut self) -> &mut Self;
}

impl AsRoot for std::process::Command {
    fn uid_root(&mut self) -> &mut Self {
        use std::os::unix::process::CommandExt as _;
        self.uid(0).gid(0)
    }
}
