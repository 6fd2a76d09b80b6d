//! An attacker with a store of its own wants a neighbour's data, presence or service, over RESP.
//!
//! The attacks are data (`hostile/attacks/*.txt`); what sees that one crossed is [`victim`]. Invariant:
//! each attack says under which weaknesses of the agent it must cross, and the self-check tries it there:
//! an oracle that cannot see is a failure, as is an attack that could do no harm to anybody.

mod attack;
mod play;
mod rights;
mod victim;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::{Bed, Builder};
use crate::setting::Setting;
use attack::Attack;
use play::Stage;

/// The attacks, by what they are after.
const ATTACKS: &[(&str, &str)] = &[
    ("keys", include_str!("hostile/attacks/keys.txt")),
    ("server", include_str!("hostile/attacks/server.txt")),
    ("messages", include_str!("hostile/attacks/messages.txt")),
    ("scripts", include_str!("hostile/attacks/scripts.txt")),
    ("protocol", include_str!("hostile/attacks/protocol.txt")),
];

/// An attack that no weakness lets through proves little, so there may be few.
const UNPROVEN_MAX: usize = 22;

/// An attack that is known to cross may be looked at too early on a busy machine, or find a server that an
/// attack before it has spoilt: whoever sees it once has shown that it can be seen.
const TRIES: usize = 3;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let held = ATTACKS
        .iter()
        .map(|&(name, text)| trial(name, move || hold(Bed::builder(), name, text)));
    held.chain([
        trial("self_check", self_check),
        trial("rights", || rights::all(Bed::builder())),
    ])
    .collect()
}

/// What the agent's users may do, asked of another server.
#[must_use]
pub fn rights_of(setting: Setting) -> Trial {
    setting.trial("hostile::rights", rights::all)
}

/// The attacks, held with another server.
pub fn attacks_of(setting: Setting) -> impl Iterator<Item = Trial> {
    ATTACKS.iter().map(move |&(name, text)| {
        setting.trial(&format!("hostile::{name}"), move |bed| {
            hold(bed, name, text)
        })
    })
}

fn trial(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("hostile::{name}"), || {
        body().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Every attack of a file against the agent as it is.
fn hold(bed: Builder, file: &str, text: &str) -> Result<()> {
    let stage = Stage::start(bed)?;
    let mut crossed = Vec::new();
    for attack in Attack::parse_all(text).context(file.to_owned())? {
        let seen = stage.attack(&attack).with_context(|| attack.name.clone())?;
        if !seen.is_empty() {
            crossed.push(format!("{}: {}", attack.name, seen.join("; ")));
            stage.mend()?;
        }
    }
    ensure!(crossed.is_empty(), "crossed:\n{}", crossed.join("\n"));
    Ok(())
}

/// Every attack against agents without the defences that hold it: each must be seen to cross.
fn self_check() -> Result<()> {
    let mut by_weaknesses: BTreeMap<String, Vec<Attack>> = BTreeMap::new();
    let mut unproven = 0;
    for (file, text) in ATTACKS {
        for attack in Attack::parse_all(text).context(*file)? {
            match &attack.weaknesses {
                Ok(names) => by_weaknesses.entry(names.clone()).or_default().push(attack),
                Err(_) => unproven += 1,
            }
        }
    }
    let mut unseen = Vec::new();
    for (weaknesses, attacks) in by_weaknesses {
        let mut stage = None;
        for attack in attacks {
            if !crosses(&mut stage, &weaknesses, &attack)? {
                unseen.push(format!("{} without {weaknesses}", attack.name));
            }
        }
    }
    ensure!(
        unseen.is_empty(),
        "{} not seen to cross:\n{}",
        unseen.len(),
        unseen.join("\n")
    );
    ensure!(unproven <= UNPROVEN_MAX, "{unproven} attacks are unproven");
    Ok(())
}

/// Whether an attack is seen to cross an agent with these weaknesses. The stage is kept after one that was,
/// while it is whole.
fn crosses(stage: &mut Option<Stage>, weaknesses: &str, attack: &Attack) -> Result<bool> {
    for _ in 0..TRIES {
        let ready = match stage.take() {
            Some(stage) => stage,
            None => {
                Stage::start(Bed::builder().weakened(weaknesses)).context(weaknesses.to_owned())?
            }
        };
        // An attack that ends the server ends what looks at it as well: that is a crossing.
        let seen = ready.attack(attack);
        let crossed = seen.as_ref().map_or(true, |seen| !seen.is_empty());
        if crossed {
            if seen.is_ok() && ready.mend().is_ok() {
                *stage = Some(ready);
            }
            return Ok(true);
        }
    }
    Ok(false)
}
