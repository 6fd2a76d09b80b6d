//! Requests that are too large to be looked at as a whole, where other requests depend on them.

use anyhow::{Result, ensure};

use crate::pair::{Pair, Side};

/// More than the agent's buffer takes.
const LARGE_BYTES: usize = 100 * 1024;

/// Stands for a large argument.
const LARGE: &str = "LARGE";

const CONVERSATIONS: [&[&str]; 8] = [
    &[
        "MULTI",
        "SET big LARGE",
        "DBSIZE",
        "KEYS *",
        "FLUSHDB",
        "DBSIZE",
        "EXEC",
        "EXISTS big",
    ],
    &[
        "MULTI",
        "SET big LARGE",
        "SWAPDB 0 1",
        "EXEC",
        "EXISTS big",
        "SELECT 1",
        "EXISTS big",
        "SELECT 0",
    ],
    &[
        "SELECT 2",
        "MULTI",
        "MSET a LARGE b LARGE",
        "DBSIZE",
        "FLUSHDB",
        "EXEC",
        "DBSIZE",
        "SELECT 0",
    ],
    &[
        "MULTI",
        "EVAL return(server.call('SET',KEYS[1],ARGV[1])) 1 made LARGE",
        "KEYS *",
        "FLUSHALL",
        "EXEC",
        "EXISTS made",
    ],
    &[
        "SET k LARGE",
        "COPY k LARGE DB 3",
        "SELECT 3",
        "DBSIZE",
        "FLUSHDB",
        "SELECT 0",
        "DEL k",
    ],
    &[
        "RPUSH l 3 1 2",
        "SORT l BY LARGE* GET #",
        "SORT_RO l BY w_* GET LARGE*",
        "DEL l",
    ],
    &[
        "SET k v",
        "EVAL return(#server.call('KEYS','*')) 0 LARGE",
        "DEL k",
    ],
    &[
        "MULTI",
        "SET k v",
        "EVAL return(#server.call('KEYS','*')) 0 LARGE",
        "EXEC",
        "DEL k",
    ],
];

/// Each conversation says the same with both sides.
pub fn conversations(pair: &Pair) -> Result<()> {
    let large = "x".repeat(LARGE_BYTES);
    let mut different = Vec::new();
    for conversation in CONVERSATIONS {
        let mut said = Vec::new();
        for side in Side::BOTH {
            pair.empty(side)?;
            let mut wire = pair.connect(side)?;
            let mut lines = Vec::new();
            for request in conversation {
                let words: Vec<String> = request
                    .split(' ')
                    .map(|word| word.replace(LARGE, &large))
                    .collect();
                lines.push(wire.command(&words)?.text());
            }
            said.push(lines);
        }
        if said[0] != said[1] {
            different.push(format!(
                "{conversation:?}\n  Valkey: {:?}\n  store:  {:?}",
                said[0], said[1]
            ));
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n"));
    // What EXEC's reply would need more than one element for is refused, and the connection stays.
    let mut wire = pair.connect(Side::Store)?;
    wire.command(&["MULTI"])?;
    let said = wire.command(&["SUBSCRIBE", &large])?.text();
    ensure!(said.starts_with("-ERR subscriptions cannot"), "{said}");
    let said = wire.command(&["EXEC"])?.text();
    ensure!(said.starts_with("-EXECABORT"), "{said}");
    Ok(())
}
