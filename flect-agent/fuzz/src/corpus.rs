//! The committed inputs: what real clients and servers said, and what once failed.
//!
//! One text file for each target in `corpus/` (made by `cargo xtask fuzz --keep`) and in `regressions/`
//! (written by hand: a comment says what failed). A line is an input; what is not printable ASCII is
//! written as in Rust. `#` begins a comment, so an input that begins with it writes it as `\x23`.
//!
//! Invariant: a line that cannot be read is an error, not an input less.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Longer inputs are found anew, but not committed: reviewers read these files.
pub const INPUT_BYTES_MAX: usize = 2048;

/// What a target's file holds at most.
pub const FILE_BYTES_MAX: usize = 48 * 1024;

/// The committed inputs of a target.
///
/// # Errors
/// When a file has a line that is no input.
pub fn of(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for folder in ["corpus", "regressions"] {
        let path = place(folder, target);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        for (line, number) in text.lines().zip(1..) {
            if line.starts_with('#') {
                continue;
            }
            let input = unescape(line).ok_or_else(|| {
                let place = format!("{}:{number}: no escape", path.display());
                io::Error::new(io::ErrorKind::InvalidData, place)
            })?;
            all.push(input);
        }
    }
    Ok(all)
}

/// Writes the inputs in `folder` as the corpus of a target, the shortest first. Answers how many there are.
///
/// # Errors
/// What the system says.
pub fn keep(target: &str, folder: &Path) -> io::Result<usize> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let input = fs::read(entry?.path())?;
        if input.len() <= INPUT_BYTES_MAX {
            inputs.push(input);
        }
    }
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    let mut text = String::new();
    let mut kept = 0;
    for input in inputs {
        let line = escape(&input);
        if text.len() + line.len() + 1 > FILE_BYTES_MAX {
            break;
        }
        text.push_str(&line);
        text.push('\n');
        kept += 1;
    }
    fs::create_dir_all(place("corpus", "").parent().unwrap_or(Path::new(".")))?;
    fs::write(place("corpus", target), text)?;
    Ok(kept)
}

/// Writes the committed inputs of a target into a folder, as the engine takes them.
///
/// # Errors
/// What the system says, or when a file has a line that is no input.
pub fn unpack(target: &str, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (input, number) in of(target)?.iter().zip(0..) {
        fs::write(folder.join(format!("committed-{number:04}")), input)?;
    }
    Ok(())
}

fn place(folder: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(format!("{target}.txt"))
}

/// An input as a line.
#[must_use]
pub fn escape(input: &[u8]) -> String {
    let mut line = String::new();
    for (byte, at) in input.iter().zip(0..) {
        if at == 0 && *byte == b'#' {
            line.push_str("\\x23");
        } else {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", byte.escape_ascii());
        }
    }
    line
}

/// The input that a line says.
#[must_use]
pub fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut input = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            input.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        input.push(match kind {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' | b'\'' | b'"' => kind,
            b'x' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_input_is_a_line_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for input in [b"".as_slice(), b"#", b"a#\\x", &all] {
            let line = escape(input);
            assert!(!line.starts_with('#') && !line.contains('\n'));
            assert_eq!(unescape(&line).as_deref(), Some(input));
        }
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x1"), None);
    }
}
