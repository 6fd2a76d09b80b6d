//! The daemon: interception, the operator's connection, workers, and what ties them together.

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use flect_agent::admin::{Admin, AdminError};
use flect_agent::audit;
use flect_agent::config::Config;
use flect_agent::environment::{Directory, Environment};
use flect_agent::integrity::Integrity;
use flect_agent::interception::Former;
use flect_agent::reach::Backoff;
use flect_agent::worker::{self, Handle, Parting};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OnceCell, mpsc};

use crate::accept::Acceptor;
use crate::control::{Control, Desk};
use crate::enter::RunGroups;
use crate::explicit::Listeners;
use crate::handover::{Estate, Keep, Predecessor, Sessions};
use crate::hooks::Hooks;
use crate::keeper::Keeper;
use crate::leaving::Leaver;
use crate::monitoring::Monitoring;
use crate::node::{Node, Running};
use crate::page::Page;
use crate::reload::Reader;
use crate::supervisor::Supervisor;
use crate::vitals::Vitals;
use crate::{control, handover, supervisor};

/// How long to wait, about, before Valkey is tried again; doubled up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How often the supervisor hears that the start goes on: many stores take longer than it waits.
const STARTING_TOLD_EVERY: Duration = Duration::from_secs(20);

/// How often the audit log is asked for what it has only counted.
const TELL_COUNTED_EVERY: Duration = Duration::from_secs(1);

/// How often empty cgroups of `flect run` are looked for; they cost some kilobytes each meanwhile.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How an agent begins.
pub enum Begin {
    /// By itself, with what the supervisor has kept of the one before, and under which names.
    With(Estate, HashSet<String>),
    /// In the place of the one that runs.
    Succeeding,
}

impl Begin {
    /// With what the supervisor gives back. To be called once.
    pub fn inheriting(supervisor: &Supervisor) -> Self {
        let (estate, names) = handover::inherit(supervisor);
        Self::With(estate, names)
    }
}

/// Runs until a signal, or until a successor has taken over.
pub async fn run(
    path: PathBuf,
    config: Config,
    supervisor: Arc<Supervisor>,
    begin: Begin,
) -> anyhow::Result<()> {
    end_on_panic();
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    // From the beginning, since it would end a process that does not listen to it.
    let hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    let leaver = OnceCell::new();
    let serving = serve(path, config, supervisor.clone(), begin, hangup, &leaver);
    let result = tokio::select! {
        result = serving => result,
        _ = terminate.recv() => stopped("SIGTERM", &supervisor, leaver.get()).await,
        _ = interrupt.recv() => stopped("SIGINT", &supervisor, leaver.get()).await,
    };
    supervisor.stopping(&match &result {
        Ok(()) => "stopped".to_owned(),
        Err(error) => format!("{error:#}"),
    });
    audit::flush();
    result
}

async fn stopped(
    signal: &str,
    supervisor: &Supervisor,
    leaver: Option<&Arc<Leaver>>,
) -> anyhow::Result<()> {
    supervisor.stopping("sessions leave");
    if let Some(leaver) = leaver {
        leaver.stop().await;
    }
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
    begin: Begin,
    hangup: Signal,
    leaver: &OnceCell<Arc<Leaver>>,
) -> anyhow::Result<()> {
    let current = Arc::new(ArcSwap::from_pointee(config));
    // What is decided here holds until the agent's next start.
    let config = current.load_full();
    audit::start(&config.agent.audit)?;
    let (mut estate, kept, predecessor, admin) = match begin {
        Begin::With(estate, kept) => (estate, kept, None, None),
        Begin::Succeeding => {
            // What may take long comes first: the predecessor stands still, in part, from then on.
            tracing::info!("connecting to Valkey before the running agent is asked to hand over");
            let admin = connect(&config, &supervisor).await;
            let (predecessor, estate) = Predecessor::find(&config.agent.socket)?;
            (estate, HashSet::new(), Some(predecessor), Some(admin))
        }
    };
    let listeners = Listeners::bind(&config.explicit, std::mem::take(&mut estate.explicit))?;
    supervisor.status("putting the kernel hooks in place");
    // The hooks first: from here on nothing reaches Valkey unrewritten, whatever fails later.
    let inherited = std::mem::take(&mut estate.listeners);
    // Declared behind the predecessor, and so dropped before it hears that this agent fails.
    let former = match &predecessor {
        Some(_) if config.intercept.enabled => Former::remember(&config.intercept.pin)
            .inspect_err(|error| tracing::debug!(%error, "there were no hooks to take over"))
            .ok(),
        _ => None,
    };
    let mut hooks = match config.intercept.enabled {
        true => Some(Hooks::attach(&config, &current, inherited)?),
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
    let vitals = Vitals::start(node.clone());
    let office = Office {
        config: config.clone(),
        node: node.clone(),
        desk: desk.clone(),
        vitals: vitals.clone(),
    };
    // Asked of from the beginning, unless another agent still answers.
    let control = match &predecessor {
        None => Some(office.open()?),
        Some(_) => None,
    };

    let mut admin = match admin {
        Some(admin) => admin,
        None => {
            tracing::info!(valkey = config.valkey.reached_at(), "connecting to Valkey");
            connect(&config, &supervisor).await
        }
    };
    let places = admin.all_places().await?;
    let hidden = places.iter().map(ToString::to_string);
    // Over a unix socket its addresses are still the server's own. Without a resolver there is one name less.
    let resolved = config.valkey.address.resolve().unwrap_or_default();
    let hidden = hidden.chain(resolved.iter().map(ToString::to_string));
    let hidden = hidden.chain([config.valkey.address.to_string()]);
    let integrity = Arc::new(Integrity::new(config.agent.integrity, hidden));
    let environment = Arc::new(Environment {
        whereabouts: admin.whereabouts().await?,
        replicas: Default::default(),
        integrity,
        facts: admin.facts().clone(),
        housekeeper: admin.ensure_housekeeper().await?,
        librarian: admin.ensure_librarian().await?,
        directory: Directory::default(),
    });
    let (requests, wanted) = mpsc::unbounded_channel();
    let workers = Arc::new(spawn_workers(&config, &environment, &requests)?);
    let changed = node.news.wanted();
    let keeper = Keeper::start(
        node.clone(),
        admin,
        workers.clone(),
        environment.clone(),
        changed.clone(),
    );
    let keeper = while_starting(&supervisor, keeper).await?;
    // All that can fail has not: from here on the service is this agent's.
    let sessions = match predecessor {
        Some(predecessor) => Some(predecessor.succeed(&mut estate).await?),
        None => None,
    };
    if let Some(former) = former {
        former.forget();
    }
    let control = match control {
        Some(control) => control,
        None => office.open()?,
    };
    tokio::spawn(tell_counted());
    if let Some(groups) = groups {
        tokio::spawn(sweep(groups));
    }
    let explicit = listeners.addresses();
    let certificate = listeners.certificate();
    let keep = Arc::new(Keep::new(supervisor.clone()));
    let copies = listeners.copies()?;
    copies.iter().for_each(|listener| keep.explicit(listener));
    listeners.serve(node.clone(), workers.clone())?;
    skip_ids(&node, &estate.ids);
    let acceptor = match hooks.take() {
        Some(hooks) => Some(hooks.accept(&node, &workers, &keep)?),
        None => None,
    };
    let announcer = acceptor.as_ref().map(Arc::downgrade);
    keep.forget(&kept);
    if let Some(acceptor) = &acceptor {
        tokio::spawn(go_on(acceptor.clone(), estate.sessions, sessions));
    }
    let (asks, asked) = mpsc::unbounded_channel();
    let offer = handover::offer(&config.agent.socket, desk.clone(), keep.is_there(), asks);
    // A path that is too long, say: then this agent is restarted and not upgraded.
    let offer = offer
        .inspect_err(|error| tracing::warn!("nobody can take over from this agent: {error:#}"))
        .ok();
    let leaves = Arc::new(Leaver {
        node: node.clone(),
        workers: workers.clone(),
        acceptor,
        explicit: copies,
        places: Mutex::new(Some((control, offer))),
        keep,
    });
    // It is empty: this runs once.
    let _ = leaver.set(leaves.clone());
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
    tokio::select! {
        result = keeper.run(wanted, changed, ordered) => result,
        () = leaves.answer(asked) => {
            tracing::info!("the successor serves; this agent ends");
            Ok(())
        }
    }
}

/// Where operators ask: places that one process can have at a time.
struct Office {
    config: Arc<Config>,
    node: Arc<Node>,
    desk: Arc<Desk>,
    vitals: Arc<Vitals>,
}

impl Office {
    fn open(&self) -> anyhow::Result<Control> {
        let agent = &self.config.agent;
        let control = control::listen(&agent.socket, self.desk.clone())?;
        let (node, desk) = (self.node.clone(), self.desk.clone());
        Monitoring::new(node.clone(), desk, self.vitals.clone()).serve(&agent.metrics)?;
        if let Some(address) = agent.status_page.0 {
            node.page.serve(address, node.clone(), node.closing());
        }
        Ok(control)
    }
}

/// Ids that a predecessor has given are nobody else's.
fn skip_ids(node: &Node, ids: &[(String, u64)]) {
    let serving = node.serving.load();
    for (prefix, id) in ids {
        let stores = serving.stores().iter();
        stores
            .filter(|store| store.prefix.as_str() == prefix)
            .for_each(|store| store.skip_ids(*id));
    }
}

/// Goes on with sessions that another agent has begun: those that are there, and those that come.
async fn go_on(acceptor: Arc<Acceptor>, kept: Vec<Parting>, coming: Option<Sessions>) {
    for parting in kept {
        acceptor.resume(parting);
    }
    if let Some(mut coming) = coming {
        while let Some(parting) = coming.recv().await {
            acceptor.resume(parting);
        }
    }
}

/// Events that were counted and not told are told once nothing more comes.
async fn tell_counted() {
    let mut tick = tokio::time::interval(TELL_COUNTED_EVERY);
    loop {
        tick.tick().await;
        audit::tell_counted();
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

/// Waits for what takes its time with many stores, and tells the supervisor that the start goes on.
async fn while_starting<T>(supervisor: &Supervisor, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut told = tokio::time::interval(STARTING_TOLD_EVERY);
    told.tick().await;
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = told.tick() => supervisor.starting("making the stores' users"),
        }
    }
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
