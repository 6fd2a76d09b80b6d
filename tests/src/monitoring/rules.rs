//! Alert rules, dashboard and runbook belong together, and ask for what there is.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::http::{bed, scrape};
use super::text::Scrape;
use super::{Body, limit};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::smoke::check;
use crate::tools;

pub const TRIALS: [(&str, Body); 2] = [
    (
        "rules_and_dashboard_ask_for_what_there_is",
        ask_for_what_there_is,
    ),
    (
        "rules_have_a_section_in_the_runbook",
        have_a_section_in_the_runbook,
    ),
];

const RULES: &str = "config/prometheus/flect.rules.yml";
const DASHBOARD: &str = "config/grafana/flect.json";
const RUNBOOK: &str = "docs/runbook.md";

/// Measuring takes seconds.
const TOLD_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

fn read(name: &str) -> Result<String> {
    fs::read_to_string(tools::workspace().join(name)).with_context(|| name.to_owned())
}

/// The expressions of a dashboard: every `expr`, and the queries behind its variables.
fn expressions(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" || name == "query" => {
                        into.push(text.clone())
                    }
                    other => expressions(other, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        _ => {}
    }
}

/// The names of metrics in an expression, with the values that it wants of labels.
fn asked(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["flect_", "process_"]
        .iter()
        .filter_map(|it| rest.find(it))
        .min()
    {
        let begin = &rest[at..];
        let end = begin.find(|c| !word(c)).unwrap_or(begin.len());
        let name = begin[..end].to_owned();
        let after = &begin[end..];
        let labels = after.strip_prefix('{').and_then(|it| it.split_once('}'));
        let labels = labels.map_or(Vec::new(), |(labels, _)| {
            let pairs = labels.split(',').filter_map(|label| label.split_once('='));
            let plain = |value: &str| value.trim_start_matches('~').trim_matches('"').to_owned();
            let pairs = pairs.map(|(name, value)| (name.to_owned(), plain(value)));
            pairs.collect()
        });
        found.push((name, labels));
        rest = after;
    }
    found
}

fn ask_for_what_there_is() -> Result<()> {
    let rules = read(RULES)?;
    let mut all: Vec<String> = Vec::new();
    // An expression may go on in lines that begin neither a key nor a rule.
    let mut in_expression = false;
    for line in rules.lines() {
        let line = line.trim();
        if let Some(expression) = line.strip_prefix("expr: ") {
            all.push(expression.trim_start_matches(">-").to_owned());
            in_expression = true;
        } else if line.starts_with("for:") || line.starts_with("labels:") {
            in_expression = false;
        } else if in_expression {
            let last = all.last_mut().context("no expression")?;
            *last = format!("{last} {line}");
        }
    }
    ensure!(
        all.len() == rules.matches("- alert: ").count(),
        "{} expressions",
        all.len()
    );
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?).context(DASHBOARD)?;
    expressions(&dashboard, &mut all);
    ensure!(all.len() > 40, "only {} expressions", all.len());

    let (bed, _folder, socket) = bed(Bed::builder())?;
    limit(&bed)?;
    let mut client = bed.connect(APP1)?;
    check(&mut client, "SET a 1", "OK")?;
    check(&mut client, "GET a", "1")?;
    let mut seen = Scrape::default();
    wait_until(TOLD_WITHIN, || {
        seen = Scrape::parse(&scrape(&socket)?)?;
        Ok(seen.find("flect_store_memory_bytes", &[]).next().is_some())
    })?;
    let mut names = BTreeSet::new();
    for expression in &all {
        let metrics = asked(expression);
        ensure!(
            !metrics.is_empty() || !expression.contains('('),
            "no metric in: {expression}"
        );
        for (name, labels) in metrics {
            let samples: Vec<_> = seen
                .samples
                .iter()
                .filter(|sample| sample.name == name)
                .collect();
            ensure!(!samples.is_empty(), "{expression}: no scrape has {name}");
            // What Prometheus adds, and what the dashboard's reader chooses.
            let own = labels.iter().filter(|(label, value)| {
                !["instance", "job"].contains(&label.as_str()) && !value.starts_with('$')
            });
            for (label, values) in own {
                for value in values.split('|') {
                    let has = |it: &&crate::monitoring::text::Sample| {
                        it.labels.get(label).is_some_and(|found| found == value)
                    };
                    ensure!(
                        samples.iter().any(has),
                        "{expression}: no {name} has {label}={value}"
                    );
                }
            }
            names.insert(name);
        }
    }
    ensure!(names.len() > 30, "only {names:?}");
    Ok(())
}

fn have_a_section_in_the_runbook() -> Result<()> {
    let (rules, runbook) = (read(RULES)?, read(RUNBOOK)?);
    let alerts: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    ensure!(
        alerts == sections,
        "alerts {alerts:?}, sections {sections:?}"
    );
    for alert in alerts {
        let place = format!("runbook: {RUNBOOK}#{}", alert.to_lowercase());
        ensure!(rules.contains(&place), "{alert} does not name its section");
    }
    Ok(())
}
