//! What a node of a cluster answers instead of carrying a request out.

/// Where a request belongs, as the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// To the node that has the slot.
    Moved,
    /// To this node, which is getting the slot, and only this once.
    Ask(String),
    /// Here, but later.
    Wait,
}

impl Elsewhere {
    /// Reads an error that a node of a cluster answers instead of carrying a request out. `Err`: too few bytes to
    /// tell.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, ()> {
        const WORDS: [&[u8]; 4] = [b"-MOVED ", b"-ASK ", b"-TRYAGAIN ", b"-CLUSTERDOWN "];
        if bytes.first() != Some(&b'-') {
            return Ok(None);
        }
        if WORDS
            .iter()
            .any(|word| word.len() > bytes.len() && word.starts_with(bytes))
        {
            return Err(());
        }
        let Some(word) = WORDS.iter().position(|word| bytes.starts_with(word)) else {
            return Ok(None);
        };
        let end = memchr::memchr(b'\r', bytes).ok_or(())?;
        let line = String::from_utf8_lossy(&bytes[..end]);
        Ok(Some(match word {
            0 => Self::Moved,
            1 => Self::Ask(line.rsplit(' ').next().unwrap_or_default().to_owned()),
            _ => Self::Wait,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_that_nothing_was_done_is_known() {
        let check = |bytes: &str, expect: Option<Elsewhere>| {
            assert_eq!(Elsewhere::read(bytes.as_bytes()), Ok(expect), "{bytes}");
            for end in 1..bytes.len() {
                let part = Elsewhere::read(&bytes.as_bytes()[..end]);
                assert!(part.is_err() || part == Elsewhere::read(bytes.as_bytes()));
            }
        };
        check("-MOVED 5 10.0.0.1:7\r\n", Some(Elsewhere::Moved));
        check(
            "-ASK 5 10.0.0.1:7\r\n",
            Some(Elsewhere::Ask("10.0.0.1:7".to_owned())),
        );
        check("-TRYAGAIN later\r\n", Some(Elsewhere::Wait));
        check("-CLUSTERDOWN it is\r\n", Some(Elsewhere::Wait));
        check("-MOVEDX 5\r\n", None);
        check("-ERR MOVED 5\r\n", None);
        check("+MOVED 5\r\n", None);
        check("$6\r\nMOVED \r\n", None);
    }
}
