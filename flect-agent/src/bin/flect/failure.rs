//! Errors as users meet them: a sentence on stderr, an exit code that scripts can tell apart.

use std::fmt;
use std::process::ExitCode;

use flect_agent::admin::AdminError;
use flect_agent::config::environments::EnvironmentError;
use flect_agent::registry::RegistryError;
use serde_json::json;

/// What went wrong, as far as scripts need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command was carried out and did not succeed.
    Failed,
    /// No environment, no Valkey or no agent can be reached.
    Unreachable,
    /// There is no such store or app.
    NotFound,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::NotFound => "not-found",
        })
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The exit code, as `flect --help` lists them.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Unreachable => 3,
            Self::NotFound => 4,
        }
    }

    /// What kind of failure an error is: a `Failure` given as context, or what its cause says.
    fn of(error: &anyhow::Error) -> Self {
        if let Some(failure) = error.downcast_ref::<Self>() {
            return *failure;
        }
        for cause in error.chain() {
            if let Some(cause) = cause.downcast_ref::<RegistryError>() {
                return Self::of_registry(cause);
            }
            if let Some(cause) = cause.downcast_ref::<AdminError>() {
                return match cause {
                    AdminError::Server { .. } | AdminError::Reach(_) => Self::Unreachable,
                    AdminError::Registry(cause) => Self::of_registry(cause),
                    AdminError::Refused(_) => Self::Failed,
                };
            }
            if cause.is::<EnvironmentError>() {
                return Self::Unreachable;
            }
        }
        Self::Failed
    }

    fn of_registry(error: &RegistryError) -> Self {
        match error {
            RegistryError::Unknown { .. } => Self::NotFound,
            RegistryError::Server(_) => Self::Unreachable,
            _ => Self::Failed,
        }
    }

    /// Tells the user; with `--json` on stdout as well.
    pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
        let failure = Self::of(error);
        let text = text(error);
        if json {
            println!(
                "{}",
                json!({ "error": { "kind": failure.to_string(), "message": text } })
            );
        }
        anstream::eprintln!(
            "{}flect:{:#} {text}",
            crate::output::ERROR,
            crate::output::ERROR
        );
        ExitCode::from(failure.code())
    }
}

/// The error and its causes in one line, without the marker.
pub fn text(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        let marker = error
            .downcast_ref::<Failure>()
            .is_some_and(|failure| failure.to_string() == cause);
        // Errors that show their cause themselves would say it twice.
        if !marker && parts.last().is_none_or(|last| !last.contains(&cause)) {
            parts.push(cause);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_give_the_code_and_no_words() {
        let error = anyhow::anyhow!("no agent answers").context(Failure::Unreachable);
        assert_eq!(Failure::of(&error), Failure::Unreachable);
        assert_eq!(text(&error), "no agent answers");
    }
}
