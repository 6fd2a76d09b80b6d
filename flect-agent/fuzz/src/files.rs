//! Files and records.
//!
//! Holds: what is understood is understood again, and as the same, when it is written; what is wrong is told
//! with a place that is in the text; an export is read in memory that its bytes bound.

use std::path::Path;

use flect_agent::config::Config;
use flect_agent::dump::{self, Chunk, Header, Reader, Record as Key, Writer};
use flect_agent::manifest::{Local, Manifest, Variables};
use flect_agent::registry::{Record, Removal};
use flect_agent::store::Slug;

use crate::input;

/// The bytes are the text of an agent.toml.
///
/// # Panics
/// When something does not hold.
pub fn run_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text) {
        Ok(config) => {
            assert!(!config.intercept_ports().is_empty());
            let shown = format!("{config:?}");
            assert!(shown.len() <= data.len() * 64 + 64 * 1024);
        }
        Err(complaint) => assert!(!complaint.is_empty()),
    }
}

/// The bytes are the text of a flect.toml, then that of an .env.local.
///
/// # Panics
/// When something does not hold.
pub fn run_manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (manifest, local) = text
        .split_once(char::from(input::PIECE_END))
        .unwrap_or((text, ""));
    let local = match Local::parse(local) {
        Ok(local) => local,
        Err(line) => {
            assert!(line.is_none_or(|line| line >= 1 && line <= local.lines().count() + 1));
            return;
        }
    };
    match Manifest::parse(manifest) {
        Ok(manifest) => {
            let variables = Variables::resolve(&manifest, &local, |_| None);
            assert_eq!(variables.bound.len(), manifest.kv.len());
            assert!(variables.assignments().count() <= data.len());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(problem.line >= 1 && problem.line <= manifest.split('\n').count());
                assert!(problem.column >= 1);
                assert!(!problem.shown(Path::new("flect.toml")).is_empty());
            }
        }
    }
}

/// The first byte chooses: the others are a file, the body of a chunk whose frame is right, or keys that
/// are written and read.
///
/// # Panics
/// When something does not hold.
pub fn run_dump(mut data: &[u8]) {
    match input::byte(&mut data) % 3 {
        0 => read_all(data),
        1 => read_all(&framed(data)),
        _ => there_and_back(data),
    }
}

fn read_all(bytes: &[u8]) {
    let verified = dump::verify(bytes, |offset| assert!(offset <= bytes.len() as u64));
    let Ok(mut reader) = Reader::begin(bytes) else {
        assert!(verified.is_err());
        return;
    };
    let mut keys = 0;
    loop {
        match reader.part() {
            Ok(dump::Part::Chunk(chunk)) => {
                let held: usize = chunk
                    .records
                    .iter()
                    .map(|key| key.key.len() + key.payload.len())
                    .sum();
                assert!(held <= bytes.len());
                keys += chunk.records.len() as u64;
                for key in &chunk.records {
                    // Any payload is somebody's.
                    let _ = dump::rdb_version(&key.payload);
                }
            }
            Ok(dump::Part::End(summary)) => {
                assert_eq!(summary.records, keys);
                assert!(verified.is_ok());
                return;
            }
            Err(_) => {
                assert!(verified.is_err());
                return;
            }
        }
    }
}

fn header() -> Header {
    Header {
        store: Slug::try_from("s".to_owned()).expect("a letter is a name"),
        prefix: input::prefix(),
        environment: "e".to_owned(),
        created_at: 0,
        server: "valkey 8.0.1".to_owned(),
        rdb_version: None,
        run_id: String::new(),
    }
}

/// A file with one chunk of this body, whose number of keys is the body's first byte.
fn framed(mut body: &[u8]) -> Vec<u8> {
    let count = u32::from(input::byte(&mut body));
    let mut file = Vec::new();
    if let Err(error) = Writer::begin(&mut file, &header()) {
        panic!("memory does not fail: {error}");
    }
    let mut chunk = vec![b'L'];
    chunk.extend_from_slice(&0u64.to_le_bytes());
    chunk.extend_from_slice(&count.to_le_bytes());
    chunk.extend_from_slice(&(body.len() as u64).to_le_bytes());
    chunk.extend_from_slice(body);
    let checksum = crc32fast::hash(&chunk);
    file.extend_from_slice(&chunk);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

fn there_and_back(data: &[u8]) {
    let records: Vec<Key> = input::pieces(data)
        .map(|piece| Key {
            database: piece.len() as u32 % 16,
            expires_at_ms: piece.len() as u64,
            key: piece[..piece.len() / 2].to_vec(),
            payload: piece.to_vec(),
        })
        .collect();
    let chunk = Chunk {
        cursor: 0,
        last: true,
        records,
    };
    let mut file = Vec::new();
    let mut writer = Writer::begin(&mut file, &header()).expect("memory does not fail");
    writer.chunk(&chunk).expect("memory does not fail");
    writer.end().expect("memory does not fail");
    let mut reader = Reader::begin(file.as_slice()).expect("what was written is read");
    assert_eq!(*reader.header(), header());
    assert_eq!(reader.part().ok(), Some(dump::Part::Chunk(chunk)));
    assert!(matches!(reader.part(), Ok(dump::Part::End(_))));
    // One byte that is not as it was, anywhere, is noticed.
    let at = data.len().wrapping_mul(31) % file.len();
    file[at] ^= 1;
    assert!(dump::verify(file.as_slice(), |_| {}).is_err(), "byte {at}");
}

/// The bytes are a record of the registry.
///
/// # Panics
/// When something does not hold.
pub fn run_registry(data: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(data) {
        let text = serde_json::to_string(&record).expect("strings and numbers are JSON");
        let again: Record = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(again, record);
        let twice = serde_json::to_string(&again).expect("strings and numbers are JSON");
        assert_eq!(twice, text, "compare-and-set compares texts");
    }
    if let Ok(removal) = serde_json::from_slice::<Removal>(data) {
        let text = serde_json::to_string(&removal).expect("strings and numbers are JSON");
        assert_eq!(serde_json::from_str::<Removal>(&text).ok(), Some(removal));
    }
    let _ = serde_json::from_slice::<Slug>(data);
}
