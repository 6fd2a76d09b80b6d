//! `flect kv rm`.

use std::process::Command;

use anyhow::{Result, ensure};

use super::stage::Stage;
use crate::tools;

/// Keys of the store that is removed: enough to be interrupted in the middle.
const KEYS: usize = 100_000;

/// Killed in the middle, the removal is remembered and goes on; nobody else's key is touched, not even
/// those of a new store of the same name.
pub fn goes_on_after_sigkill(stage: &Stage) -> Result<()> {
    let old = stage.create("victim")?;
    let neighbour = stage.create("neighbour")?;
    stage.populate(&old, KEYS, 10)?;
    stage.populate(&format!("{old}/3"), 500, 10)?;
    stage.fill(&neighbour)?;
    stage.populate(&neighbour, 3000, 10)?;
    let before = stage.keys(&neighbour)?;
    stage.flect(&["kv", "shell", "victim", "--", "PING"])?;
    let count = || -> Result<i64> { Ok(stage.operator()?.command(&["DBSIZE"])?.text().parse()?) };
    let full = count()?;
    stage.killed(&["kv", "rm", "victim", "--yes", "--rate", "20000"], || {
        Ok(count()? < full - 3000)
    })?;
    let left = stage.names(&old)?.len();
    ensure!((1000..KEYS).contains(&left), "{left} keys are left");
    let listing = stage.json(&["kv", "list"])?;
    ensure!(listing["removed"][0]["prefix"] == old.as_str(), "{listing}");

    // A new store of that name is another one.
    let new = stage.create("victim")?;
    ensure!(new != old, "a prefix was given twice");
    stage.populate(&new, 100, 10)?;
    let said = stage.fails(&["kv", "rm", "victim", "--yes"], 1)?;
    ensure!(said.contains("flect kv rm victim --resume"), "{said}");
    ensure!(stage.names(&new)?.len() == 100, "the new store was touched");

    let done = stage.json(&["kv", "rm", "victim", "--resume"])?;
    ensure!(done["removed"][0]["prefix"] == old.as_str(), "{done}");
    ensure!(stage.names(&old)?.is_empty(), "keys are left");
    ensure!(stage.names(&new)?.len() == 100, "the new store was touched");
    super::stage::ensure_equal(&before, &stage.keys(&neighbour)?)?;
    let users = stage.operator()?.command(&["ACL", "LIST"])?.to_string();
    let id = old.trim_matches(['{', '}']);
    ensure!(
        !users.contains(&format!("flect.{id}")),
        "its users are left"
    );
    let listing = stage.json(&["kv", "list"])?;
    ensure!(listing["removed"] == serde_json::json!([]), "{listing}");

    stage.flect(&["kv", "rm", "victim", "--yes"])?;
    ensure!(stage.names(&new)?.is_empty(), "keys are left");
    stage.fails(&["kv", "rm", "victim", "--yes"], 4)?;
    let none = stage.json(&["kv", "rm", "--resume"])?;
    ensure!(none["removed"] == serde_json::json!([]), "{none}");
    Ok(())
}

/// Runs `flect kv rm` on a pseudo terminal and types a line.
const ON_A_TERMINAL: &str = r"
import os, pty, sys
line = sys.argv[1].encode() + b'\n'
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
said, asked = b'', False
while True:
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    if not piece:
        break
    said += piece
    if not asked and b'to go on' in said:
        asked = True
        os.write(fd, line)
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// On a terminal the name is to be typed; without one, only `--yes` goes.
pub fn asks_on_a_terminal(stage: &Stage) -> Result<()> {
    let prefix = stage.create("victim")?;
    stage.populate(&prefix, 1234, 10)?;
    let said = stage.fails(&["kv", "rm", "victim"], 1)?;
    ensure!(said.contains("--yes"), "{said}");
    let type_line = |line: &str| -> Result<(bool, String)> {
        let flect = stage.command(&["kv", "rm", "victim"]);
        let mut command = Command::new(tools::program("python3")?);
        command.args(["-c", ON_A_TERMINAL, line]);
        command.arg(flect.get_program()).args(flect.get_args());
        command.env("FLECT_CONFIG_DIR", stage.bed.folder());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), said))
    };
    for wrong in ["y", "", "victi"] {
        let (done, said) = type_line(wrong)?;
        ensure!(!done && said.contains("not removed"), "{wrong:?}: {said}");
    }
    ensure!(stage.names(&prefix)?.len() == 1234, "keys are gone");
    let (done, said) = type_line("victim")?;
    ensure!(done && said.contains("1,234 keys"), "{said}");
    ensure!(stage.names(&prefix)?.is_empty(), "keys are left");
    Ok(())
}
