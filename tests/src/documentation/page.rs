//! A document's blocks, read from its Markdown.
//!
//! What a block means, its language and the line before it say:
//!
//! ```text
//! ```sh                        run, in order, in one session of the document
//! <!-- not run: WHY -->        before a sh block: it is only checked for syntax
//! <!-- exits with N -->        before a sh block: how its last command ends, 0 otherwise
//! ```text                      what the sh block before it prints
//! <!-- not output -->          before a text block: it is something else
//! `FILE`:                      the last line before any other block: the block is that file
//! Add to `FILE`:               the same: the block is the file's new end
//! <!-- begins on a new machine -->, <!-- begins after PAGE.md -->   where the session begins
//! ```
//!
//! Invariant: what is none of these is an error with its line, so that no block is overlooked.

use anyhow::{Context, Result, bail, ensure};

/// A document with what in it can be run.
#[derive(Debug)]
pub struct Page {
    /// Its path in the source tree.
    pub name: String,
    /// Where its session begins.
    pub start: Start,
    /// In the document's order.
    pub blocks: Vec<Block>,
}

/// Where a document's session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// On a machine with a Valkey and a checkout, nothing installed.
    NewMachine,
    /// Where another page of the same folder ends.
    After(String),
}

/// One fenced block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its first line in the document.
    pub line: usize,
    /// Without the fences.
    pub text: String,
    /// What it is.
    pub kind: Kind,
}

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands with the status that the last one ends with.
    Run(u8),
    /// Commands that are not run, and why.
    NotRun(String),
    /// What the commands before it print.
    Output,
    /// A file of this name.
    File(String),
    /// The new end of a file.
    Added(String),
    /// Something to look at.
    Other,
}

/// Languages that a block may have beside `sh` and `text`: what editors and readers know.
const LANGUAGES: [&str; 10] = [
    "toml", "yaml", "js", "cjs", "ts", "json", "ini", "py", "lua", "diagram",
];

impl Page {
    /// Reads a document.
    ///
    /// # Errors
    /// When a block is not as this module says; the message names the line.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut page = Self {
            name: name.to_owned(),
            start: Start::NewMachine,
            blocks: Vec::new(),
        };
        let mut started = false;
        let mut before = String::new();
        let mut notes = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let at = || format!("{name}:{}", index + 1);
            if let Some(note) = comment(line) {
                match note.strip_prefix("begins ") {
                    Some(start) => {
                        page.start = begin(start).with_context(at)?;
                        started = true;
                    }
                    None => notes.push(note.to_owned()),
                }
                continue;
            }
            let Some(language) = line.strip_prefix("```") else {
                let indented = line.starts_with("    ") && before.is_empty();
                ensure!(
                    !indented || line.trim().is_empty(),
                    "{}: a block needs fences and a language",
                    at()
                );
                if !line.trim().is_empty() {
                    ensure!(notes.is_empty(), "{}: no block follows {notes:?}", at());
                    line.clone_into(&mut before);
                } else if !before.ends_with("`:") {
                    before.clear();
                }
                continue;
            };
            let mut body = String::new();
            loop {
                let (_, line) = lines.next().with_context(|| format!("{}: no end", at()))?;
                if line == "```" {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            let kind = kind(language, &before, &notes).with_context(at)?;
            notes.clear();
            before.clear();
            page.blocks.push(Block {
                line: index + 2,
                text: body,
                kind,
            });
        }
        ensure!(notes.is_empty(), "{name}: no block follows {notes:?}");
        ensure!(
            started || !page.runs(),
            "{name} has commands and does not say where it begins"
        );
        page.check_outputs()?;
        Ok(page)
    }

    /// Is there anything to run?
    #[must_use]
    pub fn runs(&self) -> bool {
        let mut kinds = self.blocks.iter().map(|block| &block.kind);
        kinds.any(|kind| matches!(kind, Kind::Run(_)))
    }

    /// The blocks that are marked as not run.
    pub fn marked(&self) -> impl Iterator<Item = &Block> {
        let blocks = self.blocks.iter();
        blocks.filter(|block| matches!(block.kind, Kind::NotRun(_)))
    }

    fn check_outputs(&self) -> Result<()> {
        for pair in self.blocks.windows(2) {
            if let [before, block] = pair
                && block.kind == Kind::Output
            {
                ensure!(
                    matches!(before.kind, Kind::Run(_) | Kind::NotRun(_)),
                    "{}:{}: output of nothing; mark it: not output",
                    self.name,
                    block.line
                );
            }
        }
        Ok(())
    }
}

impl Block {
    /// What it begins with, for people.
    #[must_use]
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Why it is not run.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.kind {
            Kind::NotRun(reason) => reason,
            _ => "",
        }
    }
}

/// The text of a line that is a comment and nothing else.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    Some(text.trim())
}

fn begin(text: &str) -> Result<Start> {
    match text.split_once(' ') {
        Some(("on", "a new machine")) => Ok(Start::NewMachine),
        Some(("after", page)) => Ok(Start::After(page.to_owned())),
        _ => bail!("a document begins 'on a new machine' or 'after PAGE.md', not '{text}'"),
    }
}

fn kind(language: &str, before: &str, notes: &[String]) -> Result<Kind> {
    let note = match notes {
        [] => None,
        [note] => Some(note.as_str()),
        more => bail!("one note a block, not {more:?}"),
    };
    Ok(match (language, note) {
        ("sh", None) => Kind::Run(0),
        ("sh", Some(note)) => {
            if let Some(reason) = note.strip_prefix("not run: ") {
                ensure!(reason.len() > 10, "'{reason}' is no reason");
                Kind::NotRun(reason.to_owned())
            } else if let Some(code) = note.strip_prefix("exits with ") {
                Kind::Run(code.parse().context("an exit code")?)
            } else {
                bail!("unknown note '{note}'")
            }
        }
        ("text", None) => Kind::Output,
        ("text", Some("not output")) => Kind::Other,
        (_, Some(note)) => bail!("'{note}' before a block of {language}"),
        (known, None) if LANGUAGES.contains(&known) => match named_file(before) {
            Some(file) if before.starts_with("Add to") => Kind::Added(file.to_owned()),
            Some(file) => Kind::File(file.to_owned()),
            None => Kind::Other,
        },
        (other, None) => bail!("'{other}' is no language that the harness knows"),
    })
}

/// The file that a line ends with: "... `flect.toml`:".
fn named_file(line: &str) -> Option<&str> {
    let (_, name) = line.strip_suffix("`:")?.rsplit_once('`')?;
    (!name.is_empty() && !name.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn kinds(text: &str) -> Vec<Kind> {
        let page = Page::parse("x.md", &format!("<!-- begins on a new machine -->\n{text}"));
        let blocks = page.unwrap().blocks.into_iter();
        blocks.map(|block| block.kind).collect()
    }

    #[test]
    fn blocks_are_what_their_document_says() {
        let text = "Do:\n\n```sh\na\n```\n\nIt prints\n```text\nb\n```\n\nThis is `flect.toml`:\n\n\
                    ```toml\nc\n```\n<!-- exits with 4 -->\n```sh\nd\n```\n\
                    <!-- not run: it changes the machine -->\n```sh\ne\n```\n```toml\nf\n```\n\
                    Add to `a.ini`:\n```ini\ng\n```\n";
        let expect = [
            Kind::Run(0),
            Kind::Output,
            Kind::File("flect.toml".to_owned()),
            Kind::Run(4),
            Kind::NotRun("it changes the machine".to_owned()),
            Kind::Other,
            Kind::Added("a.ini".to_owned()),
        ];
        assert_eq!(kinds(text), expect);
    }

    #[test]
    fn nothing_is_overlooked() {
        for wrong in [
            "```\na\n```",
            "```sh\na",
            "    $ a",
            "```bash\na\n```",
            "<!-- not run: -->\n```sh\na\n```",
            "<!-- not run: it changes the machine -->\nText.",
            "```text\nno command before\n```\n```text\nb\n```",
        ] {
            let text = format!("<!-- begins on a new machine -->\n\n{wrong}\n");
            assert!(Page::parse("x.md", &text).is_err(), "{wrong}");
        }
        assert!(Page::parse("x.md", "```sh\na\n```").is_err());
    }
}
