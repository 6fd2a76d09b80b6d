//! The daemon: interception, the operator's connection, workers, and what ties them together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use flect_agent::admin::{Admin, AdminError};
use flect_agent::cgroup::CgroupMount;
use flect_agent::config::Config;
use flect_agent::environment::{App, Directory, Environment, Store};
use flect_agent::interception::{Interception, NamespaceEvent, Settings};
use flect_agent::worker::{self, Message, Request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::accept::{Acceptor, Workload};
use crate::control::{self, Status};

/// The agent's cgroup when it is started in the root and the config names none.
const OWN_CGROUP: &str = "/flect-agent";

/// How long to wait before Valkey is tried again; doubled up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How often the operator's connection is tried, for `flect status`.
const PING_EVERY: Duration = Duration::from_secs(2);

/// Runs until a signal.
pub async fn run(config: Config) -> anyhow::Result<()> {
    end_on_panic();
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let serving = serve(config);
    tokio::select! {
        result = serving => result,
        _ = terminate.recv() => stopped("SIGTERM"),
        _ = interrupt.recv() => stopped("SIGINT"),
    }
}

fn stopped(signal: &str) -> anyhow::Result<()> {
    tracing::info!(
        signal,
        "stopped; the hooks stay, so intercepted connections are refused until an agent runs again or `flect-agent detach`"
    );
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mount = CgroupMount::find()?;
    let own = own_cgroup(&mount, &config)?;
    let networks = config
        .intercept_networks()
        .with_context(|| format!("valkey.address {}", config.valkey.address))?;
    let settings = Settings {
        managed_root: config.intercept.cgroup.0.clone(),
        agent_cgroup: mount.id_of(&own)?,
        networks,
        ports: config.intercept_ports(),
        listen_port: config.intercept.listen_port,
        acceleration: config.intercept.acceleration,
        pin: config.intercept.pin.clone(),
    };
    // The hooks first: from here on nothing reaches Valkey unrewritten, whatever fails later.
    let mut interception = Interception::attach(&mount, &settings)?;
    let acceleration = interception.acceleration().clone();
    tracing::info!(
        managed = settings.managed_root,
        networks = ?settings.networks,
        ports = ?settings.ports,
        client_to_agent = acceleration.client_to_agent,
        agent_to_client = acceleration.agent_to_client,
        acceleration = acceleration.reason,
        "hooks attached"
    );
    let status = Arc::new(Status::new(&config, acceleration));
    let _control = control::listen(&config.agent.socket, status.clone())?;

    let mut admin = connect(&config).await;
    let housekeeper = admin.ensure_housekeeper().await?;
    let (apps, stores) = apps(&config, &mut admin).await?;
    let environment = Arc::new(Environment {
        addresses: config.valkey.address.resolve()?,
        facts: admin.facts().clone(),
        housekeeper,
        directory: Directory::default(),
    });
    let count = match config.agent.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let (requests, mut wanted) = mpsc::unbounded_channel();
    let mut workers = Vec::with_capacity(count);
    for number in 0..count {
        let worker = worker::spawn(number, environment.clone(), &stores, requests.clone());
        workers.push(worker.context("no worker thread")?);
    }
    let workers = Arc::new(workers);

    let (events, mut namespaces) = mpsc::unbounded_channel();
    let listeners = interception.take_listeners();
    interception.watch(move |event| {
        // Nobody listens any more only while the process ends.
        let _ = events.send(event);
    })?;
    let acceptor = Arc::new(Acceptor::new(interception, mount, apps, workers.clone()));
    acceptor.accept_on(0, listeners)?;
    status.ready(&stores, &workers, &environment);
    tracing::info!(
        valkey = %config.valkey.address,
        stores = stores.len(),
        workers = count,
        "ready"
    );
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            Some(event) = namespaces.recv() => match event {
                NamespaceEvent::Opened { netns_cookie, listeners } => {
                    acceptor.accept_on(netns_cookie, listeners)?;
                }
                NamespaceEvent::Closed { netns_cookie } => acceptor.leave(netns_cookie),
            },
            Some(request) = wanted.recv() => {
                serve_worker(request, &mut admin, &stores, &workers).await;
            }
            _ = ping.tick() => status.reachable(admin.ping().await.is_ok()),
        }
    }
}

/// What a worker cannot do itself.
async fn serve_worker(
    request: Request,
    admin: &mut Admin,
    stores: &[Arc<Store>],
    workers: &[worker::Handle],
) {
    match request {
        Request::Grant {
            store,
            patterns,
            worker,
            ticket,
        } => {
            let result = admin.grant(&store, &patterns).await;
            if let Err(error) = &result {
                tracing::warn!(store = %store.slug(), %error, "patterns not granted");
            }
            if let Some(worker) = workers.get(worker) {
                worker.send(Message::Granted(ticket, result.is_ok()));
            }
        }
        Request::UsersMissing => {
            let mut result = admin.ensure_housekeeper().await.map(|_| ());
            for store in stores {
                if result.is_ok() {
                    result = admin.ensure_users(store).await;
                }
            }
            match result {
                Ok(()) => tracing::info!("the agent's users are in place again"),
                Err(error) => tracing::warn!(%error, "the agent's users could not be made"),
            }
        }
    }
}

/// Connects to Valkey, as long as it takes: connections wait in the backlog meanwhile, and with
/// the hooks in place none of them can go astray.
async fn connect(config: &Config) -> Admin {
    let mut pause = RETRY_FIRST;
    loop {
        match Admin::connect(&config.valkey).await {
            Ok(admin) => return admin,
            Err(error) => {
                let remedy = match &error {
                    AdminError::PasswordFile { .. } => "mend the file",
                    _ => "check valkey.address, valkey.user and valkey.password_file",
                };
                tracing::error!(%error, remedy, "Valkey cannot be used; trying again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// The apps with their stores; a store that several apps bind is one store.
async fn apps(
    config: &Config,
    admin: &mut Admin,
) -> anyhow::Result<(Vec<Workload>, Vec<Arc<Store>>)> {
    let mut stores: Vec<Arc<Store>> = Vec::new();
    let mut workloads = Vec::new();
    for app in &config.apps {
        let mut bound = Vec::new();
        for slug in &app.stores {
            let store = match stores.iter().find(|store| store.slug() == *slug) {
                Some(store) => store.clone(),
                None => {
                    let store = {
                        let record = admin.registry().ensure(slug).await?;
                        Arc::new(admin.store(stores.len(), slug, &record).await?)
                    };
                    tracing::info!(store = %slug, prefix = %store.prefix, "store");
                    stores.push(store.clone());
                    store
                }
            };
            bound.push(store);
        }
        workloads.push(Workload {
            patterns: app.cgroups.clone(),
            app: Arc::new(App {
                name: app.name.clone(),
                stores: bound,
            }),
        });
    }
    Ok((workloads, stores))
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
