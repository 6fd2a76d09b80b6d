//! What FUNCTION DUMP gives and FUNCTION RESTORE takes: libraries as they stand in an RDB file, with the
//! format's version and a CRC64 behind them.
//!
//! Invariant: whatever the bytes say, no more is made of them than [`UNPACKED_BYTES_MAX`].

use crc::{CRC_64_REDIS, Crc};

/// `RDB_OPCODE_FUNCTION2` in rdb.h.
const LIBRARY: u8 = 245;

/// The same of release candidates of Redis 7.0, which no server takes.
const EARLY_LIBRARY: u8 = 246;

/// The format's version that all supported servers read (`RDB_VERSION` of Valkey 8.0 and 8.1).
const VERSION: u16 = 11;

/// The newest one (Valkey 9.1); what comes after may mean something else.
const VERSION_MAX: u16 = 80;

/// Version and CRC64.
const FOOTER_BYTES: usize = 10;

/// What a payload may unpack to, libraries together: LZF packs a run of one byte into a hundredth.
const UNPACKED_BYTES_MAX: usize = 16 * 1024 * 1024;

const CRC64: Crc<u64> = Crc::<u64>::new(&CRC_64_REDIS);

const WRONG: &str = "DUMP payload version or checksum are wrong";

/// Of these texts.
#[must_use]
pub fn pack(texts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.push(LIBRARY);
        write_length(text.len(), &mut out);
        out.extend_from_slice(text);
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    let crc = CRC64.checksum(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The texts in a payload.
///
/// # Errors
/// In the server's words (`functionRestoreCommand` in functions.c).
pub fn unpack(payload: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let end = payload.len().checked_sub(FOOTER_BYTES).ok_or(WRONG)?;
    let (body, footer) = payload.split_at(end);
    let (version, crc) = footer.split_at(2);
    let too_new = u16::from_le_bytes([version[0], version[1]]) > VERSION_MAX;
    let sum = CRC64.checksum(&payload[..end + 2]).to_le_bytes();
    if too_new || crc != sum {
        return Err(WRONG);
    }
    let mut reader = Reader { rest: body };
    let mut texts = Vec::new();
    let mut bytes = 0;
    while let Some(kind) = reader.byte() {
        match kind {
            LIBRARY => {}
            EARLY_LIBRARY => return Err("Pre-GA function format not supported"),
            _ => return Err("given type is not a function"),
        }
        let text = reader.string().ok_or("Failed loading library payload")?;
        bytes += text.len();
        if bytes > UNPACKED_BYTES_MAX {
            return Err("Failed loading library payload");
        }
        texts.push(text);
    }
    Ok(texts)
}

/// `rdbSaveLen` in rdb.c: 6, 14 or 32 bits; texts are never longer.
fn write_length(length: usize, out: &mut Vec<u8>) {
    let bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    match length {
        0..0x40 => out.push(bytes[3]),
        0x40..0x4000 => out.extend_from_slice(&[0x40 | bytes[2], bytes[3]]),
        _ => {
            out.push(0x80);
            out.extend_from_slice(&bytes);
        }
    }
}

/// A length, or how a string is written that is not its bytes.
enum Length {
    Bytes(usize),
    Special(u8),
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    /// `rdbLoadLenByRef` in rdb.c.
    fn length(&mut self) -> Option<Length> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Some(match first >> 6 {
            0 => Length::Bytes(usize::from(low)),
            1 => Length::Bytes(usize::from(low) << 8 | usize::from(self.byte()?)),
            2 if first == 0x80 => {
                let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
                Length::Bytes(usize::try_from(u32::from_be_bytes(bytes)).ok()?)
            }
            2 if first == 0x81 => {
                let bytes: [u8; 8] = self.take(8)?.try_into().ok()?;
                Length::Bytes(usize::try_from(u64::from_be_bytes(bytes)).ok()?)
            }
            2 => return None,
            _ => Length::Special(low),
        })
    }

    fn bytes(&mut self) -> Option<usize> {
        match self.length()? {
            Length::Bytes(bytes) => Some(bytes),
            Length::Special(_) => None,
        }
    }

    /// `rdbGenericLoadStringObject` in rdb.c: as it is, as a small number, or packed.
    fn string(&mut self) -> Option<Vec<u8>> {
        match self.length()? {
            Length::Bytes(bytes) => Some(self.take(bytes)?.to_vec()),
            Length::Special(0) => Some(i8::from_le_bytes([self.byte()?]).to_string().into()),
            Length::Special(1) => {
                let bytes: [u8; 2] = self.take(2)?.try_into().ok()?;
                Some(i16::from_le_bytes(bytes).to_string().into())
            }
            Length::Special(2) => {
                let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
                Some(i32::from_le_bytes(bytes).to_string().into())
            }
            Length::Special(3) => {
                let (packed_bytes, bytes) = (self.bytes()?, self.bytes()?);
                let packed = self.take(packed_bytes)?;
                (bytes <= UNPACKED_BYTES_MAX)
                    .then(|| unpack_lzf(packed, bytes))
                    .flatten()
            }
            Length::Special(_) => None,
        }
    }
}

/// LZF: runs of bytes as they are, and references to what came before.
fn unpack_lzf(packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut reader = Reader { rest: packed };
    let mut out = Vec::with_capacity(bytes);
    while let Some(control) = reader.byte() {
        let control = usize::from(control);
        if control < 0x20 {
            out.extend_from_slice(reader.take(control + 1)?);
            continue;
        }
        let mut length = control >> 5;
        if length == 7 {
            length += usize::from(reader.byte()?);
        }
        let back = ((control & 0x1f) << 8) + usize::from(reader.byte()?) + 1;
        let from = out.len().checked_sub(back)?;
        for at in from..from + length + 2 {
            // It may reach into what it makes itself.
            out.push(*out.get(at)?);
        }
        if out.len() > bytes {
            return None;
        }
    }
    (out.len() == bytes).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for length in [0, 1, 0x3f, 0x40, 0x3fff, 0x4000, 100_000] {
            let texts = vec![b"x".repeat(length), b"second".to_vec()];
            assert_eq!(unpack(&pack(&texts)).as_ref(), Ok(&texts));
        }
        assert_eq!(unpack(&pack(&[])), Ok(Vec::new()));
    }

    /// FUNCTION DUMP of an empty Valkey 9.1.2.
    #[test]
    fn the_checksum_is_the_servers() {
        let payload = [0x50, 0, 0x92, 0xb1, 0x95, 0xd1, 0x91, 0x2d, 0xc5, 0x2e];
        assert_eq!(unpack(&payload), Ok(Vec::new()));
        for at in 0..payload.len() {
            let mut broken = payload;
            broken[at] ^= 1;
            assert_eq!(unpack(&broken), Err(WRONG));
        }
        assert_eq!(unpack(b""), Err(WRONG));
    }

    #[test]
    fn nothing_is_believed() {
        let signed = |body: &[u8]| {
            let mut payload = body.to_vec();
            payload.extend_from_slice(&VERSION.to_le_bytes());
            let crc = CRC64.checksum(&payload);
            payload.extend_from_slice(&crc.to_le_bytes());
            unpack(&payload)
        };
        assert_eq!(signed(&[246]), Err("Pre-GA function format not supported"));
        assert_eq!(signed(&[0, 1, 2]), Err("given type is not a function"));
        for body in [
            &[245][..],
            &[245, 5, b'a'],
            &[245, 0x80, 0xff, 0xff, 0xff, 0xff],
            &[245, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[245, 0xc3, 1, 2, 0],
            &[245, 0xc3, 2, 0x80, 0xff, 0xff, 0xff, 0xff, 0x20, 0],
            &[245, 0xc3, 2, 5, 0x20, 0],
            &[245, 0xc5],
        ] {
            assert_eq!(
                signed(body),
                Err("Failed loading library payload"),
                "{body:?}"
            );
        }
        // "aaaaaa": one byte as it is, then five from one byte back.
        assert_eq!(
            signed(&[245, 0xc3, 4, 6, 0, b'a', 0x60, 0]),
            Ok(vec![b"aaaaaa".to_vec()])
        );
        assert_eq!(signed(&[245, 0xc0, 0xff]), Ok(vec![b"-1".to_vec()]));
    }
}
