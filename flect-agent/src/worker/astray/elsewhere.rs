//! What a node of a cluster answers instead of carrying a request out.

use crate::environment::UpstreamAddress;
use crate::store::Slot;

/// No such answer is longer: a host's name has 255 bytes at most. A script's own error may be as long as values are,
/// and must be passed on as it comes: kept until its end, it would be searched anew with every read.
const LINE_BYTES_MAX: usize = 512;

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
    /// tell. `script`: the request runs a script of a store with this slot, which may answer errors of its own making;
    /// those are taken for the server's only where they are the server's to the letter
    /// (`clusterRedirectClient` in Valkey's cluster.c, 8.0 to 9.1), for a slot that no app is told.
    pub(super) fn read(bytes: &[u8], script: Option<Slot>) -> Result<Option<Self>, ()> {
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
        let looked_at = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
        let end = match memchr::memchr(b'\r', looked_at) {
            Some(end) => end,
            None if bytes.len() < LINE_BYTES_MAX => return Err(()),
            None => return Ok(None),
        };
        let line = String::from_utf8_lossy(&bytes[..end]);
        if script.is_some_and(|slot| !is_servers(&line, slot)) {
            return Ok(None);
        }
        Ok(Some(match word {
            0 => Self::Moved,
            1 => Self::Ask(line.rsplit(' ').next().unwrap_or_default().to_owned()),
            _ => Self::Wait,
        }))
    }
}

/// Whether a node that is known is where a server tells of, which writes IPv6 addresses without brackets
/// (`clusterRedirectClient` in cluster.c).
pub(super) fn is_at(known: &UpstreamAddress, told: &str) -> bool {
    known.to_string() == told
        || known
            .over_network()
            .is_some_and(|known| format!("{}:{}", known.ip(), known.port()) == told)
}

/// Whether a server says just this of a request for the slot.
fn is_servers(line: &str, slot: Slot) -> bool {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["-MOVED" | "-ASK", number, node] => {
            number == slot.number().to_string() && node.contains(':')
        }
        _ => matches!(
            line,
            "-TRYAGAIN Multiple keys request during rehashing of slot"
                | "-CLUSTERDOWN The cluster is down"
                | "-CLUSTERDOWN The cluster is down and only accepts read commands"
                | "-CLUSTERDOWN Hash slot not served"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_that_nothing_was_done_is_known() {
        let check = |bytes: &str, expect: Option<Elsewhere>| {
            let read = |bytes: &str| Elsewhere::read(bytes.as_bytes(), None);
            assert_eq!(read(bytes), Ok(expect), "{bytes}");
            for end in 1..bytes.len() {
                let part = read(&bytes[..end]);
                assert!(part.is_err() || part == read(bytes));
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

    #[test]
    fn what_a_script_answers_is_not_taken_for_the_servers_word() {
        let slot = Slot::new(5).unwrap();
        let believed = |bytes: &str| Elsewhere::read(bytes.as_bytes(), Some(slot));
        for line in [
            "-MOVED 5 10.0.0.1:7\r\n",
            "-MOVED 5 :7\r\n",
            "-ASK 5 10.0.0.1:7\r\n",
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
            "-CLUSTERDOWN Hash slot not served\r\n",
        ] {
            assert!(matches!(believed(line), Ok(Some(_))), "{line}");
        }
        for line in [
            "-MOVED 6 10.0.0.1:7\r\n",
            "-MOVED 5 10.0.0.1:7 script: 0, on @user_script:1.\r\n",
            "-MOVED 5\r\n",
            "-MOVED \r\n",
            "-ASK 05 10.0.0.1:7\r\n",
            "-TRYAGAIN later\r\n",
            "-CLUSTERDOWN it is\r\n",
        ] {
            assert_eq!(believed(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn nodes_are_known_as_servers_write_them() {
        for (known, told, is) in [
            ("10.0.0.1:7", "10.0.0.1:7", true),
            ("[::1]:7", "::1:7", true),
            ("[::1]:7", "[::1]:7", true),
            ("[::1]:7", "::1:8", false),
            ("10.0.0.1:7", "10.0.0.1:70", false),
        ] {
            let known = UpstreamAddress::Tcp(known.parse().unwrap());
            assert_eq!(is_at(&known, told), is, "{known} {told}");
        }
    }

    #[test]
    fn the_end_of_a_long_error_is_not_waited_for() {
        let long = format!("-MOVED {}", "x".repeat(LINE_BYTES_MAX));
        let read = |end: usize| Elsewhere::read(&long.as_bytes()[..end], None);
        assert_eq!(read(LINE_BYTES_MAX - 1), Err(()));
        assert_eq!(read(LINE_BYTES_MAX), Ok(None));
    }
}
