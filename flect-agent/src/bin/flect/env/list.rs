//! `flect env list`.

use std::process::ExitCode;

use flect_agent::config::environments::Folders;
use serde::Serialize;

use crate::Global;
use crate::output::{GOOD, table};

#[derive(Serialize)]
struct Listed {
    name: String,
    address: String,
    user: String,
    file: String,
    selected: bool,
}

/// Lists what is known here; asks no server.
pub fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let folders = Folders::from_env();
    let chosen = folders.choose(global.env.as_deref()).ok();
    let all: Vec<Listed> = folders
        .known()?
        .into_iter()
        .map(|(name, known)| Listed {
            selected: chosen.as_ref().is_some_and(|(chosen, _)| *chosen == name),
            name,
            address: known.valkey.address.to_string(),
            user: known.valkey.user,
            file: known.file.display().to_string(),
        })
        .collect();
    crate::output::print(global.json, &all, |all| text(all))?;
    Ok(ExitCode::SUCCESS)
}

fn text(all: &[Listed]) -> String {
    if all.is_empty() {
        return "no environment is known here: flect env add NAME --address HOST:PORT".to_owned();
    }
    let mut rows = vec![
        ["NAME", "ADDRESS", "USER", "FROM", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for one in all {
        let mark = if one.selected {
            format!("{GOOD}selected{GOOD:#}")
        } else {
            String::new()
        };
        rows.push(vec![
            one.name.clone(),
            one.address.clone(),
            one.user.clone(),
            one.file.clone(),
            mark,
        ]);
    }
    table(&rows)
}
