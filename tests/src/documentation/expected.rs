//! What a block printed against what the document says.
//!
//! In the document a line `...` stands for any lines, `...` in a line for anything, and `<word>` for
//! what is different each time. Runs of blanks count as one, since columns follow their contents.

/// Whether the text is what the document says.
#[must_use]
pub fn matches(expect: &str, got: &str) -> bool {
    let expect: Vec<String> = lines(expect);
    let got: Vec<String> = lines(got);
    lines_match(&expect, &got)
}

fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim_end().lines().map(words).collect()
}

fn lines_match(expect: &[String], got: &[String]) -> bool {
    match (expect, got) {
        ([], []) => true,
        ([any, rest @ ..], _) if any == "..." => {
            (0..=got.len()).any(|skipped| lines_match(rest, &got[skipped..]))
        }
        ([wanted, wanted_rest @ ..], [line, rest @ ..]) => {
            line_matches(wanted, line) && lines_match(wanted_rest, rest)
        }
        _ => false,
    }
}

fn line_matches(expect: &str, got: &str) -> bool {
    let Some((before, least, after)) = wildcard(expect) else {
        return expect == got;
    };
    let Some(rest) = got.strip_prefix(before) else {
        return false;
    };
    let ends = rest.char_indices().map(|(at, _)| at);
    ends.chain([rest.len()])
        .filter(|end| *end >= least)
        .any(|end| line_matches(after, &rest[end..]))
}

/// The first wildcard of a line: what is before it, how much it stands for at least, what follows.
fn wildcard(line: &str) -> Option<(&str, usize, &str)> {
    let dots = line.find("...").map(|at| (at, at + 3, 0));
    let word = line.char_indices().find_map(|(at, c)| {
        let inside = line[at..].strip_prefix('<').filter(|_| c == '<')?;
        let end = inside.find('>')?;
        let name = |c: char| c.is_ascii_lowercase() || c == '-' || c == ' ';
        (end > 0 && inside[..end].chars().all(name)).then_some((at, at + end + 2, 1))
    });
    let (at, end, least) = match (dots, word) {
        (Some(dots), Some(word)) => dots.min(word),
        (dots, word) => dots.or(word)?,
    };
    Some((&line[..at], least, &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_what_changes() {
        for (expect, got) in [
            ("a", "a\n"),
            ("a  b", "a b"),
            ("...\nb\n...", "a\nb\nc\nd"),
            ("...", ""),
            ("pid <pid>, ok", "pid 12, ok"),
            ("a ... z", "a b z"),
            ("<prefix>:<key>", "{abc}:user:1"),
            ("<NAME>", "<NAME>"),
        ] {
            assert!(matches(expect, got), "{expect:?} {got:?}");
        }
        for (expect, got) in [
            ("a", "b"),
            ("a", "a\nb"),
            ("a\nb", "a"),
            ("pid <pid>", "pid "),
            ("...\nb", "a\nc"),
            ("<NAME>", "x"),
        ] {
            assert!(!matches(expect, got), "{expect:?} {got:?}");
        }
    }
}
