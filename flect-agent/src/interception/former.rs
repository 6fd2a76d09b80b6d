//! What a predecessor has told the hooks, to be told them again where its successor fails.
//!
//! A successor that cannot take over has already put its own networks, ports and flags in the maps, which it
//! shares with the agent that serves on: connections of apps would go where neither means them to.

use std::io;
use std::path::{Path, PathBuf};

use flect_ebpf::{Config, NAMESPACES_MAX, NETWORKS_MAX, Namespace, PORTS_MAX};

use super::kernel::{self, Map, NetworkKey, Plain};
use super::pins;

/// The maps' contents as they were. Dropping it puts them back, unless it was forgotten before.
#[derive(Debug)]
pub struct Former {
    pin: PathBuf,
    config: Option<Config>,
    networks: Vec<(NetworkKey, u32)>,
    ports: Vec<(u16, u32)>,
    namespaces: Vec<(u64, Namespace)>,
    is_forgotten: bool,
}

impl Former {
    /// What the hooks pinned in this folder are told now.
    ///
    /// # Errors
    /// When there are none of this release, or the kernel refuses.
    pub fn remember(pin: &Path) -> io::Result<Self> {
        Ok(Self {
            pin: pin.to_owned(),
            config: open::<u32, Config>(pin, "CONFIG")?.get(&0)?,
            networks: contents(&open(pin, "NETWORKS")?, NETWORKS_MAX)?,
            ports: contents(&open(pin, "PORTS")?, PORTS_MAX)?,
            namespaces: contents(&open(pin, "NAMESPACES")?, NAMESPACES_MAX)?,
            is_forgotten: false,
        })
    }

    /// The successor serves: what it has told them holds.
    pub fn forget(mut self) {
        self.is_forgotten = true;
    }

    fn put_back(&self) -> io::Result<()> {
        put_back(&open(&self.pin, "NETWORKS")?, &self.networks, NETWORKS_MAX)?;
        put_back(&open(&self.pin, "PORTS")?, &self.ports, PORTS_MAX)?;
        let namespaces = open(&self.pin, "NAMESPACES")?;
        put_back(&namespaces, &self.namespaces, NAMESPACES_MAX)?;
        match &self.config {
            Some(config) => open(&self.pin, "CONFIG")?.set(&0_u32, config),
            None => Ok(()),
        }
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        if self.is_forgotten {
            return;
        }
        match self.put_back() {
            Ok(()) => {
                tracing::warn!("the hooks are told again what the running agent had told them")
            }
            Err(error) => tracing::error!(
                %error,
                "the hooks keep what this agent has told them, though another serves: restart that one"
            ),
        }
    }
}

fn open<K: Plain, V: Plain>(pin: &Path, name: &str) -> io::Result<Map<K, V>> {
    Map::new(kernel::pinned(&pins::map_of_schema(pin, name))?)
}

fn contents<K: Plain, V: Plain>(map: &Map<K, V>, max: usize) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    for key in map.keys(max)? {
        all.extend(map.get(&key)?.map(|value| (key, value)));
    }
    Ok(all)
}

/// What stays is there at all times.
fn put_back<K: Plain + PartialEq, V: Plain>(
    map: &Map<K, V>,
    before: &[(K, V)],
    max: usize,
) -> io::Result<()> {
    for (key, value) in before {
        map.set(key, value)?;
    }
    for key in map.keys(max)? {
        if !before.iter().any(|(kept, _)| *kept == key) {
            map.remove(&key)?;
        }
    }
    Ok(())
}
