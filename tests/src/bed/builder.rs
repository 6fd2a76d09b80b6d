//! What a bed shall hold, and making it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::agent::wait_until;
use super::cgroups::Groups;
use super::cleanup::{self, Inner};
use super::name::Name;
use super::relay::Relay;
use super::valkey::{SOCKET, Valkey};
use super::{APP1, Acceleration, Bed, NEIGHBOUR, ports};
use crate::tools::{self, Programs};
use crate::wire::Wire;

/// What a bed shall hold; [`Builder::start`] makes it.
#[derive(Clone, Debug)]
pub struct Builder {
    programs: Option<Programs>,
    valkey: Option<PathBuf>,
    valkey_options: Vec<String>,
    stores: usize,
    apps: Vec<String>,
    acceleration: Acceleration,
    workers: usize,
    operator_port: Option<u16>,
    over_socket: bool,
    create_stores: bool,
    status_page: Option<u16>,
    intercept_keys: String,
    agent_keys: String,
    users: String,
    config_tail: String,
    direct: bool,
    agent_later: bool,
    weaknesses: Option<String>,
    slots: bool,
    slots_of_direct: bool,
}

/// With this variable every shared Valkey is a cluster of one node, whatever the trial says.
const ALL_SLOTS: &str = "FLECT_TEST_CLUSTER";

/// A node waits two seconds before it says that it is well.
const SLOTS_WITHIN: Duration = Duration::from_secs(20);

impl Builder {
    /// What [`Bed::builder`] says.
    pub(super) fn new() -> Self {
        Self {
            programs: None,
            valkey: None,
            valkey_options: Vec::new(),
            stores: 1,
            apps: [APP1, "app2", NEIGHBOUR].map(str::to_owned).to_vec(),
            acceleration: Acceleration::Auto,
            workers: 0,
            operator_port: None,
            over_socket: false,
            create_stores: true,
            status_page: None,
            intercept_keys: String::new(),
            agent_keys: String::new(),
            users: String::new(),
            config_tail: String::new(),
            direct: false,
            agent_later: false,
            weaknesses: None,
            slots: env::var_os(ALL_SLOTS).is_some(),
            slots_of_direct: false,
        }
    }

    /// The agent to test; the one beside the running executable otherwise.
    #[must_use]
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// The valkey-server to use; the installed one otherwise.
    #[must_use]
    pub fn valkey(mut self, path: Option<PathBuf>) -> Self {
        self.valkey = path;
        self
    }

    /// A further option of valkey-server, such as `--maxmemory 100mb`.
    #[must_use]
    pub fn valkey_option(mut self, name: &str, value: &str) -> Self {
        self.valkey_options.extend([name.into(), value.into()]);
        self
    }

    /// The number of stores of app1: `store1`, its default, to `storeN`.
    #[must_use]
    pub fn stores(mut self, count: usize) -> Self {
        self.stores = count.max(1);
        self
    }

    /// The apps. Each but app1 has one store, of its own name. app1 is always there.
    #[must_use]
    pub fn apps(mut self, names: &[&str]) -> Self {
        self.apps = names.iter().map(|&name| name.to_owned()).collect();
        if !names.contains(&APP1) {
            self.apps.insert(0, APP1.to_owned());
        }
        self
    }

    /// The agent reaches Valkey over its unix socket.
    #[must_use]
    pub fn over_socket(mut self) -> Self {
        self.over_socket = true;
        self
    }

    /// The shared Valkey is a cluster of one node that has all slots.
    #[must_use]
    pub fn slots(mut self) -> Self {
        self.slots = true;
        self
    }

    /// The same for a server that trials reach directly, which [`slots`](Self::slots) leaves as it is.
    #[must_use]
    pub fn slots_of_direct(mut self) -> Self {
        self.slots_of_direct = true;
        self
    }

    /// Whether it is.
    fn has_slots(&self) -> bool {
        // A private server has none: that is what a store is compared with.
        self.slots_of_direct || self.slots && !self.direct && !self.over_socket
    }

    /// The acceleration setting.
    #[must_use]
    pub fn acceleration(mut self, acceleration: Acceleration) -> Self {
        self.acceleration = acceleration;
        self
    }

    /// The number of the agent's workers; 0, the default, is one per core.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The port of the operator's way; a free one otherwise.
    #[must_use]
    pub fn operator_port(mut self, port: Option<u16>) -> Self {
        self.operator_port = port;
        self
    }

    /// Whether the agent makes the apps' stores; it does otherwise.
    #[must_use]
    pub fn create_stores(mut self, create: bool) -> Self {
        self.create_stores = create;
        self
    }

    /// The loopback port of the status page; there is none otherwise.
    #[must_use]
    pub fn status_page(mut self, port: Option<u16>) -> Self {
        self.status_page = port;
        self
    }

    /// Further lines of `[intercept]`, such as `closed_ports = [1]`.
    #[must_use]
    pub fn intercept_keys(mut self, toml: &str) -> Self {
        self.intercept_keys = toml.to_owned();
        self
    }

    /// Further lines of `[agent]`, such as `operators = ["1000"]`.
    #[must_use]
    pub fn agent_keys(mut self, toml: &str) -> Self {
        self.agent_keys = toml.to_owned();
        self
    }

    /// Who may enter app1 with `flect run`, beside operators: `users` of its `[[app]]`.
    #[must_use]
    pub fn users(mut self, users: &[&str]) -> Self {
        self.users = format!("users = {users:?}\n");
        self
    }

    /// Text to append to the configuration file, such as further `[[app]]`s.
    #[must_use]
    pub fn config_tail(mut self, toml: &str) -> Self {
        self.config_tail = toml.to_owned();
        self
    }

    /// Valkey alone: no agent, no cgroups, no root needed.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Leaves the agent for [`Bed::start_agent`], for tests of what came before it.
    #[must_use]
    pub fn agent_later(mut self) -> Self {
        self.agent_later = true;
        self
    }

    /// Starts the agent whose defences can be taken away, without the ones that are named, such as
    /// `acl,last-key` (`flect_agent::weakened`).
    #[must_use]
    pub fn weakened(mut self, names: &str) -> Self {
        self.weaknesses = Some(names.to_owned());
        self
    }

    /// Whether the agent will be without a defence.
    #[must_use]
    pub fn is_weakened(&self) -> bool {
        self.weaknesses.is_some()
    }

    /// Makes the bed and waits until everything in it is ready.
    ///
    /// # Errors
    /// When a part cannot be made; what was made is removed again.
    pub fn start(self) -> Result<Bed> {
        cleanup::sweep();
        let programs = match (&self.programs, self.direct) {
            (_, true) => None,
            (Some(given), false) => Some(given.clone()),
            (None, false) => Some(Programs::beside_current()?),
        };
        let programs = match (programs, &self.weaknesses) {
            (Some(programs), Some(names)) => Some(programs.weakened(names)?),
            (programs, _) => programs,
        };
        let name = Name::fresh();
        let groups = match self.direct {
            true => None,
            false => Some(Groups::new(&name)?),
        };
        let detach = programs.as_ref().map(|programs| programs.agent.clone());
        let inner = Inner::new(name, groups, detach, self.stores)?;
        // From here on `inner` removes what is made, on errors too.
        let guard = cleanup::Guard(Some(Arc::clone(&inner)));
        if let Some(groups) = inner.groups() {
            groups.make(&self.apps)?;
        }
        let server = match &self.valkey {
            Some(path) => path.clone(),
            None => tools::program("valkey-server")?,
        };
        let mut options = self.valkey_options.clone();
        if self.has_slots() {
            let bus = ports::reserve()?;
            options.extend(["--cluster-enabled", "yes", "--cluster-port"].map(str::to_owned));
            options.push(bus.number().to_string());
            inner.hold(bus)?;
        }
        let (valkey, port) = Valkey::spawn(&server, &inner, &options)?;
        inner.set_valkey(valkey)?;
        if self.has_slots() {
            take_all_slots((Ipv4Addr::LOCALHOST, port.number()).into())?;
        }
        let listen_port = ports::reserve()?;
        let relay = Relay::start(
            self.operator_port.unwrap_or(0),
            (Ipv4Addr::LOCALHOST, port.number()).into(),
        )?;
        let config = inner.folder().join("agent.toml");
        let socket = inner.folder().join("agent.sock");
        if !self.direct {
            let text = self.config_text(inner.name(), port.number(), listen_port.number(), &socket);
            fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        }
        let bed = Bed {
            inner: guard.release(),
            programs,
            port,
            listen_port,
            config,
            socket,
            relay,
            server,
            server_options: options,
            connectors: Mutex::default(),
        };
        if !self.direct && !self.agent_later {
            bed.start_agent()?;
        }
        Ok(bed)
    }

    fn config_text(&self, name: &Name, port: u16, listen_port: u16, socket: &Path) -> String {
        let root = name.cgroup();
        let pins = name.pins();
        let status_page = match self.status_page {
            Some(port) => format!("127.0.0.1:{port}"),
            None => "off".to_owned(),
        };
        let over = match self.over_socket {
            true => format!("socket = \"{}\"\n", socket.with_file_name(SOCKET).display()),
            false if self.has_slots() => format!("cluster = [\"127.0.0.1:{port}\"]\n"),
            false => String::new(),
        };
        let mut text = format!(
            "[valkey]\naddress = \"127.0.0.1:{port}\"\n{over}user = \"default\"\n\n\
             [intercept]\ncgroup = \"/{root}\"\naddresses = [\"127.0.0.1/32\", \"::1/128\"]\n\
             ports = [{port}]\nlisten_port = {listen_port}\nacceleration = \"{}\"\npin = \"{}\"\n{}\n\
             [agent]\ncgroup = \"/{root}/agent\"\nworkers = {}\nsocket = \"{}\"\n\
             create_stores = {}\nstatus_page = \"{status_page}\"\n{}\n",
            self.acceleration.word(),
            pins.display(),
            self.intercept_keys,
            self.workers,
            socket.display(),
            self.create_stores,
            self.agent_keys,
        );
        for app in &self.apps {
            let stores: Vec<String> = if app == APP1 {
                (1..=self.stores).map(|n| format!("store{n}")).collect()
            } else {
                vec![app.clone()]
            };
            let users = if app == APP1 { &self.users } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n[[app]]\nname = \"{app}\"\ncgroups = [\"/{root}/apps/{app}\"]\nstores = {stores:?}\n{users}"
            );
        }
        text.push_str(&self.config_tail);
        text
    }
}

/// Makes a node a whole cluster, and waits until it says so.
fn take_all_slots(node: SocketAddr) -> Result<()> {
    let mut wire = Wire::connect(node)?;
    let taken = wire.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
    ensure!(taken.text() == "OK", "ADDSLOTSRANGE: {taken}");
    wait_until(SLOTS_WITHIN, || {
        let told = wire.command(&["CLUSTER", "INFO"])?.text();
        Ok(told.contains("cluster_state:ok"))
    })
}
