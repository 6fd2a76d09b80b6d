//! Attacks for which something happens to the agent: it is killed, stopped, bereft of its pins; and those
//! that shall keep it from its neighbours. Each has a bed of its own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flect_agent::weakened::Weakness;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use socket2::Socket;

use super::connecting::AROUND;
use super::ground::{Answer, Ground, PATIENCE, ask, dial, open, sock_addr, tcp};
use super::scene::Scene;
use super::{APP, Attack, By, Falls, NEIGHBOUR, system};
use crate::chaos::maps::Pinned;
use crate::tools::Programs;

/// Entries that one namespace may have in the map of handshakes, as the agent's code has it.
const SHARE: usize = 1024;
/// Half a minute, until the next sweep, on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(90);
/// More than a backlog takes (`net.core.somaxconn`, 4096 by default), twice.
const FLOOD: usize = 9000;
/// How long the agent lives, from its start, before it is killed: from before it has read its settings
/// until it serves.
const STAGES_MILLIS: [u64; 9] = [0, 10, 25, 50, 80, 120, 180, 300, 600];

pub(super) const ATTACKS: [Attack; 8] = [
    attack("killed_at_every_stage", killed, &[APP], AROUND),
    attack("stopped", stopped, &[APP], AROUND),
    attack(
        "pins_removed",
        pins_removed,
        &[APP],
        Falls::Under(&[Weakness::Pins]),
    ),
    attack(
        "a_connection_from_before",
        from_before,
        &[],
        Falls::Under(&[Weakness::OldConnections, Weakness::HookEgress]),
    ),
    attack(
        "in_the_agents_place",
        in_the_agents_place,
        &[],
        Falls::Under(&[Weakness::HookBind]),
    ),
    attack(
        "a_full_backlog",
        full_backlog,
        &[],
        Falls::Under(&[Weakness::AgentsPort]),
    ),
    attack(
        "handshakes_held_up",
        held_up,
        &[],
        Falls::Under(&[Weakness::PendingShare]),
    ),
    attack(
        "handshakes_held_up_twice",
        held_up_twice,
        &[],
        Falls::Under(&[Weakness::PendingShare]),
    ),
];

const fn attack(
    name: &'static str,
    body: super::Staged,
    may_be: &'static [&'static str],
    falls: Falls,
) -> Attack {
    Attack {
        name,
        by: By::Staged(body),
        may_be,
        falls,
    }
}

/// What the processes of these attacks do, by name.
pub(super) const PARTS: [(&str, super::Part); 12] = [
    ("part_crowd", super::crowding::crowd),
    ("part_fresh_neighbour", super::crowding::fresh_neighbour),
    ("part_hold_up_twice", hold_up_twice),
    ("part_listen_unbound", super::ports::listen_unbound),
    ("part_connect_unbound", super::ports::connect_unbound),
    ("part_device", |ground| {
        say(&super::audited::bound_to_a_device(ground)?)
    }),
    ("part_knock", knock),
    ("part_open", |ground| say(&open(ground.valkey()))),
    ("part_twice", ask_twice),
    ("part_impostor", impostor),
    ("part_flood", flood),
    ("part_hold_up", hold_up),
];

fn say(answer: &Answer) -> Result<()> {
    println!("{answer}");
    Ok(())
}

/// Until the trial closes this process's input.
fn wait_for_the_end() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn more_descriptors() -> Result<()> {
    let most = (FLOOD + 1000) as u64;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Nofile, limit).context("raising the number of descriptors")
}

/// Connects and asks, again and again, and tells the first thing that is neither a refusal nor its own.
fn knock(ground: &Ground) -> Result<()> {
    let ended = thread::spawn(wait_for_the_end);
    let (mut refused, mut served) = (0, 0);
    println!("{}", Answer::Refused("ready".to_owned()));
    while !ended.is_finished() {
        match open(ground.valkey()) {
            Answer::Refused(_) => refused += 1,
            Answer::Served(mark) if mark == APP => served += 1,
            other => return say(&other),
        }
    }
    ensure!(
        refused > 0 && served > 0,
        "{refused} refused, {served} served"
    );
    say(&Answer::Served(APP.to_owned()))
}

/// The agent is killed at every stage of its start, over the pins of its predecessor, while an app knocks
/// without pause: some of its connections are between accept and identity each time.
fn killed(scene: &Scene) -> Result<Answer> {
    let mut app = scene.start("part_knock", true)?;
    app.answer()?;
    scene.bed.kill_agent()?;
    for millis in STAGES_MILLIS {
        let mut child = scene
            .agent()?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(Duration::from_millis(millis));
        child.kill()?;
        child.wait()?;
    }
    scene.bed.start_agent()?;
    let deadline = Instant::now() + PATIENCE;
    while scene.intrude("part_open", true)? != Answer::Served(APP.to_owned())
        && Instant::now() < deadline
    {
        thread::sleep(Duration::from_millis(20));
    }
    app.finish()
}

/// Nothing is answered meanwhile, and everything afterwards.
fn stopped(scene: &Scene) -> Result<Answer> {
    scene.signal_agent(Signal::STOP)?;
    let mut app = scene.start("part_open", true)?;
    thread::sleep(Duration::from_millis(300));
    let is_answered = app.has_answered()?;
    scene.signal_agent(Signal::CONT)?;
    let answer = app.answer()?;
    Ok(match answer {
        Answer::Served(mark) if mark == APP && is_answered => {
            Answer::Crossed("answered by nobody".to_owned())
        }
        answer => answer,
    })
}

/// Root has removed them by mistake; the agent runs on, and holds what they held.
fn pins_removed(scene: &Scene) -> Result<Answer> {
    std::fs::remove_dir_all(scene.bed.pins()).context("removing the pins")?;
    // The kernel takes its time to let go of a hook, and a busy one longer.
    let deadline = Instant::now() + Duration::from_secs(4);
    let mut answer = scene.intrude("part_open", true)?;
    while answer == Answer::Served(APP.to_owned()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
        answer = scene.intrude("part_open", true)?;
    }
    Ok(answer)
}

fn ask_twice(ground: &Ground) -> Result<()> {
    let socket = tcp(ground.valkey())?;
    say(&dial(&socket, ground.valkey()))?;
    std::io::stdin().read_line(&mut String::new())?;
    say(&Answer::of(ask(&socket)))
}

fn from_before(scene: &Scene) -> Result<Answer> {
    // Made before there was an agent; marks take one, so here it is the shared one alone.
    scene.bed.kill_agent()?;
    let detached = Command::new(Programs::beside_current()?.agent)
        .args(["detach", "--config"])
        .arg(scene.bed.config_path())
        .stdout(Stdio::null())
        .status()?;
    ensure!(detached.success(), "detach ended with {detached}");
    let mut app = scene.start("part_twice", true)?;
    let before = app.answer()?;
    ensure!(
        before == Answer::Served(super::ground::SHARED.to_owned()),
        "without an agent an app is {before}"
    );
    scene.bed.start_agent()?;
    app.go_on()?;
    app.answer()
}

/// Takes the agent's port wherever that is possible, and reads what the neighbour asks there.
fn impostor(ground: &Ground) -> Result<()> {
    let mut taken = Vec::new();
    let mut refusal = String::new();
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, ground.agent_port)),
        (Ipv4Addr::UNSPECIFIED, ground.agent_port).into(),
        (Ipv6Addr::LOCALHOST, ground.agent_port).into(),
        (Ipv6Addr::UNSPECIFIED, ground.agent_port).into(),
    ] {
        for shared in [false, true] {
            let socket = tcp(address)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(shared)?;
            match socket
                .bind(&sock_addr(address))
                .and_then(|()| socket.listen(8))
            {
                Ok(()) => taken.push(socket),
                Err(error) => refusal = error.to_string(),
            }
        }
    }
    let Some(listener) = taken.first() else {
        return say(&Answer::Refused(refusal));
    };
    let neighbour = system::start_child(|| {
        ground.join(NEIGHBOUR)?;
        let _told = open(ground.valkey());
        Ok(())
    })?;
    let (socket, _) = listener.accept()?;
    let mut got = [0; 64];
    let read = (&mut &socket).read(&mut got)?;
    drop(socket);
    drop(taken);
    neighbour.end()?;
    let got = String::from_utf8_lossy(&got[..read]).trim().to_owned();
    say(&Answer::Crossed(format!("the neighbour asked {got:?}")))
}

/// While the agent is away, and beside it.
fn in_the_agents_place(scene: &Scene) -> Result<Answer> {
    scene.bed.kill_agent()?;
    scene.intrude("part_impostor", true)
}

/// As many connections to the agent's port as can be had, kept.
fn flood(ground: &Ground) -> Result<()> {
    more_descriptors()?;
    let mut all = Vec::with_capacity(FLOOD);
    for _ in 0..FLOOD {
        let socket = tcp(ground.agent())?;
        socket.set_nonblocking(true)?;
        // Refused, or on its way.
        let _begun = socket.connect(&ground.agent().into());
        all.push(socket);
    }
    say(&Answer::Refused("ready".to_owned()))?;
    wait_for_the_end()
}

/// The agent is held for a moment so that it cannot work the flood off: a neighbour's connection must
/// find room in the backlog all the same, and is served when the agent goes on.
fn full_backlog(scene: &Scene) -> Result<Answer> {
    let connector = scene.bed.connector(NEIGHBOUR)?;
    scene.signal_agent(Signal::STOP)?;
    let mut app = scene.start("part_flood", true)?;
    app.answer()?;
    let address = scene.bed.address();
    let connecting = thread::spawn(move || connector.connect(address));
    let deadline = Instant::now() + PATIENCE;
    while !connecting.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let found_room = connecting.is_finished();
    scene.signal_agent(Signal::CONT)?;
    drop(app);
    let stream = connecting
        .join()
        .map_err(|_| anyhow::anyhow!("connecting panicked"))??;
    if !found_room {
        return Ok(Answer::Crossed("no room for the neighbour".to_owned()));
    }
    let served = Answer::of(ask(&Socket::from(stream)));
    ensure!(
        served == Answer::Served(NEIGHBOUR.to_owned()),
        "the neighbour: {served}"
    );
    Ok(Answer::Refused("there was room".to_owned()))
}

fn hold_up(ground: &Ground) -> Result<()> {
    more_descriptors()?;
    let _held = super::namespaces::hold_up_handshakes(ground)?;
    say(&Answer::Refused("ready".to_owned()))?;
    std::io::stdout().flush()?;
    wait_for_the_end()
}

fn hold_up_twice(ground: &Ground) -> Result<()> {
    more_descriptors()?;
    let _held = super::namespaces::hold_up_twice(ground, || {
        say(&Answer::Refused("away".to_owned()))?;
        std::io::stdin().read_line(&mut String::new())?;
        Ok(())
    })?;
    say(&Answer::Refused("ready".to_owned()))?;
    wait_for_the_end()
}

/// The agent closes its listeners in a namespace that is deserted; what is held there counts all the same
/// when it opens them again.
fn held_up_twice(scene: &Scene) -> Result<Answer> {
    let before = held(scene, "NAMESPACES")?;
    let mut app = scene.start("part_hold_up_twice", true)?;
    app.answer()?;
    ensure!(held(scene, "PENDING")? > 0, "nothing is held up");
    let deadline = Instant::now() + CLOSED_WITHIN;
    while held(scene, "NAMESPACES")? > before {
        ensure!(Instant::now() < deadline, "the listeners are not closed");
        thread::sleep(Duration::from_millis(100));
    }
    app.go_on()?;
    app.answer()?;
    let count = held(scene, "PENDING")?;
    Ok(if count > SHARE {
        Answer::Crossed(format!("one namespace has {count} entries"))
    } else {
        Answer::Refused(format!("{count} entries"))
    })
}

/// How many entries a map of the hooks has.
fn held(scene: &Scene, map: &str) -> Result<usize> {
    Ok(Pinned::open(&scene.bed.pins(), map)?.keys()?.len())
}

fn held_up(scene: &Scene) -> Result<Answer> {
    let mut app = scene.start("part_hold_up", true)?;
    app.answer()?;
    let count = held(scene, "PENDING")?;
    ensure!(count > 0, "nothing is held up");
    // The neighbour is served meanwhile.
    let stream = scene
        .bed
        .connector(NEIGHBOUR)?
        .connect(scene.bed.address())?;
    let served = Answer::of(ask(&Socket::from(stream)));
    ensure!(
        served == Answer::Served(NEIGHBOUR.to_owned()),
        "the neighbour: {served}"
    );
    Ok(if count > SHARE {
        Answer::Crossed(format!("one namespace has {count} entries"))
    } else {
        Answer::Refused(format!("{count} entries"))
    })
}
