//! `--rate`: keys or bytes per second.

use flect_agent::transfer::Paces;

use crate::output::parse_size;

/// A speed as it was typed: a plain number counts keys, a size counts bytes of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Keys per second.
    Keys(u64),
    /// Bytes per second.
    Bytes(u64),
}

/// Reads `5000` or `20mb`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let rate = match text.parse() {
        Ok(keys) => Rate::Keys(keys),
        Err(_) => Rate::Bytes(parse_size(text).map_err(|_| {
            format!("'{text}' is no rate: expected keys per second (5000), or bytes (20mb)")
        })?),
    };
    match rate {
        Rate::Keys(0) | Rate::Bytes(0) => Err("0 would never end".to_owned()),
        rate => Ok(rate),
    }
}

/// The limits that follow from it.
pub fn paces(rate: Option<Rate>) -> Paces {
    match rate {
        None => Paces::new(None, None),
        Some(Rate::Keys(keys)) => Paces::new(Some(keys), None),
        Some(Rate::Bytes(bytes)) => Paces::new(None, Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_are_keys() {
        assert_eq!(rate("5000"), Ok(Rate::Keys(5000)));
        assert_eq!(rate("20mb"), Ok(Rate::Bytes(20 << 20)));
        assert!(rate("0").is_err() && rate("fast").is_err());
    }
}
