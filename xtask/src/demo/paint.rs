//! Words for a person: colour on a terminal, plain text elsewhere.

use std::env;
use std::fmt::Display;
use std::io::IsTerminal;

/// The width of one of two columns; both fit a terminal of 80.
const COLUMN: usize = 38;

/// Prints to stdout.
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// Colour when stdout is a terminal and `NO_COLOR` is not set.
    pub fn new() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            colour: std::io::stdout().is_terminal() && !refused,
        }
    }

    /// The title.
    pub fn title(&self, text: &str) {
        println!("\n{}", self.style("1;36", text));
    }

    /// The heading of a step.
    pub fn step(&self, number: u32, text: &str) {
        println!(
            "\n{} {}",
            self.style("1;36", format!("{number}.")),
            self.style("1", text)
        );
    }

    /// A sentence.
    pub fn say(&self, text: impl Display) {
        println!("   {text}");
    }

    /// The heads of two columns.
    pub fn heads(&self, left: &str, right: &str) {
        self.row("1;35", left, right);
    }

    /// What was typed on both sides.
    pub fn typed(&self, left: &str, right: &str) {
        self.row("2", left, right);
    }

    /// What came back on both sides.
    pub fn got(&self, left: &str, right: &str) {
        self.row("32", left, right);
    }

    /// What was typed, alone in its line.
    pub fn typed_alone(&self, text: &str) {
        println!("   {}", self.style("2", text));
    }

    /// What came back, alone in its line.
    pub fn got_alone(&self, text: &str) {
        println!("   {}", self.style("32", text));
    }

    /// A refusal.
    pub fn refused(&self, text: &str) {
        println!("   {}", self.style("31", text));
    }

    /// The last line.
    pub fn end(&self, text: &str) {
        println!("\n{}", self.style("1;32", text));
    }

    fn row(&self, style: &str, left: &str, right: &str) {
        let blanks = COLUMN.saturating_sub(left.chars().count()).max(1);
        let (left, right) = (self.style(style, left), self.style(style, right));
        println!("   {left}{:blanks$}{right}", "");
    }

    fn style(&self, codes: &str, text: impl Display) -> String {
        if self.colour {
            format!("\x1b[{codes}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}
