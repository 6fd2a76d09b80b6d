//! What a connection is and holds: transactions, blocking commands, subscriptions, its own name,
//! database and protocol. Each conversation is held with a private Valkey as well.

pub(crate) mod by_name;
mod clients;
mod diagnosis;
mod functions;
mod isolation;
mod limits_of_functions;
mod lines;
mod scripts;
mod streamed;

use anyhow::Result;
use libtest_mimic::Trial;

use crate::pair::{self, Body, Pair};
use crate::scenario;

/// What depends on the kernel as well: blocking, messages, endings.
pub const BODIES: &[(&str, Body)] = &[
    ("transactions", transactions),
    ("blocking", blocking),
    ("pubsub", pubsub),
    ("connection", connection),
    ("databases", databases),
    ("scripts", lua),
    ("channels_are_apart", isolation::channels),
    ("operators_commands_are_refused", isolation::refused),
    ("scripts_keep_to_their_store", scripts::undeclared),
    ("the_user_chooses_the_store", isolation::stores),
];

/// The trials of this module that depend on the kernel: blocking, messages, endings.
#[must_use]
pub fn trials() -> Vec<Trial> {
    pair::trials("sessions", BODIES)
}

/// What the agent itself does.
pub const OF_THE_HOST: &[(&str, Body)] = &[
    ("tracking", tracking),
    ("notifications", notifications),
    ("clients", clients::conversations),
    ("monitors", clients::monitors),
    ("monitors_quote", monitors_quote),
    ("monitors_that_do_not_read", clients::slow_monitors),
    ("clients_are_apart", clients::apart),
    ("clients_are_unblocked_at_once", clients::unblocked),
    ("clients_of_all_workers", clients::many),
    ("diagnosis", diagnosis::told),
    (
        "settings_are_those_of_a_private_server",
        diagnosis::settings,
    ),
    ("info_has_every_field", diagnosis::info),
    ("info_counts_as_a_private_server", diagnosis::counted),
    ("slow_commands_are_its_own", diagnosis::slow),
    ("functions", functions),
    ("functions_keep_to_their_store", functions::kept_apart),
    ("functions_move_by_dump", functions::moved),
    ("functions_have_limits", limits_of_functions::held),
    ("functions_come_back_whole", limits_of_functions::restored),
    ("functions_of_one_who_goes", limits_of_functions::gone),
    ("scripts_of_others_are_not_seen", functions::others),
    ("functions_are_killed", functions::killed),
    ("scripts_leave_nothing_behind", scripts::escapes),
    ("scripts_are_forgotten", scripts::forgotten),
    ("scripts_of_a_server_before", scripts::restarted),
    ("scripts_of_other_nodes", scripts::nodes),
    ("scripts_of_any_length", scripts::long),
    ("scripts_go_by_name", by_name::saves),
    ("scripts_that_the_server_lost_run_once", by_name::lost),
    ("scripts_of_many_sessions_run_once", by_name::many),
    ("scripts_of_closing_clients_run_once", by_name::closing),
    (
        "scripts_that_the_server_keeps_are_bounded",
        scripts::bounded,
    ),
    ("errors_of_scripts_are_one_reply", lines::of_scripts),
    ("errors_of_libraries_are_one_reply", lines::of_libraries),
    ("requests_that_stream", streamed::conversations),
];

/// The trials of what the agent itself does, alike on every kernel.
#[must_use]
pub fn of_the_host() -> Vec<Trial> {
    pair::trials("sessions", OF_THE_HOST)
}

fn transactions(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/transactions.txt"))
}

fn blocking(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/blocking.txt"))
}

fn pubsub(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/pubsub.txt"))
}

fn tracking(pair: &Pair) -> Result<()> {
    pair.bed.start_neighbour("store1")?;
    scenario::check(pair, include_str!("sessions/tracking.txt"))
}

fn notifications(pair: &Pair) -> Result<()> {
    pair.bed.start_neighbour("store1")?;
    scenario::check(pair, include_str!("sessions/notifications.txt"))
}

fn connection(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/connection.txt"))
}

fn databases(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/databases.txt"))
}

fn lua(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/scripts.txt"))?;
    scenario::check(pair, include_str!("sessions/lua.txt"))
}

fn monitors_quote(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/monitor-quotes.txt"))
}

fn functions(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("sessions/functions.txt"))
}
