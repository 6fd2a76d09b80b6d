//! Progress of long work, on stderr, where a terminal is.

use indicatif::{ProgressBar, ProgressStyle};

/// Steps of a bar that shows a fraction.
const STEPS: u64 = 10_000;

/// How often a bar is drawn, so that it moves and costs nothing.
const REDRAW: std::time::Duration = std::time::Duration::from_millis(120);

/// A bar that shows how far something is, with the time it will still take.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with a word before it. Without a terminal nothing is drawn.
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(STEPS);
        let (template, chars) = if unicode() {
            (
                "{prefix}  {wide_bar} {percent:>3} %  {msg}  {eta}",
                "█▉▊▋▌▍▎▏ ",
            )
        } else {
            ("{prefix}  [{wide_bar}] {percent:>3} %  {msg}  {eta}", "#- ")
        };
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars(chars));
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(REDRAW);
        Self(bar)
    }

    /// How far it is, and what is done in words.
    pub fn set(&self, fraction: f64, message: String) {
        // Within the steps: fractions are between 0 and 1.
        self.0
            .set_position((fraction.clamp(0.0, 1.0) * STEPS as f64) as u64);
        self.0.set_message(message);
    }

    /// Takes the bar away: the answer follows.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether the terminal shows more than ASCII, as the locale says.
pub fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A number with its thousands apart, for people.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 key`, `2 keys`.
pub fn keys(number: u64) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} key{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(keys(1), "1 key");
    }
}
