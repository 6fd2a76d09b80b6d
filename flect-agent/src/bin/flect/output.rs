//! How answers look: tables, colours where the terminal wants them, sizes for people.

use anstyle::{AnsiColor, Style};
use bytesize::ByteSize;
use clap::ColorChoice;
use serde::Serialize;

/// Errors' first word.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The heads of tables.
pub const HEAD: Style = Style::new().bold();
/// What is less important.
pub const FAINT: Style = Style::new().dimmed();
/// What is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What needs a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();

/// Decides about colours for everything that is printed with `anstream`.
pub fn set_colors(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Prints a value as JSON, or as text for people.
pub fn print<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        anstream::println!("{}", text(value).trim_end());
    }
    Ok(())
}

/// Columns as wide as their widest cell, two blanks apart; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        let line = line.trim_end();
        if number == 0 {
            out.push_str(&format!("{HEAD}{line}{HEAD:#}\n"));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// A size in powers of 1024, as Valkey's configuration has them.
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A size that a user typed: `100mb`, `1GiB`, `64k`; units are powers of 1024, as in
/// `valkey.conf` (`1mb`).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let complaint = || format!("'{text}' is no size: expected bytes, or 64kb, 100mb, 2gb");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim().parse().map_err(|_| complaint())?;
    let power = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(complaint()),
    };
    let bytes = number * 1024_f64.powi(power);
    if !(0.0..=9e18).contains(&bytes) {
        return Err(complaint());
    }
    // In range: checked above.
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 65_536),
            ("100mb", 104_857_600),
            ("1.5GiB", 1_610_612_736),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "mb", "-1", "1x", "1e99"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
