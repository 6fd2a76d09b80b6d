//! One mistake in a manifest: what is wrong, where, and the line it stands in.
//!
//! Invariant: whatever the file holds, what is printed is short and moves no cursor.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

/// A stretch of a manifest's text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The first byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl From<Range<usize>> for Place {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// What is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// A sentence.
    pub message: String,
    /// The line, or the part of it around the place, fit for a terminal.
    #[serde(skip)]
    excerpt: String,
    /// Characters of the excerpt before the place.
    #[serde(skip)]
    indent: usize,
    /// Characters of the place, at least 1.
    #[serde(skip)]
    width: usize,
}

/// What is shown of a line: a place with what stands around it fits a terminal.
const EXCERPT_CHARS_MAX: usize = 76;
/// What is repeated of a text inside a sentence.
const FIT_CHARS_MAX: usize = 64;
/// Mistakes that are told at once; the rest follows from them, or somebody passed a wrong file.
pub(super) const PROBLEMS_MAX: usize = 20;

impl Problem {
    /// A mistake at a place of `text`.
    pub fn new(text: &str, place: Place, message: impl Into<String>) -> Self {
        let start = floor_char_boundary(text, place.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let rest = &text[line_start..];
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let before = text[line_start..start].chars().count();
        // A place may go on in the next lines; only the first is marked.
        let end = floor_char_boundary(text, place.end)
            .clamp(start, line_start + line.len().max(start - line_start));
        let marked = text[start..end].chars().count();
        let skipped = (before + 1).saturating_sub(EXCERPT_CHARS_MAX / 2);
        let skipped = if line.chars().nth(EXCERPT_CHARS_MAX).is_none() {
            0
        } else {
            skipped
        };
        let excerpt: String = line
            .chars()
            .skip(skipped)
            .take(EXCERPT_CHARS_MAX)
            .map(harmless)
            .collect();
        let indent = before - skipped;
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            message: message.into(),
            width: marked.clamp(1, EXCERPT_CHARS_MAX.saturating_sub(indent).max(1)),
            excerpt,
            indent,
        }
    }

    /// The mistake as a compiler would show it.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        let Self { line, column, .. } = self;
        let margin = " ".repeat(line.to_string().len());
        let mut out = format!("{}:{line}:{column}: {}", path.display(), self.message);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n{margin} |\n{line} | {}\n{margin} | {}{}",
            self.excerpt,
            " ".repeat(self.indent),
            "^".repeat(self.width)
        );
        out
    }
}

/// All mistakes of a file, one below the other.
pub(super) fn shown(path: &Path, problems: &[Problem]) -> String {
    let mut parts: Vec<String> = problems
        .iter()
        .take(PROBLEMS_MAX)
        .map(|problem| problem.shown(path))
        .collect();
    if problems.len() > PROBLEMS_MAX {
        parts.push(format!("and {} more", problems.len() - PROBLEMS_MAX));
    }
    parts.join("\n\n")
}

/// A text of the file inside a sentence: short, and without anything that a terminal obeys.
pub(super) fn fit(text: &str) -> String {
    let mut fit: String = text.chars().take(FIT_CHARS_MAX).map(harmless).collect();
    if text.chars().nth(FIT_CHARS_MAX).is_some() {
        fit.push_str("...");
    }
    fit
}

/// Control characters, and those that turn the direction of text, which make a line look like
/// another.
fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, place: Range<usize>, expect: &str) {
        let shown = Problem::new(text, place.into(), "no").shown(Path::new("f"));
        assert_eq!(shown, expect);
    }

    #[test]
    fn the_place_is_marked() {
        check(
            "a = 1\nbb = 2\n",
            6..8,
            "f:2:1: no\n  |\n2 | bb = 2\n  | ^^",
        );
        check("é = x\r\n", 5..6, "f:1:5: no\n  |\n1 | é = x\n  |     ^");
        check("\ta", 1..2, "f:1:2: no\n  |\n1 |  a\n  |  ^");
        check("", 0..0, "f:1:1: no\n  |\n1 | \n  | ^");
        check("a\n", 2..9, "f:2:1: no\n  |\n2 | \n  | ^");
        check("ab\ncd", 1..5, "f:1:2: no\n  |\n1 | ab\n  |  ^");
        check(
            "x\u{1b}[2J\u{202e}",
            0..1,
            "f:1:1: no\n  |\n1 | x\u{fffd}[2J\u{fffd}\n  | ^",
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}HERE{}", "x".repeat(500_000), "y".repeat(500_000));
        let shown = Problem::new(&text, (500_000..500_004).into(), "no").shown(Path::new("f"));
        assert!(shown.len() < 300, "{shown}");
        assert!(
            shown.contains("1:500001") && shown.contains("xxHEREyy"),
            "{shown}"
        );
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[2].find("HERE"), lines[3].find("^^^^"), "{shown}");
    }
}
