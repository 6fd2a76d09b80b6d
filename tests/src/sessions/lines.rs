//! Errors of scripts and libraries that hold line breaks: some servers pass them on as they are, and what
//! follows the break is the end of nobody else's reply.

use anyhow::{Context, Result, ensure};

use crate::pair::{Pair, Side};
use crate::wire::Wire;

/// Servers before 8.1 pass these on.
const SCRIPTS: [&str; 5] = [
    "error('x\\r\\n+FORGED')",
    "error('x\\r\\n*0\\r\\n:1')",
    "error({err='x\\r\\n$6\\r\\nFORGED'})",
    "return _G['x\\r\\n+FORGED']",
    "error('a\\rb')",
];

/// All servers pass these on while a library is loaded.
const LIBRARIES: [&str; 2] = [
    "#!lua name=evil\nlocal t = {} t['a\\r\\n*0']()",
    "#!lua name=evil\nlocal s = ('%\\r'):format(1)",
];

/// So often each: what is looked for needs requests of others behind the one that fails.
const ROUNDS: usize = 12;

/// Every reply of the store's other clients is their own.
pub fn of_scripts(pair: &Pair) -> Result<()> {
    let mut others: Vec<Wire> = (0..6)
        .map(|_| pair.connect(Side::Store))
        .collect::<Result<_, _>>()?;
    for (round, script) in (0..ROUNDS).flat_map(|round| SCRIPTS.map(|script| (round, script))) {
        let mut breaking = pair.connect(Side::Store)?;
        breaking.send(&["EVAL", script, "0"])?;
        for (number, other) in others.iter_mut().enumerate() {
            other.send(&["ECHO", &format!("{round}.{number}")])?;
        }
        for (number, other) in others.iter_mut().enumerate() {
            let said = other.read().with_context(|| script.to_owned())?.text();
            ensure!(said == format!("{round}.{number}"), "{script}: {said}");
        }
        // Its own reply is an error, or what the server made of it ends its connection.
        let own = breaking.read_bytes();
        ensure!(!own.is_ok_and(|own| own.first() != Some(&b'-')), "{script}");
    }
    Ok(())
}

/// Another store's FUNCTION commands are answered as if there were nobody else.
pub fn of_libraries(pair: &Pair) -> Result<()> {
    let mut others: Vec<Wire> = (0..4)
        .map(|_| pair.bed.connect("app2"))
        .collect::<Result<_, _>>()?;
    for library in (0..ROUNDS).flat_map(|_| LIBRARIES) {
        let mut breaking = pair.connect(Side::Store)?;
        breaking.send(&["FUNCTION", "LOAD", library])?;
        for other in &mut others {
            other.send(&["FUNCTION", "LIST"])?;
        }
        for other in &mut others {
            let said = other.read_bytes().with_context(|| library.to_owned())?;
            ensure!(said == b"*0\r\n", "{library}: {}", said.escape_ascii());
        }
        let own = breaking.read_bytes();
        ensure!(
            !own.is_ok_and(|own| own.first() != Some(&b'-')),
            "{library}"
        );
    }
    Ok(())
}
