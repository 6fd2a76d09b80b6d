//! Every shell block of the documentation, run as its reader would.
//!
//! ```text
//! README.md, docs/*.md, sdk/README.md
//!   page      the document's blocks: what to run, what it prints, which files it shows
//!   session   the blocks as one shell session, file by file
//!   machine   namespaces in which /etc/flect, port 6379 and the root cgroup are the test's own
//!   expected  what a block printed against what the document says
//! ```
//!
//! Invariant: a block is run, or the document says why not and `not-run.txt` knows of it; nothing
//! is skipped silently. `generated` keeps the pages that are made from the programs equal to them.

mod expected;
mod generated;
mod links;
mod machine;
mod page;
mod session;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::tools;
use page::{Page, Start};
use session::Session;

/// Blocks that are not run: `document: first line`, one a line.
const NOT_RUN: &str = "tests/src/documentation/not-run.txt";

/// One trial for each document, and those of generated pages. Where there is no source tree, as in
/// the virtual machines, there is no documentation either: the host has tried it.
#[must_use]
pub fn trials() -> Vec<Trial> {
    if !tools::workspace().join("docs").is_dir() {
        return Vec::new();
    }
    let mut all = vec![
        trial("not_run_is_listed", not_run_is_listed),
        trial("links_lead_somewhere", || links::check(&documents())),
    ];
    all.extend(generated::trials());
    for name in documents() {
        let title = name.replace(['/', '.'], "_");
        all.push(trial(&title, move || follow(&name)));
    }
    all
}

fn trial(name: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("documentation::{name}"), move || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// The documents that readers begin with, by their paths in the source tree.
fn documents() -> Vec<String> {
    let mut all = vec!["README.md".to_owned(), "sdk/README.md".to_owned()];
    let pages = fs::read_dir(tools::workspace().join("docs"));
    let names = pages.into_iter().flatten().flatten();
    all.extend(
        names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".md"))
            .map(|name| format!("docs/{name}")),
    );
    all.retain(|name| tools::workspace().join(name).is_file());
    all.sort();
    all
}

fn read(name: &str) -> Result<Page> {
    let text = fs::read_to_string(tools::workspace().join(name))
        .with_context(|| format!("reading {name}"))?;
    Page::parse(name, &text)
}

/// Runs a document after those that it says it follows.
fn follow(name: &str) -> Result<()> {
    let page = read(name)?;
    if !page.runs() {
        return Ok(());
    }
    let mut pages = vec![page];
    while let Some(Start::After(before)) = pages.last().map(|page| page.start.clone()) {
        let before = Path::new(name).with_file_name(before);
        let before = before.to_str().context("a document's name is UTF-8")?;
        ensure!(
            pages.iter().all(|page| page.name != before),
            "{before} follows itself"
        );
        pages.push(read(before)?);
    }
    pages.reverse();
    let session = Session::new(pages)?;
    let outcome = machine::run(&session)?;
    session.judge(&outcome)
}

/// What documents mark as not run is what `not-run.txt` lists, no more and no less.
fn not_run_is_listed() -> Result<()> {
    let mut found = Vec::new();
    for name in documents() {
        for block in read(&name)?.marked() {
            found.push(format!("{name}: {}", block.first_line()));
            println!(
                "not run, {}: {name}: {}",
                block.reason(),
                block.first_line()
            );
        }
    }
    let list = fs::read_to_string(tools::workspace().join(NOT_RUN)).context(NOT_RUN)?;
    let mut listed: Vec<_> = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    listed.sort_unstable();
    found.sort_unstable();
    ensure!(
        found == listed,
        "documents mark these blocks as not run:\n{}\nnot-run.txt lists:\n{}",
        found.join("\n"),
        listed.join("\n")
    );
    Ok(())
}
