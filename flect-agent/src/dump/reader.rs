//! Reading a file, part by part. The bytes may be anybody's.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::{CHUNK_HEAD_BYTES, END, END_BYTES, HEADER_BYTES_MAX, LAST, MAGIC, MORE, VERSION};
use super::{Chunk, DumpError, Header, RECORD_HEAD_BYTES, Record};

/// Reads a file.
pub struct Reader<R> {
    input: R,
    header: Header,
    digest: Sha256,
    records: u64,
    chunks: u64,
    offset: u64,
}

/// What comes after the header.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Keys.
    Chunk(Chunk),
    /// The end, which fits everything before it.
    End(Summary),
}

/// What a whole file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Keys.
    pub records: u64,
    /// Chunks.
    pub chunks: u64,
    /// SHA-256 of everything before the end.
    pub digest: [u8; 32],
}

/// Reads a whole file, keeping nothing.
///
/// # Errors
/// When anything is wrong with it.
pub fn verify<R: Read>(
    input: R,
    mut progress: impl FnMut(u64),
) -> Result<(Header, Summary), DumpError> {
    let mut reader = Reader::begin(input)?;
    loop {
        match reader.part()? {
            Part::Chunk(_) => progress(reader.offset()),
            Part::End(summary) => return Ok((reader.header, summary)),
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn begin(mut input: R) -> Result<Self, DumpError> {
        const IN_HEADER: DumpError = DumpError::Cut("in its header");
        let mut head = take(&mut input, MAGIC.len() as u64 + 6)?;
        if !head.starts_with(MAGIC) {
            return Err(DumpError::Foreign);
        }
        if head.len() < MAGIC.len() + 6 {
            return Err(IN_HEADER);
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        if version != VERSION {
            return Err(DumpError::Version(version));
        }
        let length = u32::from_le_bytes([head[10], head[11], head[12], head[13]]);
        if length > HEADER_BYTES_MAX {
            return Err(DumpError::Damaged("the length of its header"));
        }
        let json = take(&mut input, u64::from(length))?;
        let checksum = take(&mut input, 4)?;
        if checksum.len() < 4 {
            return Err(IN_HEADER);
        }
        head.extend_from_slice(&json);
        if crc32fast::hash(&head).to_le_bytes() != checksum[..] {
            return Err(DumpError::Damaged("its header"));
        }
        let header = serde_json::from_slice(&json)
            .map_err(|_| DumpError::Damaged("its header is not understood"))?;
        let mut digest = Sha256::new();
        digest.update(&head);
        digest.update(&checksum);
        Ok(Self {
            input,
            header,
            digest,
            records: 0,
            chunks: 0,
            offset: (head.len() + checksum.len()) as u64,
        })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next part begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Records and chunks that were read, and the digest so far: for who goes on writing here.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64, Sha256) {
        (self.records, self.chunks, self.digest.clone())
    }

    /// The next part. After the end there must be nothing.
    ///
    /// # Errors
    /// When it is cut off or damaged.
    pub fn part(&mut self) -> Result<Part, DumpError> {
        let kind = take(&mut self.input, 1)?;
        match kind.first() {
            Some(&kind @ (MORE | LAST)) => self.chunk(kind).map(Part::Chunk),
            Some(&END) => self.end().map(Part::End),
            Some(_) => Err(DumpError::Damaged("a part of no known kind")),
            None => Err(DumpError::Cut("before its end")),
        }
    }

    fn chunk(&mut self, kind: u8) -> Result<Chunk, DumpError> {
        const CUT: DumpError = DumpError::Cut("in a chunk");
        let mut head = vec![kind];
        head.extend(take(&mut self.input, CHUNK_HEAD_BYTES as u64 - 1)?);
        if head.len() < CHUNK_HEAD_BYTES {
            return Err(CUT);
        }
        let count = u32::from_le_bytes([head[9], head[10], head[11], head[12]]);
        let length = number(&head[13..]);
        let body = take(&mut self.input, length)?;
        let checksum = take(&mut self.input, 4)?;
        if body.len() as u64 != length || checksum.len() < 4 {
            return Err(CUT);
        }
        let mut expected = crc32fast::Hasher::new();
        expected.update(&head);
        expected.update(&body);
        if expected.finalize().to_le_bytes() != checksum[..] {
            return Err(DumpError::Damaged("a chunk"));
        }
        let records = records(&body)?;
        if records.len() as u64 != u64::from(count) {
            return Err(DumpError::Damaged("a chunk's number of keys"));
        }
        for bytes in [&head, &body, &checksum] {
            self.digest.update(bytes);
            self.offset += bytes.len() as u64;
        }
        self.records += u64::from(count);
        self.chunks += 1;
        Ok(Chunk {
            cursor: number(&head[1..]),
            last: kind == LAST,
            records,
        })
    }

    fn end(&mut self) -> Result<Summary, DumpError> {
        let mut bytes = vec![END];
        bytes.extend(take(&mut self.input, END_BYTES as u64 - 1)?);
        let checksum = take(&mut self.input, 4)?;
        if bytes.len() < END_BYTES || checksum.len() < 4 {
            return Err(DumpError::Cut("in its end"));
        }
        if crc32fast::hash(&bytes).to_le_bytes() != checksum[..] {
            return Err(DumpError::Damaged("its end"));
        }
        let digest: [u8; 32] = self.digest.clone().finalize().into();
        let summary = Summary {
            records: number(&bytes[1..]),
            chunks: number(&bytes[9..]),
            digest,
        };
        if bytes[17..] != digest || summary.records != self.records || summary.chunks != self.chunks
        {
            return Err(DumpError::Damaged("its end does not fit what is before it"));
        }
        if !take(&mut self.input, 1)?.is_empty() {
            return Err(DumpError::Damaged("something follows its end"));
        }
        Ok(summary)
    }
}

/// The eight bytes at the beginning, of which there are at least so many.
fn number(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(eight)
}

/// So many bytes, or what there is: a length that lies allocates nothing.
fn take<R: Read>(input: &mut R, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn records(mut body: &[u8]) -> Result<Vec<Record>, DumpError> {
    const WRONG: DumpError = DumpError::Damaged("lengths in a chunk");
    let mut all = Vec::new();
    while !body.is_empty() {
        let (head, rest) = body.split_at_checked(RECORD_HEAD_BYTES).ok_or(WRONG)?;
        let key = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let key = usize::try_from(key).map_err(|_| WRONG)?;
        let payload = usize::try_from(number(&head[16..])).map_err(|_| WRONG)?;
        let (key, rest) = rest.split_at_checked(key).ok_or(WRONG)?;
        let (payload, rest) = rest.split_at_checked(payload).ok_or(WRONG)?;
        all.push(Record {
            database: u32::from_le_bytes([head[0], head[1], head[2], head[3]]),
            expires_at_ms: number(&head[4..]),
            key: key.to_vec(),
            payload: payload.to_vec(),
        });
        body = rest;
    }
    Ok(all)
}
