//! The agent's log: lines that programs read, and how many there are.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Body;
use super::reload::{edit, reload};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed, UNCLAIMED};
use crate::smoke::{check, output};
use crate::tools::Programs;

pub const TRIALS: [(&str, Body); 3] = [
    ("logs_are_json_where_asked_for", are_json_where_asked_for),
    ("logs_have_levels_per_module", have_levels_per_module),
    (
        "logs_take_the_command_lines_word",
        take_the_command_lines_word,
    ),
];

/// A line is written at once; audit lines by a thread of their own.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

/// The lines of a log, each a JSON object with what every line has.
fn lines(log: &str) -> Result<Vec<Value>> {
    let parse = |line: &str| -> Result<Value> {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["timestamp", "level", "target", "message"] {
            ensure!(value[field].is_string(), "no {field}: {line}");
        }
        Ok(value)
    };
    log.lines().map(parse).collect()
}

/// Whole lines only: one may be under way.
fn whole(log: &str) -> &str {
    log.rfind('\n').map_or("", |end| &log[..end])
}

fn are_json_where_asked_for() -> Result<()> {
    let tail = "\n[agent.log]\nformat = \"json\"\n";
    let bed = Bed::builder().config_tail(tail).start()?;
    check(&mut bed.connect(APP1)?, "SET a 1", "OK")?;
    // What the kernel refuses: a connect to the agent's own port.
    let script = format!(
        "import socket\ntry: socket.create_connection(('127.0.0.1', {}), 5)\nexcept OSError: print('refused')",
        bed.listen_port()
    );
    let said = output(bed.python(APP1)?.args(["-c", &script]))?;
    ensure!(said == "refused", "{said}");
    // What the audit log tells.
    let _ = bed.connect(UNCLAIMED)?.command(&["PING"])?;
    let mut all = Vec::new();
    let waited = wait_until(WRITTEN_WITHIN, || {
        all = lines(whole(&bed.agent_log()))?;
        let has = |target: &str| all.iter().any(|line| line["target"] == target);
        Ok(has("kernel") && has("audit"))
    });
    waited.with_context(|| format!("{all:#?}"))?;
    let find = |word: &str| {
        let mut lines = all.iter();
        lines.find(|line| line["message"].as_str().is_some_and(|it| it.contains(word)))
    };
    let kernel = find("the agent's own port").context("no line of the kernel's")?;
    ensure!(
        kernel["target"] == "kernel" && kernel["level"] == "WARN",
        "{kernel}"
    );
    ensure!(
        kernel["cgroup"]
            .as_str()
            .is_some_and(|it| it.contains(APP1)),
        "{kernel}"
    );
    let ready = find("ready").context("not ready")?;
    ensure!(
        ready["level"] == "INFO" && ready["workers"].is_u64(),
        "{ready}"
    );
    let audit = all
        .iter()
        .find(|line| line["target"] == "audit")
        .context("no audit")?;
    let inner: Value = serde_json::from_str(audit["message"].as_str().unwrap_or_default())?;
    ensure!(inner["reason"].is_string(), "{audit}");
    Ok(())
}

fn have_levels_per_module() -> Result<()> {
    let tail = "\n[agent.log]\nformat = \"json\"\nlevels = \"error,flect_agent::stores=info\"\n";
    let bed = Bed::builder().config_tail(tail).start()?;
    let all = lines(whole(&bed.agent_log()))?;
    let stores = |line: &&Value| line["target"] == "flect_agent::stores";
    ensure!(all.iter().filter(stores).count() == 3, "{all:#?}");
    ensure!(all.iter().all(|line| stores(&line)), "{all:#?}");
    // They change while it runs.
    edit(&bed, |text| {
        text.replace(
            "error,flect_agent::stores=info",
            "warn,flect_agent::reload=info",
        )
    })?;
    let config = reload(&bed)?;
    ensure!(
        config["error"].is_null() && config["ignored"] == serde_json::json!([]),
        "{config}"
    );
    wait_until(WRITTEN_WITHIN, || {
        Ok(bed.agent_log().contains("the configuration was read again"))
    })?;
    edit(&bed, |text| {
        text.replace("warn,flect_agent::reload=info", "flect_agent=loud")
    })?;
    let config = reload(&bed)?;
    let error = config["error"].as_str().context("no error")?;
    ensure!(
        error.contains("'flect_agent=loud' are no levels"),
        "{error}"
    );
    Ok(())
}

fn take_the_command_lines_word() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("agent.toml");
    let text = format!(
        "[valkey]\naddress = \"127.0.0.1:1\"\n[intercept]\nenabled = false\n\
         [explicit]\nlisten = [\"127.0.0.1:0\"]\n\
         [agent]\nstatus_page = \"off\"\nsocket = \"{}\"\n",
        folder.path().join("agent.sock").display()
    );
    fs::write(&config, text)?;
    let log = folder.path().join("log");
    let programs = Programs::beside_current()?;
    let mut agent = Command::new(&programs.agent)
        .args(["run", "--log-format", "json", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()?;
    let waited = wait_until(WRITTEN_WITHIN, || {
        Ok(fs::read_to_string(&log)?.contains("Valkey cannot be used"))
    });
    agent.kill()?;
    agent.wait()?;
    waited?;
    lines(whole(&fs::read_to_string(&log)?))?;
    // Levels that are none end it at once.
    let ended = Command::new(&programs.agent)
        .args(["run", "--config"])
        .arg(&config)
        .env("FLECT_LOG", "flect_agent=loud")
        .output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(
        !ended.status.success() && said.contains("FLECT_LOG"),
        "{said}"
    );
    Ok(())
}
