//! `flect doctor`: looks at everything that flect needs and says what to do where it is missing.
//!
//! Nothing is changed. What cannot be looked at (without root, say) is reported as such, never as
//! good.

mod environment;
mod node;

use std::process::ExitCode;

use serde::Serialize;

use crate::Global;
use crate::failure::Failure;
use crate::output::{ERROR, FAINT, GOOD, HEAD, WARN};

/// Exit code 0 when nothing is broken (there may be warnings), 1 otherwise.
#[derive(clap::Args)]
#[command(after_help = "Run it as root on a node to see everything:\n  sudo flect doctor")]
pub struct Args {}

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// It works, not as well as it could.
    Warning,
    /// It keeps flect from working.
    Broken,
    /// It could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    area: &'static str,
    what: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(area: &'static str, what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            area,
            what,
            verdict: Verdict::Good,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn bad(
        area: &'static str,
        what: &'static str,
        verdict: Verdict,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            area,
            what,
            verdict,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// Looks at everything.
pub fn run(global: &Global, _: &Args) -> anyhow::Result<ExitCode> {
    let mut findings = node::look(global);
    findings.extend(environment::look(global));
    let broken = findings.iter().any(|f| f.verdict == Verdict::Broken);
    crate::output::print(global.json, &findings, |all| text(all))?;
    Ok(if broken {
        ExitCode::from(Failure::Failed.code())
    } else {
        ExitCode::SUCCESS
    })
}

fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            area = finding.area;
            out.push_str(&format!("{HEAD}{area}{HEAD:#}\n"));
        }
        let (style, mark) = match finding.verdict {
            Verdict::Good => (GOOD, "ok"),
            Verdict::Warning => (WARN, "warning"),
            Verdict::Broken => (ERROR, "broken"),
            Verdict::Unknown => (FAINT, "unknown"),
        };
        out.push_str(&format!(
            "  {style}{mark:<7}{style:#}  {}: {}\n",
            finding.what, finding.detail
        ));
        if let Some(remedy) = &finding.remedy {
            out.push_str(&format!("           -> {remedy}\n"));
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    out.push_str(&format!(
        "{} broken, {} warnings, {} unknown\n",
        count(Verdict::Broken),
        count(Verdict::Warning),
        count(Verdict::Unknown)
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_comes_with_a_remedy() {
        let findings = [
            Finding::good("node", "kernel", "6.1"),
            Finding::bad(
                "node",
                "cgroup v2",
                Verdict::Broken,
                "not mounted",
                "mount it",
            ),
        ];
        let text = text(&findings);
        assert!(
            text.contains("cgroup v2: not mounted\n           -> mount it"),
            "{text}"
        );
        assert!(
            text.ends_with("1 broken, 0 warnings, 0 unknown\n"),
            "{text}"
        );
    }
}
