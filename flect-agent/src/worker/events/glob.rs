//! Patterns of channels as the server matches them (`stringmatchlen` in util.c).
//!
//! Invariant: equal to the server's for any bytes, oddities included: no pattern matches an empty
//! name, a class without an end takes the rest, ranges compare signed bytes.

/// Deeper patterns match nothing, as at the server.
const NESTING_MAX: usize = 1000;

/// Whether the whole name matches.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut hopeless = false;
    part(pattern, name, &mut hopeless, 0)
}

fn part(mut pattern: &[u8], mut name: &[u8], hopeless: &mut bool, nesting: usize) -> bool {
    if nesting > NESTING_MAX {
        return false;
    }
    while let (Some((&first, rest)), Some((&byte, others))) =
        (pattern.split_first(), name.split_first())
    {
        match first {
            b'*' => {
                let rest = without_stars(rest);
                if rest.is_empty() {
                    return true;
                }
                for start in 0..name.len() {
                    if part(rest, &name[start..], hopeless, nesting + 1) {
                        return true;
                    }
                    if *hopeless {
                        return false;
                    }
                }
                // What an earlier star could leave for this one to try has been tried.
                *hopeless = true;
                return false;
            }
            b'?' => pattern = rest,
            b'[' => match class(rest, byte) {
                (true, rest) => pattern = rest,
                (false, _) => return false,
            },
            _ => {
                let (literal, rest) = match rest.split_first() {
                    Some((escaped, rest)) if first == b'\\' => (*escaped, rest),
                    _ => (first, rest),
                };
                if literal != byte {
                    return false;
                }
                pattern = rest;
            }
        }
        name = others;
        if name.is_empty() {
            pattern = without_stars(pattern);
        }
    }
    pattern.is_empty() && name.is_empty()
}

fn without_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    &pattern[stars..]
}

/// Whether a class behind its `[` holds a byte, and the pattern behind its end.
fn class(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut found = false;
    // A char is signed on the server's usual machines.
    let signed = |byte: u8| byte.cast_signed();
    loop {
        pattern = match pattern {
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [b']', rest @ ..] => {
                pattern = rest;
                break;
            }
            [] => break,
            [a, b'-', b, rest @ ..] => {
                let (low, high) = (signed(*a).min(signed(*b)), signed(*a).max(signed(*b)));
                found |= (low..=high).contains(&signed(byte));
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    }
    (found != negated, pattern)
}

/// What every name that a pattern matches begins with.
pub fn head(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| b"*?[\\".contains(byte));
    &pattern[..end.unwrap_or(pattern.len())]
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn corners_are_the_servers() {
        for (pattern, name, expect) in [
            ("*", "", false),
            ("", "", true),
            ("*", "a", true),
            ("a**", "a", true),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxbxx", false),
            ("h?llo", "hello", true),
            ("[^a]x", "bx", true),
            ("[^a]x", "ax", false),
            ("[c-a]", "b", true),
            ("[a", "a", true),
            ("[a", "b", false),
            ("[", "a", false),
            ("[^", "a", true),
            ("[]a", "a", false),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[a-]", "-", false),
            ("[a-]", "`", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expect,
                "{pattern} {name}"
            );
        }
        assert!(matches(b"[\x80-\x01]", b"\xff"), "signed");
    }
}
