//! Putting the hooks in place, over nothing or over a predecessor's.
//!
//! Invariant: in this order nothing passes unrewritten. First the maps say what to do, then listeners
//! are open, then the links are made; and only then are old connections ended, so that their apps
//! come back through the hooks.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use flect_ebpf::{
    ACCELERATE_AGENT_TO_CLIENT, ACCELERATE_CLIENT_TO_AGENT, Address, Config, NETWORKS_MAX,
    PORT_CLOSED, PORT_SERVED, PORTS_MAX,
};
use ipnet::IpNet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::kernel::{self, AttachType, Map, NetworkKey, Plain};
use super::monitor::Monitor;
use super::namespaces::{Living, Namespaces, Shares, living_in};
use super::object::{HASH, HOOKS, Hook, LAYOUT, Object, Place, SK_MSG_PROGRAM};
use super::pins::{Pins, step};
use super::watch::{Watched, Watching};
use super::weaknesses::leaves_out;
use super::{Acceleration, AccelerationVerdict, Interception, InterceptionError, Settings};
use super::{destroy, selftest};
use crate::cgroup::{CgroupId, CgroupMount, is_within};
use crate::weakened::{Weakness, has};

/// Unread bytes at which a connection leaves the fast path for TCP, whose windows hold back the
/// sender: about as much as TCP itself lets wait in a socket nobody has tuned (`net.ipv4.tcp_rmem`).
pub(super) const SPILL_BYTES: u32 = 256 * 1024;

pub(super) fn attach(
    mount: CgroupMount,
    settings: &Settings,
    mut inherited: Vec<TcpListener>,
) -> Result<Interception, InterceptionError> {
    check(&mount, settings)?;
    let pins = Pins::open(&settings.pin)?;
    let is_takeover = pins.hold_links();
    let attached = put_in_place(&pins, mount, settings, &mut inherited);
    if attached.is_err() && !is_takeover {
        // Nothing was there before, so nothing shall be: half a set of hooks would only confuse.
        pins.remove_all()?;
    }
    attached
}

fn put_in_place(
    pins: &Pins,
    mount: CgroupMount,
    settings: &Settings,
    inherited: &mut Vec<TcpListener>,
) -> Result<Interception, InterceptionError> {
    let acceleration = verdict(&mount, settings);
    let mut object = Object::load_pinned(pins)?;
    configure(&object, settings, &acceleration)?;

    let managed_root = mount.directory(&settings.managed_root)?;
    let living = living_in(&managed_root);
    let owner = |cgroup: &Path| settings.claimants.of(&mount.below(cgroup)?);
    let (mut namespaces, mut listeners) = Namespaces::open(
        object.map("NAMESPACES")?,
        object.map("HANDSHAKES")?,
        settings.listen_port,
        Shares::new(settings.namespaces_max),
        inherited,
        &|inode| owner(&living.get(&inode)?.cgroup),
    )?;
    listeners.extend(
        namespaces
            .enter_all(&living, &owner)
            .into_iter()
            .flat_map(|(_, opened)| opened),
    );

    kernel::attach_to_map(
        object.program(SK_MSG_PROGRAM)?,
        object
            .map_fd("SOCKETS")
            .map_err(step("use the map SOCKETS"))?
            .as_fd(),
        AttachType::SkMsgVerdict,
    )
    .map_err(step("attach the hook 'sk_msg'"))?;
    let mut links = link_all(pins, &object, &mount, settings)?;
    if has(Weakness::Pins) {
        links.clear();
    }
    pins.retire_others()?;
    if !has(Weakness::OldConnections) {
        end_old_connections(&mount, settings, living);
    }

    let identities = object.map("IDENTITIES")?;
    tracing::info!(
        programs = HASH,
        schema = flect_ebpf::SCHEMA,
        managed_root = %settings.managed_root,
        acceleration = %acceleration.reason,
        "hooks are in place"
    );
    Ok(Interception {
        listeners,
        acceleration,
        identities,
        monitor: Arc::new(Monitor::new(links, &object)?),
        #[cfg(feature = "weakened")]
        guessed: super::weaknesses::LastIdentity::default(),
        own_namespace: namespaces.own_cookie(),
        watching: Mutex::new(Watching::Not(Box::new(Watched {
            claimants: settings.claimants.clone(),
            events: object.take_events()?,
            namespaces,
            mount,
            managed_root,
            looked: None,
        }))),
    })
}

fn check(mount: &CgroupMount, settings: &Settings) -> Result<(), InterceptionError> {
    let wrong = |text: String| Err(InterceptionError::Settings(text));
    let mut others = settings.ports.iter().chain(&settings.closed_ports);
    if settings.listen_port == 0 || others.any(|port| *port == settings.listen_port) {
        return wrong(format!(
            "listen_port {} must be a port of the agent's own, not one that is intercepted",
            settings.listen_port
        ));
    }
    if settings.networks.is_empty() || settings.networks.len() > NETWORKS_MAX {
        return wrong(format!("intercept 1 to {NETWORKS_MAX} addresses"));
    }
    let count = settings.ports.len() + settings.closed_ports.len();
    if settings.ports.is_empty() || count > PORTS_MAX {
        return wrong(format!("intercept 1 to {PORTS_MAX} ports"));
    }
    if mount.id_of(&settings.managed_root)? == settings.agent_cgroup {
        return wrong(format!(
            "the agent must have a cgroup of its own, since its cgroup is exempt; it runs in {}, the managed root: \
             set [agent] cgroup",
            settings.managed_root
        ));
    }
    let own = mount.current()?;
    if mount.id_of(&own)? != settings.agent_cgroup {
        return wrong(format!(
            "the agent runs in cgroup {own}, not in the one that would be exempt ({}): it must join it first",
            settings.agent_cgroup
        ));
    }
    Ok(())
}

fn verdict(mount: &CgroupMount, settings: &Settings) -> AccelerationVerdict {
    let forced = |on: bool, reason: &str| AccelerationVerdict {
        requested: settings.acceleration,
        client_to_agent: on,
        agent_to_client: on,
        reason: reason.to_owned(),
        checks: Vec::new(),
    };
    if let Err(error) = &*LAYOUT
        && settings.acceleration != Acceleration::Off
    {
        return forced(
            false,
            &format!("off: this kernel does not tell its layout ({error})"),
        );
    }
    match settings.acceleration {
        Acceleration::On => forced(true, "on: both directions, as configured"),
        Acceleration::Off => forced(false, "off: as configured"),
        // What stands in the way of the test stands in the way of the hooks, or is no reason to fail.
        Acceleration::Auto => {
            selftest::verdict(mount, settings.verdict.as_deref()).unwrap_or_else(|error| {
                forced(false, &format!("off: the self-test cannot run: {error}"))
            })
        }
    }
}

/// Tells the programs what to do, before any of them runs.
fn configure(
    object: &Object,
    settings: &Settings,
    acceleration: &AccelerationVerdict,
) -> Result<(), InterceptionError> {
    let networks: Map<NetworkKey, u32> = object.map("NETWORKS")?;
    let wanted: Vec<_> = settings
        .networks
        .iter()
        .map(|network| (network_key(network), 1))
        .collect();
    replace_set(&networks, &wanted, NETWORKS_MAX)
        .map_err(step("update the map of intercepted networks"))?;
    let ports: Map<u16, u32> = object.map("PORTS")?;
    let served = settings.ports.iter().map(|port| (*port, PORT_SERVED));
    let closed = settings.closed_ports.iter();
    let wanted: Vec<_> = served
        .chain(closed.map(|port| (*port, PORT_CLOSED)))
        .collect();
    replace_set(&ports, &wanted, PORTS_MAX).map_err(step("update the map of intercepted ports"))?;
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let config = Config {
        agent_cgroup: settings.agent_cgroup.0,
        listen_port: u32::from(settings.listen_port),
        flags: flag(acceleration.client_to_agent, ACCELERATE_CLIENT_TO_AGENT)
            | flag(acceleration.agent_to_client, ACCELERATE_AGENT_TO_CLIENT),
        spill_bytes: SPILL_BYTES,
        reserved: 0,
    };
    object
        .map::<u32, Config>("CONFIG")?
        .set(&0, &config)
        .map_err(step("write the map CONFIG"))
}

/// Makes a map hold just these entries; at no time does one that stays go missing.
fn replace_set<K: Plain + PartialEq>(
    map: &Map<K, u32>,
    wanted: &[(K, u32)],
    entries_max: usize,
) -> io::Result<()> {
    for key in map.keys(entries_max)? {
        if !wanted.iter().any(|(kept, _)| *kept == key) {
            map.remove(&key)?;
        }
    }
    wanted
        .iter()
        .try_for_each(|(key, value)| map.set(key, value))
}

pub(super) fn network_key(network: &IpNet) -> NetworkKey {
    let (octets, prefix_bits) = match network.trunc() {
        // v4-mapped addresses have 96 bits in front.
        IpNet::V4(v4) => (v4.addr().to_ipv6_mapped().octets(), v4.prefix_len() + 96),
        IpNet::V6(v6) => (v6.addr().octets(), v6.prefix_len()),
    };
    let mut address: Address = [0; 4];
    for (word, bytes) in address.iter_mut().zip(octets.chunks_exact(4)) {
        // Network order stays as it is in memory.
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    NetworkKey {
        prefix_bits: u32::from(prefix_bits),
        address,
    }
}

fn link_all(
    pins: &Pins,
    object: &Object,
    mount: &CgroupMount,
    settings: &Settings,
) -> Result<Vec<(&'static str, OwnedFd)>, InterceptionError> {
    let managed = cgroup_by_path(mount, &settings.managed_root)?;
    let agent_path = mount.current()?;
    let agent = cgroup_by_path(mount, &agent_path)?;
    let agent_is_managed = is_within(&agent_path, &settings.managed_root);
    let mut links = Vec::with_capacity(HOOKS.len());
    for hook in HOOKS.into_iter().filter(|hook| !leaves_out(*hook)) {
        match hook.place {
            Place::ManagedRoot => links.push((hook.link, link(pins, object, hook, &managed)?)),
            Place::AgentCgroup if !agent_is_managed => {
                links.push((hook.link, link(pins, object, hook, &agent)?));
            }
            // The link at the managed root sees the agent's sockets too: once is enough.
            Place::AgentCgroup => unlink(pins, hook)?,
        }
    }
    Ok(links)
}

fn cgroup_by_path(
    mount: &CgroupMount,
    below_mount: &str,
) -> Result<(File, CgroupId), InterceptionError> {
    let directory = mount.directory(below_mount)?;
    let file = File::open(&directory).map_err(step(format!("open {}", directory.display())))?;
    Ok((file, mount.id_of(below_mount)?))
}

/// Swaps the program through a pinned link, or makes the link where there is none for this cgroup.
fn link(
    pins: &Pins,
    object: &Object,
    hook: Hook,
    (cgroup, id): &(File, CgroupId),
) -> Result<OwnedFd, InterceptionError> {
    let attaching = || step(format!("attach the hook '{}'", hook.link));
    let program = object.program(hook.program)?;
    let path = pins.link(hook.link);
    match kernel::pinned(&path) {
        Ok(link) if kernel::link_cgroup(link.as_fd()).map_err(attaching())? == id.0 => {
            kernel::link_update(link.as_fd(), program).map_err(attaching())?;
            return Ok(link);
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(attaching()(error)),
    }
    // Of another cgroup, or none: the new one is there before the old one goes.
    let link =
        kernel::link_create(program, cgroup.as_fd(), hook.attach_type).map_err(attaching())?;
    let fresh = pins.link(&format!("{}_new", hook.link));
    unpin(&fresh).map_err(attaching())?;
    kernel::pin(link.as_fd(), &fresh).map_err(attaching())?;
    std::fs::rename(&fresh, &path).map_err(attaching())?;
    Ok(link)
}

fn unlink(pins: &Pins, hook: Hook) -> Result<(), InterceptionError> {
    unpin(&pins.link(hook.link)).map_err(step(format!("detach the hook '{}'", hook.link)))
}

fn unpin(path: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// In every namespace that managed processes live in. What cannot be ended, the egress guard stops.
fn end_old_connections(mount: &CgroupMount, settings: &Settings, living: HashMap<u64, Living>) {
    // The agent may stand in none of the namespaces, and the threads that enter them ask for paths.
    let is_old = |peer: IpAddr, port: u16, cgroup: CgroupId| {
        cgroup != settings.agent_cgroup
            && (settings.ports.contains(&port) || settings.closed_ports.contains(&port))
            && settings.networks.iter().any(|net| net.contains(&peer))
            && mount
                .path_of(cgroup)
                .ok()
                .flatten()
                .is_some_and(|path| is_within(&path, &settings.managed_root))
    };
    for namespace in living.into_values() {
        let ended = std::thread::scope(|scope| {
            scope
                .spawn(|| -> io::Result<usize> {
                    let Ok(file) = File::open(&namespace.way) else {
                        return Ok(0); // The process is gone.
                    };
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                    destroy::connections(is_old)
                })
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        });
        match ended {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "ended connections that were older than the hooks"),
            Err(error) => tracing::warn!(%error,
                "cannot end connections that are older than the hooks (the kernel module tcp_diag does it): they get \
                 nothing through, and hang until TCP gives up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_keys_in_v6_space() {
        let key = network_key(&"10.1.2.3/8".parse().unwrap());
        assert_eq!(key.prefix_bits, 104);
        assert_eq!(
            key.address,
            [0, 0, 0xffff_u32.to_be(), 0x0a00_0000_u32.to_be()]
        );
        let key = network_key(&"::1/128".parse().unwrap());
        assert_eq!(key.prefix_bits, 128);
        assert_eq!(key.address, flect_ebpf::LOOPBACK_V6);
    }
}
