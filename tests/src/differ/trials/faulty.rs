//! A server with a fault, which the tester must find and show with few requests.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::campaign::{self, Plan};
use super::super::duel::Duel;
use super::super::exceptions::Exceptions;
use super::super::generate::Generator;
use super::super::player::Target;
use crate::bed::Bed;
use crate::wire::Wire;

/// What the faulty side takes LPUSHX for. Its reply is the same: only the order of the list tells.
const FAULT: (&[u8], &[u8]) = (b"LPUSHX", b"RPUSHX");
/// A list with something in it, the faulty request, and a look at the list; the look at the end
/// needs none of the last.
const STEPS_MAX: usize = 3;
/// The fault shows within a few sequences.
const TIME: Duration = Duration::from_secs(30);

struct Plain<'a>(&'a Bed);

/// The same server behind a relay that changes requests.
struct Faulty<'a> {
    bed: &'a Bed,
    relay: SocketAddr,
}

impl Target for Plain<'_> {
    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0.address())
    }

    fn operator(&self) -> io::Result<Wire> {
        self.0.operator()
    }
}

impl Target for Faulty<'_> {
    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.relay)
    }

    fn operator(&self) -> io::Result<Wire> {
        self.bed.operator()
    }
}

/// Two private servers, one of them behind the fault.
pub fn found() -> Result<()> {
    let (right, wrong) = (
        Bed::builder().direct(true).start()?,
        Bed::builder().direct(true).start()?,
    );
    let exceptions = Exceptions::none();
    let generator = Generator::new(&["lists".to_owned(), "keys".to_owned()])?;
    let plan = Plan {
        seed: 5,
        time: TIME,
        keep_going: false,
    };
    let valkey = Plain(&right);
    let store = Faulty {
        bed: &wrong,
        relay: relay(wrong.address())?,
    };
    let duel = Duel {
        valkey: &valkey,
        store: &store,
        secret: Vec::new(),
        exceptions: &exceptions,
    };
    let report = campaign::run(&duel, &generator, &plan, |_| {})?;
    let Some(finding) = report.findings.first() else {
        anyhow::bail!("the fault was not found: {report}");
    };
    println!("differ: found after {report}\n{finding}");
    let steps = &finding.minimal.steps;
    let is_there = |name: &str| {
        let mut requests = steps.iter().filter_map(|step| step.request());
        requests.any(|request| request.name() == name)
    };
    ensure!(is_there("LPUSHX"), "something else was found:\n{finding}");
    ensure!(
        steps.len() <= STEPS_MAX,
        "it was not made short:\n{finding}"
    );
    // What was found is found again from its file, and is gone without the fault.
    let again = super::super::step::Step::parse_all(&finding.file())?;
    ensure!(campaign::replay(&duel, &again)?.findings.len() == 1);
    let healthy = Duel {
        store: &Plain(&wrong),
        ..duel
    };
    ensure!(campaign::replay(&healthy, &again)?.findings.is_empty());
    Ok(())
}

/// A relay to the server, with the fault in what clients send. It ends with the process.
fn relay(server: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(upstream) = TcpStream::connect(server) else {
                return;
            };
            let (Ok(from), Ok(to)) = (client.try_clone(), upstream.try_clone()) else {
                return;
            };
            thread::spawn(move || pass_on(from, to, true));
            thread::spawn(move || pass_on(upstream, client, false));
        }
    });
    Ok(address)
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_faulty: bool) {
    let mut part = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut part) {
        let bytes = &mut part[..count];
        for at in 0..count.saturating_sub(FAULT.0.len()) {
            if is_faulty && bytes[at..].starts_with(FAULT.0) {
                bytes[at..at + FAULT.1.len()].copy_from_slice(FAULT.1);
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
