use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        store: Slug::try_from("my-cache".to_owned()).unwrap(),
        prefix: Prefix::parse("{abc}").unwrap(),
        environment: "test".to_owned(),
        created_at: 1_700_000_000,
        server: "valkey 8.0.1".to_owned(),
        rdb_version: Some(11),
        run_id: "x".to_owned(),
    }
}

fn record() -> impl Strategy<Value = Record> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    (any::<u32>(), any::<u64>(), bytes.clone(), bytes).prop_map(
        |(database, expires_at_ms, key, payload)| Record {
            database,
            expires_at_ms,
            key,
            payload,
        },
    )
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let chunk = (
        any::<u64>(),
        any::<bool>(),
        prop::collection::vec(record(), 0..6),
    );
    let chunk = chunk.prop_map(|(cursor, last, records)| Chunk {
        cursor,
        last,
        records,
    });
    prop::collection::vec(chunk, 0..5)
}

fn written(chunks: &[Chunk]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &header()).unwrap();
    for chunk in chunks {
        writer.chunk(chunk).unwrap();
    }
    writer.end().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<Chunk>, DumpError> {
    let mut reader = Reader::begin(bytes)?;
    let mut all = Vec::new();
    loop {
        match reader.part()? {
            Part::Chunk(chunk) => all.push(chunk),
            Part::End(_) => return Ok(all),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(chunks in chunks()) {
        let bytes = written(&chunks);
        prop_assert_eq!(read(&bytes).unwrap(), chunks);
        let (said, summary) = verify(&bytes[..], |_| {}).unwrap();
        prop_assert_eq!(said, header());
        prop_assert!(summary.chunks < 5);
    }

    #[test]
    fn every_flipped_bit_is_noticed(chunks in chunks(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let mut bytes = written(&chunks);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn every_cut_and_every_addition_is_noticed(chunks in chunks(), at in any::<prop::sample::Index>()) {
        let mut bytes = written(&chunks);
        prop_assert!(read(&bytes[..at.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
        let hostile = [&written(&[])[..], &bytes].concat();
        let _ = read(&hostile);
    }

    #[test]
    fn writing_goes_on_where_it_ended(chunks in chunks(), done in any::<prop::sample::Index>()) {
        let whole = written(&chunks);
        let done = done.index(chunks.len() + 1).min(chunks.len());
        let mut reader = Reader::begin(&whole[..]).unwrap();
        for _ in 0..done {
            reader.part().unwrap();
        }
        let (records, count, digest) = reader.so_far();
        // Far below what a usize holds.
        let begun = whole[..reader.offset() as usize].to_vec();
        let mut writer = Writer::resume(begun, digest, records, count);
        for chunk in &chunks[done..] {
            writer.chunk(chunk).unwrap();
        }
        prop_assert_eq!(writer.end().unwrap(), whole);
    }
}

#[test]
fn every_bit_of_a_small_file_counts() {
    let chunk = Chunk {
        cursor: 5,
        last: true,
        records: vec![Record {
            database: 3,
            expires_at_ms: 0,
            key: b"k".to_vec(),
            payload: b"payload".to_vec(),
        }],
    };
    let bytes = written(&[chunk]);
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1_u8 << (at % 8);
        assert!(read(&flipped).is_err(), "bit {at}");
    }
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let mut bytes = written(&[]);
    let end = bytes.len() - END_BYTES - 4;
    bytes.truncate(end);
    bytes.push(MORE);
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(read(&bytes), Err(DumpError::Cut(_))));
}

#[test]
fn payloads_tell_their_version() {
    assert_eq!(rdb_version(b"\x00\x03abc\x0b\x00........"), Some(11));
    assert_eq!(rdb_version(b"short"), None);
}
