//! Attacks as text.
//!
//! | line | meaning |
//! | --- | --- |
//! | `= name : acl,last-key` | an attack, and the weaknesses under which it must cross |
//! | `= name : never, REASON` | an attack that no weakness lets through |
//! | `GET {foreign}:@string` | a request, whose reply is read |
//! | `b: GET k` | the same on a second connection |
//! | `> BLPOP k 0` | a request whose reply is not waited for |
//! | `raw "*1\r\n"` | bytes as they are |
//! | `bytewise "*1\r\n"` | the same, each byte by itself |
//! | `reconnect` | the connection is closed and made anew |
//! | `# ...` | a comment |
//!
//! Invariant: `:@` stands before the names of the neighbour's keys and nowhere else, so that the same attack
//! can be made on keys that are not there, and the answers compared.

use anyhow::{Context, Result, ensure};

/// One attack.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What it is called.
    pub name: String,
    /// The weaknesses that let it through, or why none does.
    pub weaknesses: Result<String, String>,
    /// What is done.
    pub steps: Vec<Step>,
}

/// One thing that the attacker does.
#[derive(Clone, Debug)]
pub struct Step {
    /// On its second connection.
    pub second: bool,
    /// What.
    pub act: Act,
}

/// What the attacker does; the texts still hold placeholders.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends a request and reads a reply.
    Ask(String),
    /// Sends a request.
    Send(String),
    /// Sends bytes.
    Raw(String),
    /// Sends bytes one by one.
    Bytewise(String),
    /// Comes again.
    Reconnect,
}

impl Attack {
    /// All attacks of a text.
    ///
    /// # Errors
    /// When a line makes no sense.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(head) = line.strip_prefix("= ") {
                let (name, rest) = head
                    .split_once(" : ")
                    .with_context(|| format!("no weaknesses: {line}"))?;
                let weaknesses = match rest.strip_prefix("never, ") {
                    Some(reason) => Err(reason.to_owned()),
                    None => Ok(rest.to_owned()),
                };
                all.push(Self {
                    name: name.to_owned(),
                    weaknesses,
                    steps: Vec::new(),
                });
                continue;
            }
            let attack = all.last_mut().context("a step before any attack")?;
            attack.steps.push(Step::parse(line));
        }
        for attack in &all {
            ensure!(!attack.steps.is_empty(), "{} does nothing", attack.name);
        }
        Ok(all)
    }

    /// Whether it names keys of the neighbour.
    #[must_use]
    pub fn names_keys(&self) -> bool {
        self.steps.iter().any(|step| match &step.act {
            Act::Ask(text) | Act::Send(text) | Act::Raw(text) | Act::Bytewise(text) => {
                text.contains(":@")
            }
            Act::Reconnect => false,
        })
    }
}

impl Step {
    fn parse(line: &str) -> Self {
        let (second, line) = match line.strip_prefix("b: ") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let act = if let Some(rest) = line.strip_prefix("> ") {
            Act::Send(rest.to_owned())
        } else if let Some(rest) = line.strip_prefix("raw ") {
            Act::Raw(rest.to_owned())
        } else if let Some(rest) = line.strip_prefix("bytewise ") {
            Act::Bytewise(rest.to_owned())
        } else if line == "reconnect" {
            Act::Reconnect
        } else {
            Act::Ask(line.to_owned())
        };
        Self { second, act }
    }
}
