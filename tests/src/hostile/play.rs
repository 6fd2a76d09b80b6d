//! Making an attack: the attacker's connections, what it sends, and all that it gets to see.
//!
//! Invariant: an attack is made twice where it names the neighbour's keys, on keys that are there and on
//! keys that are not: whatever differs in the replies has told of the neighbour.

use std::time::Duration;

use anyhow::{Context, Result};

use super::attack::{Act, Attack};
use super::victim::Victim;
use crate::bed::{APP1, Bed, Builder};
use crate::quoting::split;
use crate::wire::Wire;

/// An attack may leave its own connection waiting, for a reply that will not come.
const PATIENCE: Duration = Duration::from_secs(1);
/// What comes late, such as messages.
const SILENCE: Duration = Duration::from_millis(15);

/// A bed with an attacker and a victim.
pub struct Stage {
    // Before the bed, which ends what it holds on to.
    victim: Victim,
    bed: Bed,
}

impl Stage {
    /// Makes one; `app1` is the attacker.
    ///
    /// # Errors
    /// When the bed cannot be made.
    pub fn start(builder: Builder) -> Result<Self> {
        let weakened = builder.is_weakened();
        let bed = builder.workers(2).start()?;
        let victim = Victim::start(&bed, weakened)?;
        Ok(Self { victim, bed })
    }

    /// Makes an attack and says what crossed.
    ///
    /// # Errors
    /// When the stage itself does not work any more.
    pub fn attack(&self, attack: &Attack) -> Result<Vec<String>> {
        let sent: String = format!("{:?}", attack.steps);
        let before = self.victim.look(&self.bed).context("before")?;
        let seen = self.play(attack, "r-")?;
        let mut crossed = self.victim.told(&sent, &seen);
        crossed.extend(self.victim.disturbed());
        if attack.names_keys() && crossed.is_empty() {
            let absent = self.play(attack, "x-")?;
            if steady(&absent.replace("x-", "r-")) != steady(&seen) {
                crossed.push(format!(
                    "keys that are there answer {seen:?}, others {absent:?}"
                ));
            }
        }
        let after = self.victim.look(&self.bed).context("after")?;
        crossed.extend(before.changes(&after));
        Ok(crossed)
    }

    /// Makes the victim whole again.
    ///
    /// # Errors
    /// When that is no longer possible.
    pub fn mend(&self) -> Result<()> {
        self.victim.prepare(&self.bed)
    }

    /// Plays the steps; `names` is what stands for `@`. Answers all that came back.
    fn play(&self, attack: &Attack, names: &str) -> Result<String> {
        self.victim.clean(&self.bed)?;
        let mut wires = [self.connect()?, self.connect()?];
        let mut seen = Vec::new();
        for step in &attack.steps {
            let wire = &mut wires[usize::from(step.second)];
            let fill = |text: &str| self.victim.fill(text).replace(":@", &format!(":{names}"));
            // A connection that the attack has lost ends nothing: the others may go on.
            match &step.act {
                Act::Ask(text) => {
                    if wire.send(&split(&fill(text))?).is_ok() {
                        match wire.read_bytes() {
                            Ok(bytes) => seen.extend(bytes),
                            Err(_) => seen.extend(b"(nothing)\r\n"),
                        }
                    }
                }
                Act::Send(text) => drop(wire.send(&split(&fill(text))?)),
                Act::Raw(text) => drop(wire.send_raw(&split(&fill(text))?.concat())),
                Act::Bytewise(text) => {
                    for byte in split(&fill(text))?.concat() {
                        if wire.send_raw(&[byte]).is_err() {
                            break;
                        }
                    }
                }
                Act::Reconnect => *wire = self.connect()?,
            }
        }
        for wire in &mut wires {
            if let Ok((bytes, _)) = wire.read_until_silent(SILENCE) {
                seen.extend(bytes);
            }
        }
        Ok(String::from_utf8_lossy(&seen).into_owned())
    }

    fn connect(&self) -> Result<Wire> {
        let mut wire = self.bed.connect(APP1)?;
        wire.set_patience(PATIENCE)?;
        Ok(wire)
    }
}

/// A reply without what differs by itself: numbers of clients, times, and names of scripts.
fn steady(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for char in text.chars().chain(['\0']) {
        if char.is_ascii_hexdigit() {
            run.push(char);
            continue;
        }
        // The time in milliseconds has 13 digits, the name of a script 40.
        let varies = out.ends_with("id\r\n:") || matches!(run.len(), 13 | 40);
        out.push_str(if varies { "N" } else { &run });
        run.clear();
        out.push(char);
    }
    out
}
