//! What stands in front of an app's Lua, and what gives the app its own text back.
//!
//! Holds: the app's bytes are in the server's text in their order; lines keep their numbers; the first line
//! stays the first where it tells the server something; a library comes back byte for byte; payloads unpack
//! to what was packed, and to a bounded amount.

use flect_agent::scripts::payload;
use flect_agent::scripts::{FunctionNames, Library, Shim, load_error};
use flect_agent::store::Prefix;

use crate::input;

/// How many databases the server has.
const DATABASES: u32 = 16;

/// What payloads may unpack to, libraries together.
const UNPACKED_BYTES_MAX: usize = 16 * 1024 * 1024;

thread_local! {
    static SHIM: Shim = Shim::new(&input::prefix(), DATABASES);
}

/// The bytes are a script's text.
///
/// # Panics
/// When something does not hold.
pub fn run(data: &[u8]) {
    let text = SHIM.with(|shim| shim.transform(data));
    assert!(
        is_within(data, &text),
        "the app's text is not in the server's"
    );
    assert_eq!(lines(&text), lines(data), "lines have other numbers");
    if data.starts_with(b"#!") {
        let first = data.split(|byte| *byte == b'\n').next().unwrap_or(data);
        assert!(text.starts_with(first));
    }
    // Parentheses around calls, and the commands that it spells out, are all that depends on it.
    let empty = SHIM.with(|shim| shim.transform(b"")).len();
    assert!(text.len() <= empty + WIDE_BYTES_MAX + data.len() * 2);
    library(data);
}

/// The part of the shim for commands about all keys, and of the commands that a script spells out.
const WIDE_BYTES_MAX: usize = 64 * 1024;

fn library(data: &[u8]) {
    let Ok(library) = Library::parse(data) else {
        return;
    };
    let names = FunctionNames::of(&input::prefix());
    let text = library.server_text(&input::prefix(), DATABASES);
    assert_eq!(Library::app_text(&text).as_deref(), Some(data));
    // The server reads the name that bears the store's id, and no other.
    let on_server = Library::parse(&text).expect("the server's text has a first line");
    assert_eq!(
        names.of_app(on_server.name.as_bytes()),
        Some(library.name.as_bytes())
    );
    let other = FunctionNames::of(&Prefix::parse("{s1}").expect("the text is a prefix"));
    assert_eq!(other.of_app(on_server.name.as_bytes()), None);
}

/// The first byte chooses what the others are: a server's text, a payload, a payload whose checksum is
/// put right, pieces to be packed, or an error.
///
/// # Panics
/// When something does not hold.
pub fn run_functions(mut data: &[u8]) {
    match input::byte(&mut data) % 5 {
        0 => {
            if let Some(text) = Library::app_text(data) {
                // A hex digit pair of the note is one byte; the body is there once.
                assert!(text.len() <= data.len());
            }
        }
        1 => bounded(payload::unpack(data)),
        2 => bounded(payload::unpack(&with_footer(data))),
        3 => {
            let texts: Vec<Vec<u8>> = input::pieces(data).map(<[u8]>::to_vec).collect();
            assert_eq!(payload::unpack(&payload::pack(&texts)), Ok(texts));
        }
        _ => {
            let names = FunctionNames::of(&input::prefix());
            let text = String::from_utf8_lossy(data);
            let shown = load_error(&text, &names);
            assert!(shown.len() <= text.len() + ERROR_ROOM_BYTES);
        }
    }
}

/// The longest text of the server's that stands for one of the shim's.
const ERROR_ROOM_BYTES: usize = 256;

fn bounded(texts: Result<Vec<Vec<u8>>, &'static str>) {
    let bytes: usize = texts.iter().flatten().map(Vec::len).sum();
    assert!(bytes <= UNPACKED_BYTES_MAX, "{bytes}");
}

/// As `pack` ends a payload: RDB version 11 and the CRC64 of all before it.
fn with_footer(body: &[u8]) -> Vec<u8> {
    let mut payload = [body, &[11, 0]].concat();
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    payload
}

/// Whether `text` comes of `longer` by leaving bytes out.
fn is_within(text: &[u8], longer: &[u8]) -> bool {
    let mut longer = longer.iter();
    text.iter().all(|byte| longer.any(|other| other == byte))
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}
