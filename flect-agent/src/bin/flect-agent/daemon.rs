//! The daemon: interception, the operator's connection, workers, and what ties them together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use flect_agent::admin::{Admin, AdminError};
use flect_agent::audit::{self, Subject};
use flect_agent::cgroup::CgroupMount;
use flect_agent::config::Config;
use flect_agent::environment::{Directory, Environment, Whereabouts};
use flect_agent::integrity::Integrity;
use flect_agent::interception::{Announcer, Claimants, Interception, Settings, WatchEvent};
use flect_agent::reach::Backoff;
use flect_agent::worker::{self, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::accept::Acceptor;
use crate::control::Desk;
use crate::enter::RunGroups;
use crate::explicit::Listeners;
use crate::keeper::Keeper;
use crate::monitoring::Monitoring;
use crate::node::{Node, Running};
use crate::page::Page;
use crate::reload::Reader;
use crate::serving::Places;
use crate::supervisor::Supervisor;
use crate::vitals::Vitals;
use crate::{control, serving, supervisor};

/// The agent's cgroup when it is started in the root and the config names none.
const OWN_CGROUP: &str = "/flect-agent";

/// How long to wait, about, before Valkey is tried again; doubled up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How often the audit log is asked for what it has only counted.
const TELL_COUNTED_EVERY: Duration = Duration::from_secs(1);

/// How often empty cgroups of `flect run` are looked for; they cost some kilobytes each meanwhile.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Runs until a signal.
pub async fn run(path: PathBuf, config: Config) -> anyhow::Result<()> {
    end_on_panic();
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    // From the beginning, since it would end a process that does not listen to it.
    let hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    let supervisor = Arc::new(Supervisor::of_environment());
    let serving = serve(path, config, supervisor.clone(), hangup);
    let result = tokio::select! {
        result = serving => result,
        _ = terminate.recv() => stopped("SIGTERM"),
        _ = interrupt.recv() => stopped("SIGINT"),
    };
    supervisor.stopping(&match &result {
        Ok(()) => "stopped".to_owned(),
        Err(error) => format!("{error:#}"),
    });
    audit::flush();
    result
}

fn stopped(signal: &str) -> anyhow::Result<()> {
    tracing::info!(
        signal,
        "stopped; hooks, where there are any, stay, so intercepted connections are refused until an agent runs again or `flect-agent detach`"
    );
    Ok(())
}

async fn serve(
    path: PathBuf,
    config: Config,
    supervisor: Arc<Supervisor>,
    hangup: Signal,
) -> anyhow::Result<()> {
    let current = Arc::new(ArcSwap::from_pointee(config));
    // What is decided here holds until the agent's next start.
    let config = current.load_full();
    audit::start(&config.agent.audit)?;
    let listeners = Listeners::bind(&config.explicit)?;
    supervisor.status("putting the kernel hooks in place");
    // The hooks first: from here on nothing reaches Valkey unrewritten, whatever fails later.
    let mut hooks = match config.intercept.enabled {
        true => Some(Hooks::attach(&config, &current)?),
        false => None,
    };
    let node = Arc::new(Node::new(
        current,
        hooks.as_ref().map(|hooks| hooks.places.clone()),
        hooks
            .as_ref()
            .map(|hooks| hooks.interception.monitor().clone()),
        hooks
            .as_ref()
            .map(|hooks| hooks.interception.acceleration().clone()),
        Page::new()?,
    ));
    let groups = match &hooks {
        Some(hooks) => Some(Arc::new(RunGroups::new(
            hooks.mount.try_clone()?,
            hooks.places.clone(),
        ))),
        None => None,
    };
    let desk = Arc::new(Desk::new(node.clone(), groups.clone()));
    let _control = control::listen(&config.agent.socket, desk.clone())?;
    let vitals = Vitals::start(node.clone());
    Monitoring::new(node.clone(), desk.clone(), vitals.clone()).serve(&config.agent.metrics)?;
    if let Some(address) = config.agent.status_page.0 {
        node.page.serve(address, node.clone());
    }

    let mut admin = connect(&config, &supervisor).await;
    let places = admin.places().await?;
    let hidden = places.iter().map(ToString::to_string);
    // Over a unix socket its addresses are still the server's own. Without a resolver there is one name less.
    let resolved = config.valkey.address.resolve().unwrap_or_default();
    let hidden = hidden.chain(resolved.iter().map(ToString::to_string));
    let hidden = hidden.chain([config.valkey.address.to_string()]);
    let integrity = Arc::new(Integrity::new(config.agent.integrity, hidden));
    let environment = Arc::new(Environment {
        whereabouts: Whereabouts::new(places),
        integrity,
        facts: admin.facts().clone(),
        housekeeper: admin.ensure_housekeeper().await?,
        librarian: admin.ensure_librarian().await?,
        directory: Directory::default(),
    });
    let (requests, wanted) = mpsc::unbounded_channel();
    let workers = Arc::new(spawn_workers(&config, &environment, &requests)?);
    let changed = Arc::new(Notify::new());
    let keeper = Keeper::start(
        node.clone(),
        admin,
        workers.clone(),
        environment.clone(),
        changed.clone(),
    );
    let keeper = keeper.await?;
    tokio::spawn(tell_counted());
    if let Some(groups) = groups {
        tokio::spawn(sweep(groups));
    }
    let explicit = listeners.addresses();
    let certificate = listeners.certificate();
    listeners.serve(node.clone(), workers.clone())?;
    let announcer = match hooks.take() {
        Some(hooks) => hooks.accept(&node, &workers)?,
        None => None,
    };
    let running = Running {
        announcer,
        workers,
        environment,
        explicit,
    };
    tracing::info!(
        valkey = %config.valkey.address,
        environment = config.valkey.environment,
        stores = node.serving.load().stores().len(),
        workers = running.workers.len(),
        explicit = ?running.explicit,
        "ready"
    );
    node.ready(running);
    supervisor.ready(&supervisor::summary(&node));
    tokio::spawn(supervisor.clone().watch(node.clone(), vitals));
    let (orders, ordered) = mpsc::channel(1);
    let reader = Reader {
        path,
        node,
        desk,
        supervisor,
        orders,
        certificate,
    };
    tokio::spawn(reader.run(hangup));
    keeper.run(wanted, changed, ordered).await
}

/// Events that were counted and not told are told once nothing more comes.
async fn tell_counted() {
    let mut tick = tokio::time::interval(TELL_COUNTED_EVERY);
    loop {
        tick.tick().await;
        audit::tell_counted();
    }
}

/// The kernel's side, where connections are intercepted.
struct Hooks {
    interception: Interception,
    mount: CgroupMount,
    places: Places,
}

impl Hooks {
    fn attach(config: &Config, current: &Arc<ArcSwap<Config>>) -> anyhow::Result<Self> {
        let mount = CgroupMount::find()?;
        let own = own_cgroup(&mount, config)?;
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
            listen_port: config.intercept.listen_port,
            acceleration: config.intercept.acceleration,
            pin: config.intercept.pin.clone(),
        };
        let interception = Interception::attach(&mount, &settings)?;
        let acceleration = interception.acceleration();
        tracing::info!(
            managed = settings.managed_root,
            networks = ?settings.networks,
            ports = ?settings.ports,
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
    fn accept(
        mut self,
        node: &Arc<Node>,
        workers: &Arc<Vec<Handle>>,
    ) -> anyhow::Result<Option<Announcer>> {
        let (events, mut namespaces) = mpsc::unbounded_channel();
        let listeners = self.interception.take_listeners();
        let (judge, places) = (node.clone(), self.places.clone());
        let announcer = self.interception.watch(move |event| match event {
            // Here and now: a queue of them would be as long as apps like.
            WatchEvent::Refused {
                cgroup,
                reason,
                detail,
            } => {
                let cgroup = cgroup.as_deref();
                let serving = judge.serving.load();
                let app = cgroup.and_then(|path| serving.claimant(&places, path));
                let subject = Subject {
                    app: app.map(|workload| workload.name.as_str()),
                    store: None,
                    cgroup,
                };
                audit::note(reason, subject, || detail.to_owned());
            }
            // Nobody listens any more only while the process ends.
            event => drop(events.send(event)),
        })?;
        let acceptor = Arc::new(Acceptor::new(
            self.interception,
            self.mount,
            self.places,
            node.clone(),
            workers.clone(),
        ));
        acceptor.accept_on(0, listeners)?;
        tokio::spawn(async move {
            while let Some(event) = namespaces.recv().await {
                match event {
                    WatchEvent::Opened {
                        netns_cookie,
                        listeners,
                    } => {
                        if let Err(error) = acceptor.accept_on(netns_cookie, listeners) {
                            tracing::error!(%error, "a network namespace cannot be served");
                        }
                    }
                    WatchEvent::Closed { netns_cookie } => acceptor.leave(netns_cookie),
                    // Noted where it was told.
                    WatchEvent::Refused { .. } => {}
                }
            }
        });
        Ok(announcer)
    }
}

fn spawn_workers(
    config: &Config,
    environment: &Arc<Environment>,
    requests: &mpsc::UnboundedSender<worker::Request>,
) -> anyhow::Result<Vec<Handle>> {
    let count = match config.agent.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let spawn = |number| worker::spawn(number, environment.clone(), &[], requests.clone());
    let workers: Result<_, _> = (0..count).map(spawn).collect();
    workers.context("no worker thread")
}

/// Removes cgroups of `flect run` whose command has ended.
async fn sweep(groups: Arc<RunGroups>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tick.tick().await;
        let groups = groups.clone();
        // A panic in there ends the process: see `end_on_panic`.
        let _ = tokio::task::spawn_blocking(move || groups.sweep()).await;
    }
}

/// Connects to Valkey, as long as it takes: connections wait in the backlog meanwhile, and with
/// the hooks in place none of them can go astray.
async fn connect(config: &Config, supervisor: &Supervisor) -> Admin {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        match Admin::connect(&config.valkey).await {
            Ok(admin) => return admin,
            Err(error) => {
                let remedy = match &error {
                    AdminError::Reach(_) => "mend the file",
                    _ => {
                        "check valkey.address (or socket, nodes, sentinel), valkey.tls, valkey.user and valkey.password_file"
                    }
                };
                tracing::error!(%error, remedy, "Valkey cannot be used; trying again");
                supervisor.starting(&format!("Valkey cannot be used: {error}; trying again"));
            }
        }
        tokio::time::sleep(backoff.note(Instant::now(), false)).await;
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

/// A worker that panicked leaves its sessions hanging and its memory in doubt: end as a whole, so
/// that the supervisor starts a clean agent. The hooks refuse connections meanwhile.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Two descriptors a session at most; the default of 1,024 would end at 500 clients.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
