//! The kernel's side of the daemon: hooks as the configuration says, and who accepts what they redirect.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use flect_agent::cgroup::CgroupMount;
use flect_agent::config::Config;
use flect_agent::interception::{Claimants, Interception, Settings};
use flect_agent::worker::Handle;

use crate::accept::Acceptor;
use crate::handover::Keep;
use crate::node::Node;
use crate::serving::{self, Places};

/// The agent's cgroup when it is started in the root and the config names none.
const OWN_CGROUP: &str = "/flect-agent";

/// The kernel's side, where connections are intercepted.
pub struct Hooks {
    /// What holds them.
    pub interception: Interception,
    /// The cgroups of this machine.
    pub mount: CgroupMount,
    /// Which of them mean something.
    pub places: Places,
}

impl Hooks {
    /// Puts them in place, with the listeners of a predecessor.
    pub fn attach(
        config: &Config,
        current: &Arc<ArcSwap<Config>>,
        inherited: Vec<TcpListener>,
    ) -> anyhow::Result<Self> {
        let mount = CgroupMount::find()?;
        let own = own_cgroup(&mount, config)?;
        // The resolver may take its time with a name.
        tracing::info!(valkey = %config.valkey.address, cgroup = own, "putting the kernel hooks in place");
        let networks = config
            .intercept_networks()
            .with_context(|| format!("valkey.address {}", config.valkey.address))?;
        let places = Places::new(&config.intercept.cgroup.0, &own);
        let claims = (current.clone(), places.clone());
        let settings = Settings {
            namespaces_max: config.limits.namespaces,
            claimants: Claimants::new(move |cgroup| {
                let (current, places) = &claims;
                serving::claimant(&current.load().apps, places, cgroup).map(str::to_owned)
            }),
            managed_root: config.intercept.cgroup.0.clone(),
            agent_cgroup: mount.id_of(&own)?,
            networks,
            ports: config.intercept_ports(),
            closed_ports: config.closed_ports(),
            listen_port: config.intercept.listen_port,
            acceleration: config.intercept.acceleration,
            verdict: Some(config.agent.socket.with_extension("verdict")),
            pin: config.intercept.pin.clone(),
        };
        let interception = Interception::attach_inheriting(&mount, &settings, inherited)?;
        let acceleration = interception.acceleration();
        tracing::info!(
            managed = settings.managed_root,
            networks = ?settings.networks,
            ports = ?settings.ports,
            closed = ?settings.closed_ports,
            client_to_agent = acceleration.client_to_agent,
            agent_to_client = acceleration.agent_to_client,
            acceleration = acceleration.reason,
            "hooks attached"
        );
        Ok(Self {
            places,
            interception,
            mount,
        })
    }

    /// Accepts what is intercepted, in every network namespace, from now on.
    pub fn accept(
        mut self,
        node: &Arc<Node>,
        workers: &Arc<Vec<Handle>>,
        keep: &Arc<Keep>,
    ) -> anyhow::Result<Arc<Acceptor>> {
        let listeners = self.interception.take_listeners();
        let acceptor = Acceptor::new(
            self.interception,
            self.mount,
            self.places,
            node.clone(),
            workers.clone(),
            keep.clone(),
        );
        acceptor.watch()?;
        acceptor.accept_on(0, listeners)?;
        Ok(acceptor)
    }
}

/// The cgroup that tells the agent's own connections from the apps'.
fn own_cgroup(mount: &CgroupMount, config: &Config) -> anyhow::Result<String> {
    let wanted = config.agent.cgroup.as_ref().map(|path| path.0.clone());
    let current = mount.current()?;
    let own = match wanted {
        Some(wanted) => wanted,
        None if current == "/" => OWN_CGROUP.to_owned(),
        None => return Ok(current),
    };
    mount.create(&own)?;
    mount.join(&own)?;
    Ok(own)
}
