//! What real clients say, and what a Valkey answers, as inputs for the fuzz targets:
//! `flect-integration --record-corpus FOLDER`, then `cargo xtask fuzz --keep`.
//!
//! Invariant: what is recorded came from the programs of [`crate::libraries`] that tell nothing of the machine
//! they run on, and from a private Valkey without passwords.

use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::bed::{Acceleration, Bed};
use crate::libraries;

/// Longer turns of a conversation are not kept: the engine makes long inputs by itself.
const TURN_BYTES_MAX: usize = 2000;

/// What one read of either side gives at most.
const READ_BYTES: usize = 16 * 1024;

/// Turns of a conversation: what came in one read.
#[derive(Default)]
struct Said {
    client: HashSet<Vec<u8>>,
    server: HashSet<Vec<u8>>,
}

/// Runs every program against a private Valkey and writes what was said below `folder`, a folder for each
/// target.
///
/// # Errors
/// When a program fails, or nothing was said.
pub fn record(folder: &Path) -> Result<()> {
    let bed = Bed::builder()
        .acceleration(Acceleration::Auto)
        .direct(true)
        .start()?;
    let said = Arc::new(Mutex::new(Said::default()));
    let address = listen(bed.address(), &said)?;
    for (name, mut command) in libraries::recorded(&bed)? {
        command
            .env("CACHE_URL", format!("redis://{address}"))
            .env("VALKEY_PORT", address.port().to_string());
        let output = command
            .output()
            .with_context(|| format!("starting {name}"))?;
        ensure!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        eprintln!("recorded {name}");
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(!said.client.is_empty(), "nobody said anything");
    // What stands before the bytes: how they are cut, for a rewriter the database and for replies the plan.
    write(folder, "requests", &[7], &said.client)?;
    write(folder, "rewriter", &[0, 7], &said.client)?;
    write(folder, "values", &[7], &said.server)?;
    write(folder, "replies", &[0, 0, 7], &said.server)?;
    let scripts: HashSet<Vec<u8>> = said.client.iter().flat_map(|turn| scripts(turn)).collect();
    write(folder, "scripts", &[], &scripts)
}

fn write(folder: &Path, target: &str, before: &[u8], all: &HashSet<Vec<u8>>) -> Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    // INFO tells where the server is installed.
    let tells = |turn: &&Vec<u8>| turn.windows(11).any(|word| word == b"executable:");
    let short = |turn: &&Vec<u8>| turn.len() <= TURN_BYTES_MAX;
    for turn in all.iter().filter(short).filter(|turn| !tells(turn)) {
        let input = [before, turn].concat();
        // The same turn has the same name in every recording.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&input);
        fs::write(folder.join(format!("recorded-{hash:016x}")), input)?;
    }
    Ok(())
}

/// The texts of EVAL, SCRIPT LOAD and FUNCTION LOAD: arguments that speak of `redis`.
fn scripts(turn: &[u8]) -> Vec<Vec<u8>> {
    turn.split(|byte| *byte == b'$')
        .filter_map(|part| {
            let end = part.windows(2).position(|pair| pair == b"\r\n")?;
            let length: usize = std::str::from_utf8(&part[..end]).ok()?.parse().ok()?;
            part.get(end + 2..end + 2 + length)
        })
        .filter(|argument| argument.windows(6).any(|word| word == b"redis."))
        .map(<[u8]>::to_vec)
        .collect()
}

fn listen(valkey: SocketAddr, said: &Arc<Mutex<Said>>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let said = Arc::clone(said);
    // It ends with this program.
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                // An end of either side ends the conversation.
                let _ = relay(&client, valkey, &said);
            });
        }
    });
    Ok(address)
}

fn relay(client: &TcpStream, valkey: SocketAddr, said: &Arc<Mutex<Said>>) -> io::Result<()> {
    let server = TcpStream::connect(valkey)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let back = Arc::clone(said);
    let answers = thread::spawn(move || copy(&from, &to, |turn| note(&back, turn, false)));
    let asked = copy(client, &server, |turn| note(said, turn, true));
    let _ = answers.join();
    asked
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, note: impl Fn(&[u8])) -> io::Result<()> {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut bytes)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        note(&bytes[..read]);
        to.write_all(&bytes[..read])?;
    }
}

fn note(said: &Mutex<Said>, turn: &[u8], by_client: bool) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let all = if by_client {
        &mut said.client
    } else {
        &mut said.server
    };
    all.insert(turn.to_vec());
}
