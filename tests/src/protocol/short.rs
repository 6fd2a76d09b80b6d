//! Requests that are too short for their command, of every command there is.

use anyhow::{Context, Result, ensure};
use flect_agent::commands;

use crate::pair::{Pair, Side};
use crate::wire::encode;

/// Arguments behind a command's name, at most: more than any command's fixed places.
const ARGUMENTS_MAX: usize = 4;
/// Connections that are asked at the end: enough for every worker to have some.
const ASKED: usize = 16;

/// Whatever is missing, the agent's workers go on.
pub fn harmless(pair: &Pair) -> Result<()> {
    for command in commands::all() {
        for queued in [false, true] {
            for count in 0..=ARGUMENTS_MAX {
                let mut args: Vec<&str> = command.name.split('|').collect();
                args.extend(vec!["1"; count]);
                let mut request = Vec::new();
                if queued {
                    request.extend(encode(&["MULTI"]));
                }
                request.extend(encode(&args));
                request.extend(encode(&["EXEC"]));
                let mut wire = pair.connect(Side::Store)?;
                wire.send_raw(&request)
                    .with_context(|| format!("{args:?}"))?;
            }
        }
    }
    for number in 0..ASKED {
        let mut wire = pair.connect(Side::Store)?;
        let reply = wire
            .command(&["PING"])
            .with_context(|| format!("connection {number}: a worker has ended"))?;
        ensure!(reply.text() == "PONG", "connection {number}: {reply:?}");
    }
    Ok(())
}
