//! Numbers as people read them at a glance: three digits and a unit.

use bytesize::ByteSize;

/// A number a second: `0`, `0.3`, `42`, `12.3k`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        n if n < 0.05 => "0".to_owned(),
        n if n < 9.95 => format!("{n:.1}"),
        n if n < 9_999.5 => format!("{n:.0}"),
        n if n < 99_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// A time in microseconds: `87µs`, `1.2ms`, `340ms`, `2.1s`; a dash when there was nothing to
/// measure.
pub fn latency(microseconds: Option<f64>) -> String {
    match microseconds {
        None => "-".to_owned(),
        Some(n) if n < 999.5 => format!("{n:.0}µs"),
        Some(n) if n < 9_950.0 => format!("{:.1}ms", n / 1e3),
        Some(n) if n < 999_500.0 => format!("{:.0}ms", n / 1e3),
        Some(n) => format!("{:.1}s", n / 1e6),
    }
}

/// A size: `640 B`, `12.3 MiB`; a dash where it is not known.
pub fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "-".to_owned(),
        |bytes| ByteSize::b(bytes).display().iec().to_string(),
    )
}

/// A part of all: `7%`, `0.4%`.
pub fn share(part: f64) -> String {
    match part * 100.0 {
        percent if percent < 0.95 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

/// How long something runs: `42s`, `3m 07s`, `5h 12m`, `9d 4h`.
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// The time of day in UTC, for moments of the last hours.
pub fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02} UTC",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A line of bars as high as the values, the latest at the right; the highest fills the line.
pub fn sparkline(values: impl ExactSizeIterator<Item = f64> + Clone, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let skipped = values.len().saturating_sub(width);
    let shown = values.skip(skipped);
    let highest = shown.clone().fold(0.0, f64::max);
    let bar = |value: f64| {
        if value <= 0.0 {
            return ' ';
        }
        // Between 0 and 7: `value` is at most `highest`.
        BARS[((value / highest * 7.0).round() as usize).min(7)]
    };
    let bars: String = shown.map(bar).collect();
    format!("{bars:>width$}")
}

/// A bar as long as the part of the width, in eighths of a cell.
pub fn bar(part: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let whole = "█".repeat(eighths / 8);
    format!("{whole}{}", EIGHTHS[eighths % 8])
}

/// Text of apps, such as keys, without what would move the cursor or turn the reading direction.
pub fn printable(text: &str) -> String {
    let hostile = |c: char| {
        // Unicode's explicit directional formatting characters.
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if hostile(c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let rates = [0.0, 0.04, 0.26, 9.94, 41.7, 9_999.0, 12_345.0, 1_234_567.0];
        assert_eq!(
            rates.map(rate),
            ["0", "0", "0.3", "9.9", "42", "9999", "12.3k", "1.2M"]
        );
        let times = [0.4, 87.2, 1_234.0, 340_000.0, 2_100_000.0].map(|n| latency(Some(n)));
        assert_eq!(times, ["0µs", "87µs", "1.2ms", "340ms", "2.1s"]);
        assert_eq!(latency(None), "-");
        assert_eq!(size(Some(12_900_000)), "12.3 MiB");
        assert_eq!([0.004, 0.07, 1.0].map(share), ["0.4%", "7%", "100%"]);
        let ages = [42_000, 187_000, 18_720_000, 792_000_000].map(age);
        assert_eq!(ages, ["42s", "3m 07s", "5h 12m", "9d 4h"]);
        assert_eq!(clock(1_700_000_000_000), "22:13:20 UTC");
    }

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(
            printable("a\u{1b}[2J\u{202e}\u{e9}"),
            "a\u{fffd}[2J\u{fffd}\u{e9}"
        );
    }

    #[test]
    fn bars_are_as_long_as_their_part() {
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(1.0 / 32.0, 4), "▏");
        assert_eq!(bar(7.0, 2), "██");
        let values = [9.0, 0.0, 1.0, 8.0].into_iter();
        assert_eq!(sparkline(values.clone(), 3), " ▂█");
        assert_eq!(sparkline(values, 6), "  █ ▂▇");
        assert_eq!(sparkline([].into_iter(), 2), "  ");
    }
}
