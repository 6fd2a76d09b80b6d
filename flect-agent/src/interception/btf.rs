//! Offsets of the kernel's structures, from its own description in BTF
//! (Documentation/bpf/btf.rst). Layouts differ between builds; nothing here guesses.

use std::io;

/// What sk_msg looks at: see `flect-ebpf/src/sk_msg.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) sk_msg_sk: u32,
    pub(super) sk_msg_sk_redir: u32,
    pub(super) sock_rmem_alloc: u32,
    pub(super) tcp_sock_write_seq: u32,
}

impl Layout {
    pub(super) const UNKNOWN: Self = Self {
        sk_msg_sk: 0,
        sk_msg_sk_redir: 0,
        sock_rmem_alloc: 0,
        tcp_sock_write_seq: 0,
    };

    pub(super) fn of_running_kernel() -> io::Result<Self> {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux")?;
        let types = Types::parse(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        let offset = |structure: &str, path: &[&str]| {
            types.offset(structure, path).ok_or_else(|| {
                io::Error::other(format!("no {} in its struct {structure}", path.join(".")))
            })
        };
        Ok(Self {
            sk_msg_sk: offset("sk_msg", &["sk"])?,
            sk_msg_sk_redir: offset("sk_msg", &["sk_redir"])?,
            sock_rmem_alloc: offset("sock", &["sk_backlog", "rmem_alloc"])?,
            tcp_sock_write_seq: offset("tcp_sock", &["write_seq"])?,
        })
    }
}

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// TYPEDEF, VOLATILE, CONST, RESTRICT and TYPE_TAG only name another type.
const KIND_ALIASES: [u32; 5] = [8, 9, 10, 11, 18];
/// Aliases and anonymous members nest a few levels in the kernel; a cycle would never end.
const DEPTH_MAX: usize = 16;

struct Types<'a> {
    strings: &'a [u8],
    /// The record of each type by id; 0 is void.
    records: Vec<&'a [u8]>,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header_bytes = word(bytes, 4)? as usize;
        let section = |offset_at: usize| -> Option<&'a [u8]> {
            let start = header_bytes.checked_add(word(bytes, offset_at)? as usize)?;
            let length = word(bytes, offset_at + 4)? as usize;
            bytes.get(start..start.checked_add(length)?)
        };
        let mut rest = section(8)?;
        let strings = section(16)?;
        let mut records: Vec<&[u8]> = vec![&[]];
        while !rest.is_empty() {
            let (record, after) = rest.split_at_checked(record_bytes(rest)?)?;
            records.push(record);
            rest = after;
        }
        Some(Self { strings, records })
    }

    /// Byte offset of a member, through named members and into anonymous ones.
    fn offset(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut record = *self.records.iter().find(|record| {
            kind(record) == Some(KIND_STRUCT) && self.name(record) == Some(structure.as_bytes())
        })?;
        let mut bits = 0u32;
        for name in path {
            let (offset, member_type) = self.member(record, name.as_bytes(), DEPTH_MAX)?;
            bits = bits.checked_add(offset)?;
            record = self.resolve(member_type)?;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Offset in bits and type of a member.
    fn member(&self, record: &[u8], name: &[u8], depth: usize) -> Option<(u32, u32)> {
        let depth = depth.checked_sub(1)?;
        // With the flag, the upper byte of an offset is the size of a bit field.
        let mask = if word(record, 4)? >> 31 == 1 {
            0x00ff_ffff
        } else {
            u32::MAX
        };
        record.get(12..)?.chunks_exact(12).find_map(|member| {
            let member_type = word(member, 4)?;
            let offset = word(member, 8)? & mask;
            match self.string(word(member, 0)?)? {
                own if own == name => Some((offset, member_type)),
                [] => {
                    let inner = self.resolve(member_type)?;
                    matches!(kind(inner)?, KIND_STRUCT | KIND_UNION)
                        .then(|| self.member(inner, name, depth))
                        .flatten()
                        .map(|(inner_offset, found)| (offset + inner_offset, found))
                }
                _ => None,
            }
        })
    }

    /// The type behind aliases.
    fn resolve(&self, mut id: u32) -> Option<&'a [u8]> {
        for _ in 0..DEPTH_MAX {
            let record = *self.records.get(id as usize)?;
            if !KIND_ALIASES.contains(&kind(record).unwrap_or(0)) {
                return Some(record);
            }
            id = word(record, 8)?;
        }
        None
    }

    fn name(&self, record: &[u8]) -> Option<&'a [u8]> {
        self.string(word(record, 0)?)
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        self.strings
            .get(offset as usize..)?
            .split(|&byte| byte == 0)
            .next()
    }
}

/// Length of the first record: `btf_type`, and what its kind appends.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let entries = (word(bytes, 4)? & 0xffff) as usize;
    let appended = match kind(bytes)? {
        1 | 14 | 17 => 4,                                   // INT, VAR, DECL_TAG
        3 => 12,                                            // ARRAY
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * entries, // ..., DATASEC, ENUM64
        6 | 13 => 8 * entries,                              // ENUM, FUNC_PROTO
        // PTR, FWD, aliases, FUNC, FLOAT
        2 | 7..=12 | 16 | 18 => 0,
        // The length of an unknown kind is unknown, so whatever follows it is too.
        _ => return None,
    };
    Some(12 + appended)
}

fn kind(record: &[u8]) -> Option<u32> {
    Some(word(record, 4)? >> 24 & 0x1f)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { u32 first; struct { u32 second; }; } `, and void's alias.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0first\0second\0u32\0";
        let types: Vec<u32> = vec![
            20,
            1 << 24,
            4,
            32, // 1: INT u32
            0,
            KIND_STRUCT << 24 | 1,
            4,
            13,
            1,
            0, // 2: struct { u32 second }
            0,
            10 << 24,
            2, // 3: const 2
            1,
            KIND_STRUCT << 24 | 2,
            8,
            7,
            1,
            0,
            0,
            3,
            32, // 4: struct outer
        ];
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for field in [24, 0, types.len(), types.len(), strings.len()] {
            bytes.extend((field as u32).to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_also_in_anonymous_structures() {
        let bytes = sample();
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(types.offset("outer", &["first"]), Some(0));
        assert_eq!(types.offset("outer", &["second"]), Some(4));
        assert_eq!(types.offset("outer", &["third"]), None);
        assert_eq!(types.offset("inner", &["first"]), None);
    }

    #[test]
    fn a_damaged_description_tells_nothing() {
        let bytes = sample();
        for length in 0..bytes.len() {
            let _no_panic = Types::parse(&bytes[..length]);
        }
        assert!(Types::parse(b"").is_none());
    }

    #[test]
    fn this_kernel_describes_itself() {
        match Layout::of_running_kernel() {
            Ok(layout) => assert!(layout.tcp_sock_write_seq > layout.sk_msg_sk),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }
}
