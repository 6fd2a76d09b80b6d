//! Did you mean: the known word that a mistyped one comes closest to.

/// Mistakes that still look like a slip: one, and one more for every four letters.
fn slips_max(word: &str) -> usize {
    1 + word.chars().count() / 4
}

/// No word longer than this is compared: the effort grows with the square.
const WORD_BYTES_MAX: usize = 256;

/// The known word that is closest to `word`, if any is close.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let asked = plain(word);
    known
        .into_iter()
        .filter_map(|known| {
            let slips = strsim::damerau_levenshtein(&asked, &plain(known));
            (slips <= slips_max(known) && slips < known.chars().count()).then_some((slips, known))
        })
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let known = ["binding", "name", "my-cache", "sessions"];
        for (word, expect) in [
            ("bindng", Some("binding")),
            ("Binding", Some("binding")),
            ("nmae", Some("name")),
            ("mycache", Some("my-cache")),
            ("my_cache", Some("my-cache")),
            ("session", Some("sessions")),
            ("x", None),
            ("", None),
            ("url", None),
        ] {
            assert_eq!(nearest(word, known), expect, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }
}
