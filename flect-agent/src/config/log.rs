//! `[agent.log]`: what the agent's log looks like and how much it says.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// The log on standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What a line looks like.
    pub format: LogFormat,
    /// Which lines there are.
    pub levels: Levels,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object, for programs.
    Json,
}

/// Levels for modules, such as `info` or `warn,flect_agent::worker=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Levels(String);

impl Default for Levels {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl TryFrom<String> for Levels {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match EnvFilter::builder().parse(&text) {
            Ok(_) if !text.trim().is_empty() => Ok(Self(text)),
            Ok(_) => Err("no levels: expected such as info".to_owned()),
            Err(error) => Err(format!(
                "'{text}' are no levels ({error}): expected such as info or warn,flect_agent::worker=debug"
            )),
        }
    }
}

impl Levels {
    /// What lets lines pass.
    #[must_use]
    pub fn filter(&self) -> EnvFilter {
        // It was parsed when it was read.
        EnvFilter::new(&self.0)
    }
}
