//! Writing a file, part by part.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::{
    CHUNK_HEAD_BYTES, DumpError, END, Header, LAST, MAGIC, MORE, RECORD_HEAD_BYTES, VERSION,
};
use super::{Chunk, Record};

/// Writes a file. Nothing is in the file of a chunk that was not finished.
pub struct Writer<W> {
    out: W,
    digest: Sha256,
    records: u64,
    chunks: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(out: W, header: &Header) -> Result<Self, DumpError> {
        let json = serde_json::to_vec(header).expect("names and numbers are JSON");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        // A few hundred bytes: names are bounded.
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let mut writer = Self::resume(out, Sha256::new(), 0, 0);
        writer.write(&bytes)?;
        Ok(writer)
    }

    /// Goes on behind parts that were read and found good.
    #[must_use]
    pub fn resume(out: W, digest: Sha256, records: u64, chunks: u64) -> Self {
        Self {
            out,
            digest,
            records,
            chunks,
        }
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// What the system says.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), DumpError> {
        let length: usize = chunk.records.iter().map(Record::bytes).sum();
        let mut head = Vec::with_capacity(CHUNK_HEAD_BYTES);
        head.push(if chunk.last { LAST } else { MORE });
        head.extend_from_slice(&chunk.cursor.to_le_bytes());
        // As many records as fit in a chunk's bytes.
        head.extend_from_slice(&(chunk.records.len() as u32).to_le_bytes());
        head.extend_from_slice(&(length as u64).to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        let mut put = |writer: &mut Self, bytes: &[u8]| {
            checksum.update(bytes);
            writer.write(bytes)
        };
        put(self, &head)?;
        for record in &chunk.records {
            let mut head = Vec::with_capacity(RECORD_HEAD_BYTES);
            head.extend_from_slice(&record.database.to_le_bytes());
            head.extend_from_slice(&record.expires_at_ms.to_le_bytes());
            // Keys are shorter than 512 MB.
            head.extend_from_slice(&(record.key.len() as u32).to_le_bytes());
            head.extend_from_slice(&(record.payload.len() as u64).to_le_bytes());
            put(self, &head)?;
            put(self, &record.key)?;
            put(self, &record.payload)?;
        }
        let checksum = checksum.finalize();
        self.write(&checksum.to_le_bytes())?;
        self.records += chunk.records.len() as u64;
        self.chunks += 1;
        Ok(())
    }

    /// Ends the file; hands the sink back.
    ///
    /// # Errors
    /// What the system says.
    pub fn end(mut self) -> Result<W, DumpError> {
        let digest = self.digest.clone().finalize();
        let mut bytes = vec![END];
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&digest);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Records written so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DumpError> {
        self.digest.update(bytes);
        self.out.write_all(bytes)?;
        Ok(())
    }
}

impl Record {
    /// What it takes in a file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        RECORD_HEAD_BYTES + self.key.len() + self.payload.len()
    }
}
