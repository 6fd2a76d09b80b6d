//! That whatever the hooks refuse stands in the audit log, with the app and the reason.

use anyhow::{Context as _, Result, ensure};

use super::ground::{Answer, Ground, dial, tcp};
use super::scene::Scene;
use super::{APP, NEIGHBOUR};
use crate::resources::stage::{audited, told, wait_until};

/// A part of multipath TCP is a socket that the kernel makes by itself, so some kernels' hooks see no
/// protocol of its own but a socket that nobody made.
const MULTIPATH: &[&str] = &["multipath", "old-socket"];

/// The reason, what is done for it, and the app that is named: the one whose process connects.
///
/// `kernel-memory` cannot be had without starving the machine; a unit test of `watch.rs` holds its word.
const REFUSALS: [(&[&str], &str, &str); 8] = [
    (&["old-socket"], "an_accepted_socket_connects", APP),
    (&["other-cgroup"], "made_here_used_there", NEIGHBOUR),
    (&["device"], "part_device", APP),
    (MULTIPATH, "multipath", APP),
    (&["agents-port"], "the_agents_port", APP),
    (&["closed-port"], "a_closed_port", APP),
    (&["new-namespace"], "root_of_a_container", APP),
    (&["handshakes"], "part_hold_up", APP),
];

pub(super) fn every_refusal() -> Result<()> {
    let scene = Scene::new(&[])?;
    let lines = |reasons: &[&str]| -> Vec<_> {
        let of = |reason: &&str| audited(&scene.bed, reason);
        reasons.iter().flat_map(of).collect()
    };
    let all = || {
        for (reasons, attack, app) in REFUSALS {
            let before = lines(reasons).len();
            let mut intruder = scene.start(attack, true)?;
            let answer = intruder.answer()?;
            ensure!(
                !matches!(answer, Answer::Absent(_)),
                "{attack} cannot be tried here: {answer}"
            );
            wait_until(|| Ok(lines(reasons).len() > before))
                .with_context(|| format!("no line with the reason {reasons:?}"))?;
            for line in lines(reasons) {
                let names_cgroup = line["cgroup"]
                    .as_str()
                    .is_some_and(|cgroup| cgroup.ends_with(app));
                ensure!(
                    line["app"] == app && names_cgroup && line["store"].is_null(),
                    "{attack}: {line}"
                );
            }
        }
        Ok(())
    };
    told(&scene.bed, all())
}

/// Binds to a device that the agent is not behind.
pub(super) fn bound_to_a_device(ground: &Ground) -> Result<Answer> {
    let mut devices: Vec<_> = std::fs::read_dir("/sys/class/net")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "lo")
        .collect();
    devices.sort();
    let Some(device) = devices.first() else {
        return Ok(Answer::Absent("no device but the loopback".to_owned()));
    };
    let socket = tcp(ground.valkey())?;
    socket.bind_device(Some(device.as_bytes()))?;
    Ok(dial(&socket, ground.valkey()))
}
