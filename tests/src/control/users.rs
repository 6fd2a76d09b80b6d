//! The users on Valkey: many agents want the same ones, and those that are made already are left as they are.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::second::{Options, Second};
use super::{Body, PATIENCE, expect, flect, said};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::sessions::by_name::calls;
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 1] = [("users_are_made_once", made_once)];

/// Stores of the trial, each with two users and a mark.
const STORES: usize = 20;
/// What agents make in any case: the users of their own work.
const OWN: u64 = 2;

/// How often ACL SETUSER was asked for since the counts began anew.
fn made(operator: &mut Wire) -> Result<u64> {
    Ok(calls(operator, "acl|setuser")?.0)
}

fn made_once() -> Result<()> {
    let bed = Bed::builder().stores(STORES).start()?;
    let mut operator = bed.operator()?;
    let prefix = bed.prefix("store1")?;
    let user = format!("flect.{}", prefix.trim_matches(['{', '}']));

    // Nobody can be a mark, or do anything as one.
    let mark = said(&mut operator, &format!("ACL GETUSER {user}.made"));
    ensure!(mark.contains("off") && mark.contains("-@all"), "{mark}");
    let denied = said(&mut operator, &format!("ACL DRYRUN {user}.made PING"));
    ensure!(denied.contains("no permissions"), "{denied}");

    // The same agent again, and another one that serves all of them too.
    let again = |before: &dyn Fn() -> Result<()>, calls: Range<u64>| -> Result<()> {
        bed.stop_agent()?;
        before()?;
        let mut operator = bed.operator()?;
        expect(&mut operator, "CONFIG RESETSTAT", "OK")?;
        bed.start_agent()?;
        expect(&mut bed.connect(APP1)?, "SET a 1", "OK")?;
        let made = made(&mut operator)?;
        ensure!(calls.contains(&made), "{made} users instead of {calls:?}");
        Ok(())
    };
    let operate = |line: String| -> Result<()> {
        let reply = said(&mut bed.operator()?, &line);
        ensure!(!reply.starts_with('-'), "{line}: {reply}");
        Ok(())
    };
    again(&|| Ok(()), OWN..OWN + 1)?;
    let token = flect(&bed, &["kv", "token", "store2", "--new"])?;
    expect(&mut operator, "CONFIG RESETSTAT", "OK")?;
    let second = Second::start(&bed, &Options::default())?;
    let login = format!("AUTH store2 {token}");
    wait_until(
        PATIENCE,
        || Ok(said(&mut second.connect()?, &login) == "OK"),
    )?;
    let calls = made(&mut operator)?;
    ensure!(calls == OWN, "{calls} users for the second agent");

    // What is missing in spite of a mark is made, and what no mark tells of; a mark of other rules tells nothing.
    let one_store = OWN + 3..OWN + 4;
    for line in [
        format!("ACL DELUSER {user}.sort"),
        format!("ACL DELUSER {user}"),
        format!("ACL DELUSER {user}.made"),
        format!("ACL SETUSER {user}.made reset ~0123456789abcdef"),
    ] {
        again(&|| operate(line.clone()), one_store.clone()).context(line)?;
    }
    let sorts = said(&mut operator, &format!("ACL GETUSER {user}.sort"));
    ensure!(sorts.contains("+sort_ro"), "{sorts}");

    // Somebody has changed what a mark tells of: a refused connection shows it, and then nothing is believed.
    let calls = OWN..OWN + 4 * STORES as u64;
    again(&|| operate(format!("ACL SETUSER {user} resetpass")), calls)
        .with_context(|| bed.agent_log())
}
