//! Users and groups of the machine, from names to numbers.

#![expect(
    unsafe_code,
    reason = "names are looked up with getpwnam_r and getgrnam_r, which know LDAP and the like as well"
)]

use std::collections::HashSet;
use std::ffi::{CString, c_char};

use flect_agent::config::Principal;

use super::peer::Peer;

/// What the C library may ask for, to hold one entry of a user or group database.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// Who may do something.
#[derive(Debug, Default)]
pub struct People {
    uids: HashSet<u32>,
    gids: HashSet<u32>,
}

impl People {
    /// Looks names up; `what_for` tells in the log where an unknown one stands. Nobody gets in by a
    /// name that is not known now: a user who is made later is somebody else.
    pub fn resolve(principals: &[Principal], what_for: &str) -> Self {
        let mut people = Self::default();
        for principal in principals {
            let (known, name) = match principal {
                // A number needs no looking up.
                Principal::Uid(uid) => {
                    people.uids.insert(*uid);
                    (true, "")
                }
                Principal::Gid(gid) => {
                    people.gids.insert(*gid);
                    (true, "")
                }
                Principal::User(name) => {
                    let uid = uid_of(name);
                    people.uids.extend(uid);
                    (uid.is_some(), name.as_str())
                }
                Principal::Group(name) => {
                    let gid = gid_of(name);
                    people.gids.extend(gid);
                    (gid.is_some(), name.as_str())
                }
            };
            if !known {
                tracing::warn!(
                    name,
                    what_for,
                    "no such user or group here; start the agent again once there is"
                );
            }
        }
        people
    }

    /// Whether the peer is one of them, by its user or by a group it had when it connected.
    pub fn include(&self, peer: &Peer) -> bool {
        self.uids.contains(&peer.uid) || peer.gids.iter().any(|gid| self.gids.contains(gid))
    }
}

fn uid_of(name: &str) -> Option<u32> {
    // SAFETY: all zeroes is a valid passwd: numbers and null pointers.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    look_up(name, |name, buffer, length| {
        let mut found = std::ptr::null_mut();
        // SAFETY: name is a C string, entry and found outlive the call, and buffer has length bytes.
        let error =
            unsafe { libc::getpwnam_r(name, &raw mut entry, buffer, length, &raw mut found) };
        (error, (!found.is_null()).then_some(entry.pw_uid))
    })
}

fn gid_of(name: &str) -> Option<u32> {
    // SAFETY: as above.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    look_up(name, |name, buffer, length| {
        let mut found = std::ptr::null_mut();
        // SAFETY: as above.
        let error =
            unsafe { libc::getgrnam_r(name, &raw mut entry, buffer, length, &raw mut found) };
        (error, (!found.is_null()).then_some(entry.gr_gid))
    })
}

/// Calls with a larger buffer as long as the library asks for one.
fn look_up(
    name: &str,
    mut call: impl FnMut(*const c_char, *mut c_char, usize) -> (i32, Option<u32>),
) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut buffer: Vec<c_char> = vec![0; 4096];
    loop {
        let (error, found) = call(name.as_ptr(), buffer.as_mut_ptr(), buffer.len());
        if error != libc::ERANGE || buffer.len() >= ENTRY_BYTES_MAX {
            return found.filter(|_| error == 0);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers() {
        assert_eq!(uid_of("root"), Some(0));
        assert_eq!(gid_of("root"), Some(0));
        assert_eq!(uid_of("no-such-user-here"), None);
        assert_eq!(gid_of("no-such-group-here"), None);
    }
}
