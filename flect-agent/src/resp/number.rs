//! Decimal numbers exactly as Valkey reads and writes them.
//!
//! Invariant: [`parse`] accepts what `string2ll` (Valkey's `src/util.c`) accepts and nothing else: no
//! plus sign, no leading zero, no blank, no `-0`. Every accepted number has one spelling.

/// The longest spelling of an `i64`; `string2ll` refuses longer text before looking at it.
const I64_BYTES_MAX: usize = 20;

/// Reads a number as `string2ll` does.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > I64_BYTES_MAX {
        return None;
    }
    if text == b"0" {
        return Some(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut magnitude: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Appends a number in decimal.
pub fn append(number: u64, out: &mut Vec<u8>) {
    // The longest u64 has 20 digits.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        // The remainder of a division by ten fits a byte.
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// How many bytes [`append`] writes.
#[inline]
#[must_use]
pub fn digits(number: u64) -> usize {
    match number {
        // Lengths of most arguments.
        0..=9 => 1,
        10..=99 => 2,
        _ => number.ilog10() as usize + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(parse(text.as_bytes()), expect, "{text:?}");
        };
        check("0", Some(0));
        check("7", Some(7));
        check("-1", Some(-1));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "111111111111111111111",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for number in [0, 1, 9, 10, 99, 100, 12345, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            append(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
            assert_eq!(digits(number), out.len());
        }
    }
}
