//! Attacks on the agent from below: an app's process that is root in its own container, knows all about
//! flect, and wants to reach the shared Valkey around the agent, be taken for another app, or keep the
//! neighbours from being served. One trial per attack; what it must not get, it is caught reading.
//!
//! Invariant: each attack is proven able to succeed. A trial per set of weaknesses starts an agent that
//! lacks just these defences ([`flect_agent::weakened`]), makes the attacks that count on it, and fails
//! for each that does not cross. What no weakness lets cross says why.
//!
//! Attacks that other modules hold:
//!
//! | attack | trial |
//! | --- | --- |
//! | a tuple used by two apps in turn, 10,000 reconnects | `kernel::one_tuple_for_two_apps`, `kernel::ten_thousand_reconnects` |
//! | a socket older than the hooks | `kernel::a_socket_older_than_the_hooks` |
//! | the agent's port on further addresses, beside the agent | `kernel::the_agents_port_is_taken` |
//! | an unknown namespace is refused until it is known | `kernel::an_unknown_namespace_works_on_retry` |
//! | pins of another schema, an agent that takes over | `kernel::another_schema_is_not_touched`, `kernel::an_agent_takes_over` |
//! | no agent at all | `kernel::refused_while_no_agent_runs`, `smoke::a_dead_agent_fails_closed` |
//! | a cgroup that no app claims | `smoke::an_unclaimed_cgroup_is_refused` |
//! | the control socket from inside an app, `SO_PEERCRED` | `control::requests_are_judged_by_who_asks`, `control::hostile_clients_block_nobody` |
//! | entering another app | `control::` (`enter`) |
//! | the status page from inside an app | `views::` (`page`): it asks for a token |
//!
//! Known limits, some of them trials that fail once they hold no more ([`Falls::Limit`]): packet sockets
//! and what root of a network namespace does to packets behind the hooks (tc, tunnels) where Valkey can
//! be reached from that namespace; sockets from outside the managed root; several apps in one network
//! namespace, of which one has CAP_NET_RAW there; an app in the node's own network namespace that takes
//! the port of a Valkey that is down.

mod audited;
mod connecting;
mod crowding;
mod denials;
mod ground;
mod namespaces;
mod owners;
mod packets;
mod ports;
mod scene;
mod system;
mod uring;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use flect_agent::weakened::Weakness;
use libtest_mimic::{Failed, Trial};

use crate::bed::APP1;
use crate::child;
use ground::{Answer, Ground};
use scene::Scene;

/// The role of an intruder's process.
const INTRUDER: &str = "intruder";
/// The intruder's own app.
const APP: &str = APP1;
/// The app that it wants something from.
const NEIGHBOUR: &str = crate::bed::NEIGHBOUR;

/// For [`child::dispatch`].
pub const ROLES: [(&str, child::Role); 2] = [(INTRUDER, play), (owners::HEIR, owners::heir)];

/// An attack in a process.
type Body = fn(&Ground) -> Result<Answer>;
/// An attack with more than one process, or on the agent itself.
type Staged = fn(&Scene) -> Result<Answer>;
/// What one process of such an attack does.
type Part = fn(&Ground) -> Result<()>;

/// Who makes an attack.
#[derive(Clone, Copy)]
enum By {
    /// A process of the app.
    App(Body),
    /// A process that no hook guards.
    Outsider(Body),
    /// The trial, with a bed of its own.
    Staged(Staged),
}

/// How it is proven that the attack could succeed.
#[derive(Clone, Copy)]
enum Falls {
    /// Without these defences it crosses.
    Under(&'static [Weakness]),
    /// Nothing of ours is in its way, for this reason.
    Never(&'static str),
    /// It does cross, for this reason: the trial fails when it does not.
    Limit(&'static str),
}

/// One attack.
#[derive(Clone, Copy)]
struct Attack {
    name: &'static str,
    by: By,
    /// Whose store may answer; a refusal is always right.
    may_be: &'static [&'static str],
    falls: Falls,
}

const GROUPS: [&[Attack]; 7] = [
    &connecting::ATTACKS,
    &owners::ATTACKS,
    &packets::ATTACKS,
    &namespaces::ATTACKS,
    &denials::ATTACKS,
    &ports::ATTACKS,
    &crowding::ATTACKS,
];

fn attacks() -> impl Iterator<Item = Attack> {
    GROUPS.into_iter().flatten().copied()
}

impl Attack {
    /// Whether the intruder got something that it must not have.
    fn crossed(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Crossed(_) => true,
            Answer::Served(mark) => !self.may_be.contains(&mark.as_str()),
            Answer::Refused(_) | Answer::Absent(_) => false,
        }
    }

    fn judge(&self, answer: &Answer) -> Result<()> {
        let crossed = self.crossed(answer);
        match self.falls {
            Falls::Limit(reason) => ensure!(crossed, "{answer}: a limit is gone: {reason}"),
            Falls::Never(reason) => ensure!(!crossed, "{answer}, though {reason}"),
            Falls::Under(_) => ensure!(!crossed, "{answer}"),
        }
        Ok(())
    }
}

/// The bed that most attacks share; it ends with the last trial that might need it.
#[derive(Default)]
struct Shared(Mutex<Option<Arc<Scene>>>);

impl Shared {
    fn scene(&self) -> Result<Arc<Scene>> {
        let mut scene = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scene) = &*scene {
            return Ok(scene.clone());
        }
        Ok(scene.insert(Arc::new(Scene::new(&[])?)).clone())
    }
}

/// The attacks, which every kernel must withstand.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let shared = Arc::new(Shared::default());
    attacks()
        .map(|attack| {
            let shared = shared.clone();
            Trial::test(format!("intruders::{}", attack.name), move || {
                let made = || match attack.by {
                    By::Staged(body) => body(&Scene::new(&[])?),
                    _ => shared.scene()?.attack(&attack),
                };
                made()
                    .and_then(|answer| attack.judge(&answer))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// That each attack crosses once its defences are gone, which needs the weakened agent; and that refusals
/// are written down.
#[must_use]
pub fn of_the_host() -> Vec<Trial> {
    let mut trials = weakened();
    trials.push(Trial::test("intruders::audited", || {
        audited::every_refusal().map_err(|error| Failed::from(format!("{error:#}")))
    }));
    trials
}

fn weakened() -> Vec<Trial> {
    let mut sets: Vec<&'static [Weakness]> = Vec::new();
    for attack in attacks() {
        if let Falls::Under(weaknesses) = attack.falls
            && !sets.contains(&weaknesses)
        {
            sets.push(weaknesses);
        }
    }
    sets.into_iter()
        .map(|weaknesses| {
            let names: Vec<_> = weaknesses.iter().map(|weakness| weakness.name()).collect();
            let name = format!("intruders::weakened::{}", names.join("+"));
            Trial::test(name, move || {
                all_cross(weaknesses).map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

fn all_cross(weaknesses: &'static [Weakness]) -> Result<()> {
    let mut shared = None;
    let mut held = Vec::new();
    for attack in attacks() {
        if !matches!(attack.falls, Falls::Under(under) if under == weaknesses) {
            continue;
        }
        let answer = match (attack.by, &shared) {
            (By::Staged(body), _) => body(&Scene::new(weaknesses)?),
            (_, Some(scene)) => Scene::attack(scene, &attack),
            (_, None) => shared.insert(Scene::new(weaknesses)?).attack(&attack),
        };
        let answer = answer.with_context(|| attack.name)?;
        // What the kernel has not got cannot be attacked either; that it has not is asserted there.
        if !attack.crossed(&answer) && !matches!(answer, Answer::Absent(_)) {
            held.push(format!("{}: {answer}", attack.name));
        }
    }
    ensure!(
        held.is_empty(),
        "these held without what holds them: {}",
        held.join("; ")
    );
    Ok(())
}

/// The intruder's own process: the attack's name and the ground.
fn play(args: &[String]) -> Result<()> {
    let (name, rest) = args.split_first().context("which attack?")?;
    let ground = Ground::parse(rest)?;
    if let Some((_, part)) = denials::PARTS.iter().find(|(own, _)| own == name) {
        return part(&ground);
    }
    let attack = attacks().find(|attack| attack.name == name);
    match attack.map(|attack| attack.by) {
        Some(By::App(body) | By::Outsider(body)) => {
            println!("{}", body(&ground)?);
            Ok(())
        }
        _ => bail!("no such attack: {name}"),
    }
}
