//! Workers in the test's own process, without hooks and daemon: what the control side may do to them
//! while they serve, what they count, and whose reply is whose.

mod accounts;
mod garbage;
mod integrity;
mod learnt;
mod limits;
mod metrics;
mod node;
mod stores;

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};

pub use learnt::{ROLES, module_path};

use crate::wire::Wire;
use node::Node;

/// What a trial does with a node.
type Body = fn(&mut Node) -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let bodies: [(&str, Body); 22] = [
        ("a_store_is_added", stores::added),
        ("a_retired_store_ends", stores::retired),
        ("what_comes_late_finds_nobody", stores::late),
        ("a_token_is_asked_for", stores::tokens),
        ("a_login_came_before", stores::early),
        ("connections_are_limited", limits::connections),
        ("commands_are_paced", limits::paced),
        ("a_raised_rate_holds_at_once", limits::raised),
        ("a_full_store_answers_as_valkey", limits::full_as_valkey),
        ("a_full_store_refuses", limits::full),
        ("counts_add_up", metrics::add_up),
        ("names_are_withheld", integrity::withheld),
        ("names_in_large_replies_are_withheld", integrity::large),
        ("messages_with_names_are_left_out", integrity::messages),
        ("muted_replies_are_not_searched", integrity::muted),
        ("a_failed_login_is_answered_once", accounts::failed_login),
        (
            "states_change_while_replies_are_under_way",
            accounts::states,
        ),
        ("cancelled_requests_leave_nothing", accounts::cancelled),
        ("a_reply_is_cut_off_in_the_middle", accounts::killed_midway),
        ("pushes_stand_between_replies", accounts::pushes),
        ("nobody_gets_anothers_reply", accounts::tagged),
        ("garbage_ends_one_connection", garbage::ends),
    ];
    let trial = |(name, body): (&str, Body)| {
        Trial::test(format!("worker::{name}"), move || {
            let run = || body(&mut Node::start()?);
            run().map_err(|error: anyhow::Error| Failed::from(format!("{error:#}")))
        })
    };
    bodies
        .into_iter()
        .map(trial)
        .chain(learnt::trials())
        .collect()
}

/// Sends a line, words apart at blanks, and reads one reply.
fn said(wire: &mut Wire, line: &str) -> Result<String> {
    let args: Vec<&str> = line.split(' ').collect();
    Ok(wire.command(&args)?.text())
}

/// Checks that the agent has closed the connection.
fn ended(wire: &mut Wire) -> Result<()> {
    let rest = wire.read_until_silent(node::PATIENCE)?;
    ensure!(rest.1, "still open, after {:?}", rest.0.escape_ascii());
    Ok(())
}
