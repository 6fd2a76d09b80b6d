//! What the pinned maps of the hooks hold, as the kernel tells it.

#![expect(unsafe_code, reason = "bpf(2) takes raw memory")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// `enum bpf_cmd` of include/uapi/linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(i64)]
enum Command {
    Lookup = 1,
    NextKey = 4,
    ObjGet = 7,
    ObjInfo = 15,
    LinkDetach = 34,
}

/// A map that an agent has pinned.
#[derive(Debug)]
pub struct Pinned {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl Pinned {
    /// The map of this name below a bed's pins, of whatever schema.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(pins: &Path, name: &str) -> Result<Self> {
        let fd = pinned(pins, &format!("map_{name}"))?;
        // `struct bpf_map_info`: type, id, key_size, value_size, ...
        let mut info = [0u32; 16];
        let size = (size_of_val(&info) as u64) << 32;
        let number = u64::from(fd.as_raw_fd().cast_unsigned());
        bpf(
            Command::ObjInfo,
            [number | size, info.as_mut_ptr() as u64, 0, 0],
        )?;
        Ok(Self {
            fd,
            key_bytes: info[2] as usize,
            value_bytes: info[3] as usize,
        })
    }

    /// Its keys.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0u8; self.key_bytes];
            let from = keys.last().map_or(0, |key| key.as_ptr() as u64);
            let words = [self.number(), from, next.as_mut_ptr() as u64, 0];
            match bpf(Command::NextKey, words) {
                Ok(_) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The sum of its values, which are 64-bit numbers.
    ///
    /// # Errors
    /// When they are not, or the kernel does not answer.
    pub fn sum(&self) -> Result<i64> {
        ensure!(self.value_bytes == 8, "{} bytes a value", self.value_bytes);
        let mut sum = 0;
        for key in self.keys()? {
            let mut value = 0i64;
            let words = [self.number(), key.as_ptr() as u64, &raw mut value as u64, 0];
            match bpf(Command::Lookup, words) {
                Ok(_) => sum += value,
                // It went meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sum)
    }

    fn number(&self) -> u64 {
        u64::from(self.fd.as_raw_fd().cast_unsigned())
    }
}

/// Detaches a link of this name by force, as its pin and whoever holds it open would not have it.
///
/// # Errors
/// When there is none, or the kernel refuses.
pub fn detach(pins: &Path, link: &str) -> Result<()> {
    let fd = pinned(pins, link)?;
    let number = u64::from(fd.as_raw_fd().cast_unsigned());
    bpf(Command::LinkDetach, [number, 0, 0, 0])?;
    Ok(())
}

/// The object that is pinned by this name, of whatever schema.
fn pinned(pins: &Path, name: &str) -> Result<OwnedFd> {
    let schema = fs::read_dir(pins)?
        .next()
        .context("no schema is pinned")??;
    let path = schema.path().join(name);
    let path = CString::new(path.as_os_str().as_bytes())?;
    let opened = bpf(Command::ObjGet, [path.as_ptr() as u64, 0, 0, 0])
        .with_context(|| format!("opening {}", path.to_string_lossy()))?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(opened)?) })
}

/// bpf(2) with the words of its attribute.
fn bpf(command: Command, mut words: [u64; 4]) -> io::Result<i64> {
    // SAFETY: the callers above put only addresses of living buffers of the right size into the words.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i64,
            words.as_mut_ptr(),
            size_of_val(&words),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
