//! What systemd is for the agent, as far as it concerns descriptors: NOTIFY_SOCKET, and a store that outlives
//! the agent (`FDSTORE=1`) and is given to the next one (`LISTEN_FDS`).
//!
//! Invariant: as with systemd, what is kept is given again at each start until the agent says otherwise.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::Bed;
use crate::child;

/// The role's name for [`child::dispatch`].
pub const ROLE: &str = "inheritor";
/// How many descriptors it says that it keeps.
const KEPT_MAX: usize = 4096;
/// The kernel's `SCM_MAX_FD`.
const DESCRIPTORS_MAX: usize = 253;
/// How long a thread sleeps between two looks at whether it shall end.
const TICK: Duration = Duration::from_millis(50);
/// How long the starting process may take to take its descriptors.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// The first descriptor that is given (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;
/// The end of the descriptors.
const END: &str = ".";

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Supervisor {
    notify: PathBuf,
    gives: PathBuf,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What it was told.
#[derive(Debug, Default)]
struct Told {
    kept: Vec<(String, OwnedFd)>,
    ready: Vec<Instant>,
    /// A descriptor each, of agents that wait until they are heard; closed with the lock open.
    lines: Vec<String>,
}

impl Supervisor {
    /// Starts it for a bed's agents.
    ///
    /// # Errors
    /// When its sockets cannot be made.
    pub fn start(bed: &Bed) -> Result<Self> {
        let (notify, gives) = (bed.folder().join("notify"), bed.folder().join("gives"));
        let hears = UnixDatagram::bind(&notify)?;
        hears.set_read_timeout(Some(TICK))?;
        let giver = UnixListener::bind(&gives)?;
        giver.set_nonblocking(true)?;
        let told = Arc::new(Mutex::new(Told::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (to_hear, to_give) = (told.clone(), told.clone());
        let (stops, ends) = (stop.clone(), stop.clone());
        let threads = vec![
            thread::spawn(move || {
                while !stops.load(Ordering::Relaxed) {
                    hear(&hears, &to_hear);
                }
            }),
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    match giver.accept() {
                        Ok((stream, _)) => {
                            if let Err(error) = give(&stream, &to_give) {
                                eprintln!("the supervisor gives nothing: {error:#}");
                            }
                        }
                        Err(_) => thread::sleep(Duration::from_millis(2)),
                    }
                }
            }),
        ];
        Ok(Self {
            notify,
            gives,
            told,
            stop,
            threads,
        })
    }

    /// Starts the bed's agent with what is kept, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&self, bed: &Bed) -> Result<()> {
        let role = child::command(ROLE, &[])?;
        let mut words = vec![role.get_program().to_string_lossy().into_owned()];
        words.extend(role.get_args().map(|it| it.to_string_lossy().into_owned()));
        bed.spawn_agent_with(&format!(
            "NOTIFY_SOCKET={} FDSTORE={KEPT_MAX} {} {}",
            self.notify.display(),
            words.join(" "),
            self.gives.display()
        ))
    }

    /// When the agents said that they were ready, in their order.
    #[must_use]
    pub fn ready(&self) -> Vec<Instant> {
        lock(&self.told).ready.clone()
    }

    /// How many descriptors are kept, by name.
    #[must_use]
    pub fn kept(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for (name, _) in &lock(&self.told).kept {
            *counts.entry(name.clone()).or_default() += 1;
        }
        counts
    }

    /// Closes all that is kept, as `systemctl stop` does.
    pub fn forget(&self) {
        lock(&self.told).kept.clear();
    }

    /// Everything it was told, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        lock(&self.told).lines.clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has told what it had to say.
            let _ = thread.join();
        }
    }
}

/// One message, if one comes.
fn hear(socket: &UnixDatagram, told: &Mutex<Told>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let Ok(message) = recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) else {
        return;
    };
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let text = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
    let has = |line: &str| text.lines().any(|it| it == line);
    let name = text.lines().find_map(|it| it.strip_prefix("FDNAME="));
    let mut told = lock(told);
    if has("READY=1") {
        told.ready.push(Instant::now());
    }
    if let Some(name) = name {
        if has("FDSTORE=1") {
            for fd in fds {
                let known = told.kept.iter().any(|(_, kept)| is_same(kept, &fd));
                if !known && told.kept.len() < KEPT_MAX {
                    told.kept.push((name.to_owned(), fd));
                }
            }
        }
        if has("FDSTOREREMOVE=1") {
            told.kept.retain(|(kept, _)| kept != name);
        }
    }
    told.lines.extend(text.lines().map(str::to_owned));
    // What came with BARRIER=1 is closed here, and who waits for that goes on.
}

/// The same socket or file: both have an inode of their own.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Gives all that is kept to an agent that starts: a name and a descriptor each, confirmed by a byte.
fn give(stream: &UnixStream, told: &Mutex<Told>) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TAKEN_WITHIN))?;
    let kept: Vec<(String, OwnedFd)> = lock(told)
        .kept
        .iter()
        .map(|(name, fd)| Ok((name.clone(), fd.try_clone()?)))
        .collect::<io::Result<_>>()?;
    for (name, fd) in &kept {
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let parts = [IoSlice::new(name.as_bytes())];
        sendmsg(stream, &parts, &mut control, SendFlags::empty())?;
        io::Read::read_exact(&mut &*stream, &mut [0])?;
    }
    io::Write::write_all(&mut &*stream, END.as_bytes())?;
    Ok(())
}

/// Takes descriptors from 3 on and becomes the agent: the first argument is where they are given, the others
/// are its command line.
///
/// # Errors
/// When it cannot; otherwise it does not return.
pub fn role(args: &[String]) -> Result<()> {
    let [place, program, rest @ ..] = args else {
        bail!("a place and a command are asked for");
    };
    let channel = UnixStream::connect(place)?;
    channel.set_read_timeout(Some(TAKEN_WITHIN))?;
    let mut all = Vec::new();
    let mut names = Vec::new();
    loop {
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        let message = recvmsg(&channel, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let name = std::str::from_utf8(&bytes[..message.bytes])?.to_owned();
        if name == END {
            break;
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        all.push(fd.context("a name without a descriptor")?);
        names.push(name);
        io::Write::write_all(&mut &channel, b"+")?;
    }
    drop(channel);
    // Each takes the lowest number that is free from 3 on, and is left open for the agent. What whoever runs the
    // trials has left open in between is nothing that the agent knows.
    let mut by_number = HashMap::new();
    let mut given = Vec::new();
    for (fd, name) in all.into_iter().zip(names) {
        let lower = rustix::io::dup(&fd)?;
        by_number.insert(lower.as_raw_fd(), name);
        given.push(lower);
    }
    let last = by_number.keys().max().copied().unwrap_or(FIRST - 1);
    let names: Vec<_> = (FIRST..=last)
        .map(|number| by_number.remove(&number).unwrap_or("other".to_owned()))
        .collect();
    let error = Command::new(program)
        .args(rest)
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .exec();
    Err(error.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
