//! The commands that work on a store's data, through the real `flect` and a real Valkey; no agent.

mod files;
mod legacy;
mod removal;
mod shell;
mod stage;
mod usage;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use stage::Stage;

/// What a trial does with its stage.
type Body = fn(&Stage) -> Result<()>;

/// The trials of this module, each with a Valkey of its own.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let all: [(&'static str, Body); 16] = [
        ("rm_goes_on_after_sigkill", removal::goes_on_after_sigkill),
        ("rm_asks_on_a_terminal", removal::asks_on_a_terminal),
        ("usage_is_within_its_error", usage::is_within_its_error),
        ("usage_tells_types_and_sizes", usage::tells_types_and_sizes),
        ("usage_of_a_cluster_node", usage::of_a_cluster_node),
        ("clone_is_equal", files::clone_is_equal),
        (
            "clone_goes_on_after_sigkill",
            files::clone_goes_on_after_sigkill,
        ),
        (
            "export_and_import_keep_all_types",
            files::export_and_import_keep_all_types,
        ),
        (
            "export_goes_on_after_sigkill",
            files::export_goes_on_after_sigkill,
        ),
        (
            "import_goes_on_after_sigkill",
            files::import_goes_on_after_sigkill,
        ),
        (
            "damaged_files_write_nothing",
            files::damaged_files_write_nothing,
        ),
        (
            "import_of_hostile_values_is_refused",
            files::hostile_values_are_refused,
        ),
        ("import_of_a_plain_server", legacy::plain_server),
        ("shell_runs_one_command", shell::one_command),
        ("shell_reads_lines", shell::lines),
        ("shell_has_a_prompt", shell::prompt),
    ];
    all.into_iter()
        .map(|(name, body)| {
            Trial::test(format!("data::{name}"), move || {
                let run = || body(&Stage::start(name == "usage_of_a_cluster_node")?);
                run().map_err(|error: anyhow::Error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}
