//! `docs/troubleshooting.md` against the programs' sources: a message that is explained exists.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tools;

const PAGE: &str = "docs/troubleshooting.md";

/// Messages that are the server's own.
const OF_THE_SERVER: [&str; 1] = ["NOPERM No permissions to access a key"];

/// Parts between placeholders that are shorter prove nothing.
const PART_BYTES_MIN: usize = 8;

/// Fails with the messages that no source has.
///
/// # Errors
/// When the page names one that is not there, or none at all.
pub fn check() -> Result<()> {
    let page = fs::read_to_string(tools::workspace().join(PAGE)).context(PAGE)?;
    let mut sources = String::new();
    collect(&tools::workspace().join("flect-agent/src"), &mut sources)?;
    let mut count = 0;
    let mut missing = Vec::new();
    for line in page.lines() {
        let message = line.strip_prefix("### `").and_then(|m| m.strip_suffix('`'));
        let Some(message) = message else { continue };
        count += 1;
        let there = parts(message).iter().all(|part| sources.contains(part));
        if !there && !OF_THE_SERVER.contains(&message) {
            missing.push(message);
        }
    }
    ensure!(count > 0, "{PAGE} explains no message");
    ensure!(
        missing.is_empty(),
        "{PAGE} explains what no program says:\n{}",
        missing.join("\n")
    );
    Ok(())
}

/// What stands between placeholders: `<words>` and command names, without an error's first word.
fn parts(message: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for piece in message.split('<') {
        let text = piece.split_once('>').map_or(piece, |(_, rest)| rest);
        let text = match text.split_once(' ') {
            Some(("DENIED" | "ERR" | "NOPERM", rest)) => rest,
            _ => text,
        };
        if text.len() >= PART_BYTES_MIN {
            parts.push(text);
        }
    }
    parts
}

/// All Rust files below a folder, with strings as they are printed as far as that matters here.
fn collect(folder: &Path, sources: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                let joined = line.strip_suffix('\\').map(|start| (start, lines.next()));
                match joined {
                    Some((start, Some(next))) => {
                        sources.push_str(start);
                        sources.push_str(next.trim_start());
                    }
                    _ => sources.push_str(line),
                }
                sources.push('\n');
            }
        }
    }
    *sources = sources.replace("\\\"", "\"").replace('`', "");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_part_a_message() {
        assert_eq!(
            parts("DENIED store '<store>' is not there: make <store>"),
            ["store '", "' is not there: make "][1..].to_vec()
        );
    }
}
