//! Words among arguments, compared as the server compares them.
//!
//! Invariant: exactly `strcasecmp`: the argument ends at its first NUL, ASCII case is ignored.

/// Arguments longer than this are never words, numbers of keys or anything else that decides how
/// others are read. The longest word of any command has less than 32 bytes.
pub(crate) const WORD_BYTES_MAX: usize = 4 * 1024;

/// The same of a word in any case.
pub(crate) fn is_word(arg: &[u8], word: &str) -> bool {
    until_nul(arg).eq_ignore_ascii_case(word.as_bytes())
}

/// What the server prints of an argument, and looks at where it takes it for a C string.
pub(crate) fn until_nul(arg: &[u8]) -> &[u8] {
    &arg[..memchr::memchr(0, arg).unwrap_or(arg.len())]
}

/// Whether `arg` is the word `word`, which is in lower case.
#[inline]
pub(crate) fn is(arg: &[u8], word: &[u8]) -> bool {
    let end = arg.get(word.len());
    (end.is_none() || end == Some(&0))
        && arg.len() >= word.len()
        && arg[..word.len()].eq_ignore_ascii_case(word)
}
