//! Attacks by whose a socket is: made here and used there, passed on, kept through fork, exec and moves
//! from cgroup to cgroup.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail};
use flect_agent::weakened::Weakness;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use socket2::Socket;

use super::connecting::AROUND;
use super::ground::{Answer, Ground, ask, dial, open, tcp};
use super::{APP, Attack, By, Falls, NEIGHBOUR, system};
use crate::child;

const CREATOR: Falls = Falls::Under(&[Weakness::Creator]);

pub(super) const ATTACKS: [Attack; 10] = [
    attack("made_here_used_there", made_here, &[], CREATOR),
    attack("passed_on_before_connect", passed_before, &[], CREATOR),
    attack("inherited_before_connect", forked_before, &[], CREATOR),
    // What was connected stays its maker's, whoever holds it: the maker gave it away.
    attack("passed_on_after_connect", passed_after, &[APP], AROUND),
    attack("moved_after_connect", moved_after, &[APP], AROUND),
    attack("kept_through_exec", kept_through_exec, &[APP], AROUND),
    attack("nested_cgroups", nested, &[APP], AROUND),
    attack("a_threaded_cgroup", threaded, &[APP], AROUND),
    attack("a_cgroup_that_is_gone", gone, &[APP], AROUND),
    Attack {
        name: "made_outside_of_what_is_managed",
        by: By::Outsider(made_outside),
        may_be: &[],
        falls: Falls::Limit(
            "hooks belong to the cgroup that made a socket: whoever gives an app a socket from outside the managed \
             root could use it itself",
        ),
    },
];

const fn attack(
    name: &'static str,
    body: super::Body,
    may_be: &'static [&'static str],
    falls: Falls,
) -> Attack {
    Attack {
        name,
        by: By::App(body),
        may_be,
        falls,
    }
}

/// Made by the app, connected after its process has moved to the neighbour.
fn made_here(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    ground.join(NEIGHBOUR)?;
    Ok(dial(&socket, ground.valkey()))
}

fn passed_before(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    in_the_neighbour(ground, &socket, |ground, socket| {
        dial(socket, ground.valkey())
    })
}

/// The same by fork: the child has the descriptor without having been given it.
fn forked_before(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    let said = system::in_child(|| {
        ground.join(NEIGHBOUR)?;
        Ok(dial(&socket, ground.valkey()).to_string())
    })?;
    Answer::parse(&said)
}

fn passed_after(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    match dial(&socket, ground.valkey()) {
        Answer::Served(_) => in_the_neighbour(ground, &socket, |_, socket| Answer::of(ask(socket))),
        refused => Ok(refused),
    }
}

/// Sends a socket to a process of the neighbour, which does something with it.
fn in_the_neighbour(
    ground: &Ground,
    socket: &Socket,
    act: impl FnOnce(&Ground, &Socket) -> Answer,
) -> Result<Answer> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        bail!("no room for a descriptor");
    }
    let byte = [IoSlice::new(b"x")];
    sendmsg(&ours, &byte, &mut control, SendFlags::empty())?;
    let said = system::in_child(|| {
        ground.join(NEIGHBOUR)?;
        Ok(act(ground, &received(&theirs)?).to_string())
    })?;
    Answer::parse(&said)
}

fn received(from: &UnixStream) -> Result<Socket> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(from, &mut parts, &mut control, RecvFlags::empty())?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return Ok(Socket::from(descriptors.next().context("no descriptor")?));
        }
    }
    bail!("no descriptor came")
}

fn moved_after(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    let before = dial(&socket, ground.valkey());
    ground.join(NEIGHBOUR)?;
    Ok(match before {
        Answer::Served(_) => Answer::of(ask(&socket)),
        refused => refused,
    })
}

/// The role of a program that finds a connection in its hands.
pub(super) const HEIR: &str = "intruder-heir";

fn kept_through_exec(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    if let refused @ Answer::Refused(_) = dial(&socket, ground.valkey()) {
        return Ok(refused);
    }
    ground.join(NEIGHBOUR)?;
    let mut command = child::command(HEIR, &[&socket.as_raw_fd().to_string()])?;
    system::keep(&mut command, &socket);
    let output = command.output()?;
    Answer::parse(String::from_utf8_lossy(&output.stdout).trim())
}

/// Plays [`HEIR`].
pub(super) fn heir(args: &[String]) -> Result<()> {
    let number = args.first().context("which descriptor?")?.parse()?;
    let socket = Socket::from(system::inherited(number)?);
    println!("{}", Answer::of(ask(&socket)));
    Ok(())
}

/// Names that look like the neighbour's change nothing about where a cgroup lies.
fn nested(ground: &Ground) -> Result<Answer> {
    let mut answer = Answer::Refused("nothing was tried".to_owned());
    for below in [NEIGHBOUR, "apps", "x y", "a\\b", "worker (deleted)"] {
        ground.join(&format!("{APP}/{below}/{NEIGHBOUR}"))?;
        answer = open(ground.valkey());
        if answer != Answer::Served(APP.to_owned()) {
            break;
        }
    }
    Ok(answer)
}

/// A thread may stand in another cgroup than its process: in one below the app's, at most.
fn threaded(ground: &Ground) -> Result<Answer> {
    let base = ground.apps.join(APP).join("threads");
    std::fs::create_dir_all(base.join("one"))?;
    std::fs::write(base.join("one/cgroup.type"), "threaded")?;
    std::fs::write(base.join("cgroup.procs"), "0")?;
    std::fs::write(base.join("one/cgroup.threads"), "0")?;
    Ok(open(ground.valkey()))
}

/// Removed while a connection out of it lives; the next comes from where the process has gone.
fn gone(ground: &Ground) -> Result<Answer> {
    let short = format!("{APP}/short");
    ground.join(&short)?;
    let socket = tcp(ground.valkey())?;
    let first = dial(&socket, ground.valkey());
    ground.join(APP)?;
    std::fs::remove_dir(ground.apps.join(&short))?;
    Ok(match first {
        Answer::Served(_) => Answer::of(ask(&socket)),
        refused => refused,
    })
}

fn made_outside(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    ground.join(APP)?;
    Ok(dial(&socket, ground.valkey()))
}
