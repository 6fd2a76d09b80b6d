//! The request scanner.
//!
//! Holds: cut anywhere, the same bytes are the same requests and the same error; what is handed on is an
//! array of bulk strings and nothing else, of the arguments that the scanner told; consumed bytes are never
//! more than there are.

use flect_agent::resp::request::{ProtocolError, RequestScanner, Scanned};

use crate::{input, naive};

/// What a session would make of bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is handed on of each request.
    pub requests: Vec<Vec<u8>>,
    /// The bytes before these are used up.
    pub used: usize,
    /// What ended it.
    pub error: Option<ProtocolError>,
}

/// Scans all requests, as a read buffer grows to each of `cuts`.
///
/// # Panics
/// When a request that is handed on is not what it should be.
#[must_use]
pub fn scan_all(bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut scanner = RequestScanner::default();
    let mut outcome = Outcome::default();
    for &end in cuts {
        while outcome.used < end {
            let buf = &bytes[outcome.used..end];
            match scanner.scan(buf) {
                Ok(Scanned::Incomplete) => {
                    if let Some(head) = scanner.head(buf) {
                        assert!(head.args_complete < head.argc, "{head:?}");
                        for i in 0..head.args_complete {
                            assert!(head.arg(i).is_some(), "{i} of {head:?}");
                        }
                    }
                    break;
                }
                Ok(Scanned::Empty { consumed }) => {
                    assert!(consumed > 0 && consumed <= buf.len());
                    outcome.used += consumed;
                }
                Ok(Scanned::Request { consumed }) => {
                    assert!(consumed > 0 && consumed <= buf.len());
                    let request = scanner.request(buf);
                    let args = naive::request(request.bytes()).expect("plain RESP");
                    assert!(!args.is_empty());
                    assert!(request.args().eq(args.iter().map(Vec::as_slice)));
                    assert_eq!(request.argc(), args.len());
                    assert_eq!(request.get(args.len()), None);
                    outcome.requests.push(request.bytes().to_vec());
                    outcome.used += consumed;
                }
                Err(error) => {
                    let reply = error.reply();
                    assert!(matches!(naive::value(&reply), Some((_, used)) if used == reply.len()));
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome
}

/// The first byte says how the others are cut.
///
/// # Panics
/// When something does not hold.
pub fn run(mut data: &[u8]) {
    let decides = input::byte(&mut data);
    let whole = scan_all(data, &[data.len()]);
    assert_eq!(scan_all(data, &input::cuts(decides, data.len())), whole);
    // What was encoded anew is at most as long as what its parts were in the worst escape, plus headers.
    let handed: usize = whole.requests.iter().map(Vec::len).sum();
    assert!(handed <= data.len() * BYTES_PER_BYTE_MAX + 64);
}

/// `a b c` becomes `$1 CR LF a CR LF` each: two bytes become seven, and one line end becomes `*n CR LF`.
const BYTES_PER_BYTE_MAX: usize = 12;

/// The bytes are a line, and must not be taken for the other form.
///
/// # Panics
/// When something does not hold.
pub fn run_inline(mut data: &[u8]) {
    let decides = input::byte(&mut data);
    let line = [b" ", data, b"\r\n"].concat();
    let whole = scan_all(&line, &[line.len()]);
    assert_eq!(scan_all(&line, &input::cuts(decides, line.len())), whole);
    // A line is done with at its end: a request, nothing, or an error. Valkey looks for the end as in a C
    // string, so a NUL hides it.
    let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
    let hidden = end.is_some_and(|end| line[end] == 0);
    assert!(hidden || whole.error.is_some() || whole.used > end.unwrap_or(0));
}
