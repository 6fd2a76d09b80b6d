//! The reader of whole replies, for whoever shows them to people.
//!
//! Holds: cut anywhere, the same bytes are the same values and the same error.

use flect_agent::resp::value::{NotResp, Reader, Value};

use crate::input;

/// The first byte says how the others are cut.
///
/// # Panics
/// When something does not hold.
pub fn run(mut data: &[u8]) {
    let decides = input::byte(&mut data);
    let whole = read_all(data, &[data.len()]);
    assert_eq!(read_all(data, &input::cuts(decides, data.len())), whole);
}

fn read_all(bytes: &[u8], cuts: &[usize]) -> (Vec<Value>, Option<NotResp>) {
    let mut reader = Reader::default();
    let mut values = Vec::new();
    let mut at = 0;
    for &end in cuts {
        reader.push(&bytes[at..end]);
        at = end;
        loop {
            match reader.take() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}
