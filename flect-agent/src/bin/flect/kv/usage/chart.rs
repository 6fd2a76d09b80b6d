//! Bars in the terminal: readable without colour, no wider than the terminal, and in ASCII where
//! the locale has nothing else.

use crate::output::HEAD;

/// The width where there is no terminal, such as in a pipe.
const WIDTH_DEFAULT: usize = 80;

/// Bars longer than this say no more.
const BAR_MAX: usize = 40;

/// Shorter bars cannot be compared; narrower terminals get lines that are too long.
const BAR_MIN: usize = 5;

/// Longer labels are cut: names of keys can be of any length.
const LABEL_MAX: usize = 40;

/// How charts are drawn here.
pub struct Chart {
    width: usize,
    unicode: bool,
}

impl Chart {
    /// As wide as the terminal.
    pub fn of_terminal(unicode: bool) -> Self {
        let width = rustix::termios::tcgetwinsize(std::io::stdout())
            .map(|size| usize::from(size.ws_col))
            .ok()
            .filter(|width| *width > 0)
            .unwrap_or(WIDTH_DEFAULT);
        Self { width, unicode }
    }

    /// A bar for a part of a whole, always `width` wide.
    pub fn bar(&self, part: f64, width: usize) -> String {
        const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        // Between 0 and the width: parts are clamped.
        let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
        let mut bar = String::new();
        for at in 0..width {
            let filled = eighths.saturating_sub(at * 8).min(8);
            bar.push(match (self.unicode, filled) {
                (true, 8) => '█',
                (true, filled) => EIGHTHS[filled],
                (false, filled) if filled >= 4 => '#',
                (false, _) => '.',
            });
        }
        bar
    }

    /// A title and a line for each row: label, bar, value.
    pub fn section(&self, out: &mut String, title: &str, rows: Vec<(String, f64, String)>) {
        if rows.is_empty() {
            return;
        }
        let length = |text: &str| text.chars().count();
        let values = rows.iter().map(|row| length(&row.2)).max().unwrap_or(0);
        // Two blanks before the label and on either side of the bar.
        let room = self.width.saturating_sub(values + 6);
        let label_max = LABEL_MAX.min(room.saturating_sub(BAR_MIN)).max(BAR_MIN);
        let labels: Vec<String> = rows.iter().map(|row| self.cut(&row.0, label_max)).collect();
        let label_width = labels.iter().map(|label| length(label)).max().unwrap_or(0);
        let bar_width = room.saturating_sub(label_width).clamp(BAR_MIN, BAR_MAX);
        out.push_str(&format!("\n{HEAD}{title}{HEAD:#}\n"));
        for ((_, part, value), label) in rows.iter().zip(&labels) {
            let bar = self.bar(*part, bar_width);
            out.push_str(&format!("  {label:label_width$}  {bar}  {value}\n"));
        }
    }

    fn cut(&self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let dots = if self.unicode { "…" } else { "..." };
        let keep = width.saturating_sub(dots.chars().count());
        text.chars().take(keep).chain(dots.chars()).collect()
    }
}

/// A key's name without what would move the cursor.
pub fn printable(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_part() {
        let check = |unicode, part, expect: &str| {
            let chart = Chart { width: 80, unicode };
            assert_eq!(chart.bar(part, 4), expect);
        };
        check(true, 0.0, "    ");
        check(true, 0.5, "██  ");
        check(true, 0.53125, "██▏ ");
        check(true, 1.0, "████");
        check(true, 7.0, "████");
        check(false, 0.5, "##..");
    }

    #[test]
    fn lines_fit_the_terminal() {
        for width in [30, 60, 200] {
            let chart = Chart {
                width,
                unicode: false,
            };
            let mut out = String::new();
            let rows = vec![
                ("x".repeat(300), 0.7, "1.0 MiB".to_owned()),
                ("short".to_owned(), 0.3, "10 B".to_owned()),
            ];
            chart.section(&mut out, "Biggest", rows);
            for line in out.lines().skip(2) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}
