//! `flect check`: is this `flect.toml` right, by itself and for what is there?

use std::path::PathBuf;
use std::process::ExitCode;

use flect_agent::config::environments::Folders;
use flect_agent::manifest::{Found, Local, ManifestError, Problem, nearest, schema};
use serde::Serialize;

use crate::Global;
use crate::app::Apps;
use crate::failure::{Failure, text};
use crate::node::Node;
use crate::operator::{Operator, block_on};
use crate::output::{ERROR, FAINT, GOOD, WARN};

/// The arguments of `flect check`.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest, or its folder [default: flect.toml in this folder or the nearest above]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Ask neither the environment nor the agent whether the stores are there
    #[arg(long)]
    offline: bool,
    /// Print the JSON schema of flect.toml, for editors
    #[arg(long, conflicts_with_all = ["path", "offline"])]
    schema: bool,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    path: PathBuf,
    valid: bool,
    app: Option<String>,
    stores: Vec<Store>,
    problems: Vec<Problem>,
    doubts: Vec<Problem>,
    /// The environment in which the stores were looked for.
    environment: Option<String>,
    /// The app whose stores were compared.
    agent_app: Option<String>,
    /// What was not looked at, and why.
    unchecked: Vec<String>,
}

#[derive(Serialize)]
struct Store {
    binding: String,
    variable: String,
    name: String,
}

/// Exit code 0 when it is right, 1 when it is not.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        print!("{}", schema());
        return Ok(ExitCode::SUCCESS);
    }
    let found = match Found::load(args.path.as_deref()) {
        Ok(found) => found,
        Err(ManifestError::Invalid { path, problems }) => {
            return finish(global, Report::invalid(path, problems));
        }
        Err(error) => return Err(error.into()),
    };
    // `flect run` would stop at it.
    Local::load(&found.path, found.folder())?;
    let mut report = Report::of(&found);
    if !args.offline {
        against_environment(global, &found, &mut report)?;
        against_agent(global, &found, &mut report);
    }
    report.valid = report.problems.is_empty();
    finish(global, report)
}

fn finish(global: &Global, report: Report) -> anyhow::Result<ExitCode> {
    crate::output::print(global.json, &report, Report::text)?;
    Ok(if report.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Failure::Failed.code())
    })
}

/// Do the stores exist? An environment that was asked for must answer; any other may be away.
fn against_environment(global: &Global, found: &Found, report: &mut Report) -> anyhow::Result<()> {
    let folders = Folders::from_env();
    if global.env.is_none()
        && let Err(error) = folders.choose(None)
    {
        report
            .unchecked
            .push(format!("whether the stores exist: {error}"));
        return Ok(());
    }
    let snapshot = block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        Ok((operator.environment, snapshot))
    });
    let (environment, snapshot) = match snapshot {
        Ok(all) => all,
        Err(error) if global.env.is_some() => return Err(error),
        Err(error) => {
            let reason = format!("whether the stores exist: {}", text(&error));
            report.unchecked.push(reason);
            return Ok(());
        }
    };
    for kv in &found.manifest.kv {
        if snapshot.find(&kv.name).is_none() {
            let known = snapshot.stores.keys().map(flect_agent::store::Slug::as_str);
            let hint = match nearest(kv.name.as_str(), known) {
                Some(near) => format!("did you mean '{near}'? otherwise make it"),
                None => "make it".to_owned(),
            };
            let message = format!(
                "environment {environment} has no store '{name}'; {hint}: flect kv create {name}",
                name = kv.name
            );
            report
                .problems
                .push(Problem::new(&found.text, kv.place, message));
        }
    }
    report.environment = Some(environment);
    Ok(())
}

/// Are the stores bound to the app? Only where this user may run it here.
fn against_agent(global: &Global, found: &Found, report: &mut Report) {
    let asked =
        Node::connect(&global.socket).and_then(|mut node| Apps::ask_for(&mut node, None, found));
    let apps = match asked {
        Ok(apps) => apps,
        Err(error) => {
            let reason = format!("whether the app has the stores: {}", text(&error));
            return report.unchecked.push(reason);
        }
    };
    let app = match apps.choose(None, found) {
        Ok(app) => app,
        Err(error) => {
            let reason = format!("whether the app has the stores: {}", text(&error));
            return report.unchecked.push(reason);
        }
    };
    report.agent_app = Some(app.name.clone());
    if let Err(ManifestError::Invalid { problems, .. }) = app.has_all(found) {
        // The environment may have said the same already.
        let known: Vec<usize> = report.problems.iter().map(|problem| problem.line).collect();
        let new = problems
            .into_iter()
            .filter(|problem| !known.contains(&problem.line));
        report.problems.extend(new);
    }
}

impl Report {
    fn of(found: &Found) -> Self {
        let manifest = &found.manifest;
        Self {
            path: found.path.clone(),
            valid: true,
            app: manifest.app.as_ref().map(ToString::to_string),
            stores: manifest
                .kv
                .iter()
                .map(|kv| Store {
                    binding: kv.binding.to_string(),
                    variable: kv.binding.variable(),
                    name: kv.name.to_string(),
                })
                .collect(),
            problems: Vec::new(),
            doubts: manifest.doubts.clone(),
            environment: None,
            agent_app: None,
            unchecked: Vec::new(),
        }
    }

    fn invalid(path: PathBuf, problems: Vec<Problem>) -> Self {
        Self {
            path,
            valid: false,
            app: None,
            stores: Vec::new(),
            problems,
            doubts: Vec::new(),
            environment: None,
            agent_app: None,
            unchecked: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        for problem in &self.problems {
            parts.push(format!(
                "{ERROR}error:{ERROR:#} {}\n",
                problem.shown(&self.path)
            ));
        }
        for doubt in &self.doubts {
            parts.push(format!("{WARN}note:{WARN:#} {}\n", doubt.shown(&self.path)));
        }
        if self.valid {
            parts.push(format!("{GOOD}{} is right{GOOD:#}", self.path.display()));
            for store in &self.stores {
                parts.push(format!("  {} is store {}", store.variable, store.name));
            }
        }
        if let Some(environment) = self.environment.as_ref().filter(|_| self.valid) {
            parts.push(format!("  the stores exist in environment {environment}"));
        }
        if let Some(app) = self.agent_app.as_ref().filter(|_| self.valid) {
            parts.push(format!("  app {app} has them on this node"));
        }
        for reason in &self.unchecked {
            parts.push(format!("{FAINT}  not checked: {reason}{FAINT:#}"));
        }
        parts.join("\n")
    }
}
