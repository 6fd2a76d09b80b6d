//! Documents as one shell session: a file for each block, and a script that takes them in turn.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::expected;
use super::page::{Block, Kind, Page};

/// The blocks of the pages, in their order.
#[derive(Debug)]
pub struct Session {
    pages: Vec<Page>,
}

/// What the machine left: how it ended, the number of the block that it was at, and what each block
/// has printed.
#[derive(Debug)]
pub struct Outcome {
    /// Everything has run.
    pub finished: bool,
    /// Of the block that ran last.
    pub at: usize,
    /// By the block's number; empty for blocks that print nothing.
    pub printed: Vec<String>,
    /// What the machine itself said.
    pub log: String,
}

impl Session {
    /// A session of these pages, one after the other.
    ///
    /// # Errors
    /// When they hold nothing to run.
    pub fn new(pages: Vec<Page>) -> Result<Self> {
        ensure!(pages.iter().any(Page::runs), "nothing to run");
        Ok(Self { pages })
    }

    fn blocks(&self) -> impl Iterator<Item = (&Page, &Block)> {
        let pages = self.pages.iter();
        pages.flat_map(|page| page.blocks.iter().map(move |block| (page, block)))
    }

    /// Writes the session's files. In the machine the folder is `/run/bed`.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut script = String::from("cd /srv/flect\n");
        for (number, (page, block)) in self.blocks().enumerate() {
            fs::write(folder.join(format!("{number}.block")), &block.text)?;
            // Writing to a String cannot fail.
            let _ = writeln!(script, "# {}:{}", page.name, block.line);
            let _ = match &block.kind {
                Kind::Run(code) => writeln!(script, "run {number} {code}"),
                Kind::NotRun(_) => writeln!(script, "parse {number}"),
                Kind::File(name) => writeln!(script, "file {number} '{name}'"),
                Kind::Added(name) => writeln!(script, "add {number} '{name}'"),
                Kind::Output | Kind::Other => Ok(()),
            };
        }
        let script = format!("{PRELUDE}{script}touch /run/bed/finished\n");
        fs::write(folder.join("session.sh"), script).context("writing the session")
    }

    /// Fails with the first block that did not do what its document says.
    ///
    /// # Errors
    /// Naming document and line.
    pub fn judge(&self, outcome: &Outcome) -> Result<()> {
        let all: Vec<_> = self.blocks().collect();
        let printed = |number: usize| outcome.printed.get(number).map_or("", String::as_str);
        for (number, (page, block)) in all.iter().enumerate() {
            if block.kind == Kind::Output {
                let Some(before) = number.checked_sub(1).filter(|before| *before <= outcome.at)
                else {
                    continue;
                };
                let ran = matches!(all[before].1.kind, Kind::Run(_));
                let got = printed(before);
                ensure!(
                    !ran || expected::matches(&block.text, got),
                    "{}:{}: the document says\n{}\nand the command prints\n{got}",
                    page.name,
                    block.line,
                    block.text
                );
            }
        }
        if outcome.finished {
            return Ok(());
        }
        let Some((page, block)) = all.get(outcome.at) else {
            bail!("the machine did not start:\n{}", outcome.log);
        };
        bail!(
            "{}:{}: this block fails:\n{}it prints:\n{}\n{}",
            page.name,
            block.line,
            block.text,
            printed(outcome.at),
            outcome.log
        )
    }

    /// The number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks().count()
    }
}

/// `run` keeps the shell's variables and folder from block to block, as a reader's terminal does; a
/// block ends the session unless it ends as announced.
const PRELUDE: &str = r#"
run() {
    echo "$1" > /run/bed/at
    if [ "$2" = 0 ]; then
        set -e
        . "/run/bed/$1.block" > "/run/bed/$1.out" 2>&1
    else
        set +e
        . "/run/bed/$1.block" > "/run/bed/$1.out" 2>&1
        local status=$?
        if [ "$status" != "$2" ]; then
            echo "exit status $status instead of $2"
            exit 1
        fi
    fi
}
parse() {
    echo "$1" > /run/bed/at
    bash -n "/run/bed/$1.block" > "/run/bed/$1.out" 2>&1 || exit 1
}
file() {
    echo "$1" > /run/bed/at
    case $2 in */*) mkdir -p "${2%/*}" ;; esac
    cp "/run/bed/$1.block" "$2" || exit 1
}
add() {
    echo "$1" > /run/bed/at
    cat "/run/bed/$1.block" >> "$2" || exit 1
}
"#;
