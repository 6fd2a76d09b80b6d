//! The data path inside this process: a worker, and a thread that does for it what the daemon does.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Context;
use flect_agent::admin::Before;
use flect_agent::environment::{App, Directory, Environment};
use flect_agent::integrity::Integrity;
use flect_agent::store::Slug;
use flect_agent::worker::{self, Accepted, Message, Request};
use tokio::signal::unix::{SignalKind, signal};

use super::docs::Docs;
use crate::operator::{Operator, block_on};

/// A running worker that serves one store.
pub struct DataPath {
    worker: Arc<worker::Handle>,
    app: Arc<App>,
    /// The address of the shared Valkey, which an app would have asked for.
    asked: SocketAddr,
    /// Set by Ctrl-C, taken by whoever waits for a reply.
    interrupted: Arc<AtomicBool>,
    /// What the server says about its commands; empty where there is no prompt.
    pub docs: Arc<Docs>,
}

impl DataPath {
    /// Connects to the environment and starts a worker. With a prompt, Ctrl-C interrupts a command
    /// instead of the process.
    pub fn start(environment: Option<String>, name: Slug, prompt: bool) -> anyhow::Result<Self> {
        let (ready, started) = sync_channel(1);
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                let served = block_on(serve(environment.as_deref(), &name, prompt, &ready));
                if let Err(error) = served {
                    // Nobody waits for it only when the start was reported already.
                    let _ = ready.send(Err(error));
                }
            })?;
        started.recv().context("the control thread ended")?
    }

    /// A new connection, as an app would have it.
    pub fn connect(&self) -> anyhow::Result<UnixStream> {
        let (own, workers) = UnixStream::pair()?;
        workers.set_nonblocking(true)?;
        let stream = std::net::TcpStream::from(OwnedFd::from(workers));
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let accepted = Accepted::new(stream, self.app.clone(), peer, self.asked);
        self.worker.send(Message::Accept(Box::new(accepted)));
        Ok(own)
    }

    /// Whether Ctrl-C was pressed since the last look.
    pub fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::Relaxed)
    }
}

async fn serve(
    environment: Option<&str>,
    name: &Slug,
    prompt: bool,
    ready: &SyncSender<anyhow::Result<DataPath>>,
) -> anyhow::Result<()> {
    let mut operator = Operator::connect_to(environment).await?;
    let snapshot = operator.admin.registry().snapshot().await?;
    let (slug, record) = snapshot.get(name)?;
    let mut record = record.clone();
    // Who looks into a store that has too many clients must get in.
    record.limits.connections = None;
    record.limits.commands_per_second = None;
    let admin = &mut operator.admin;
    let store = Arc::new(admin.store(0, slug, &record).await?);
    let whereabouts = admin.whereabouts().await?;
    let asked = operator.valkey.address.resolve()?[0];
    let environment = Arc::new(Environment {
        whereabouts,
        // An operator wants to see what there is.
        replicas: Default::default(),
        facts: admin.facts().clone(),
        housekeeper: admin.ensure_housekeeper().await?,
        // Whoever has the operator's rights may see the server's own names.
        integrity: Arc::new(Integrity::new(false, [])),
        librarian: admin.ensure_librarian().await?,
        directory: Directory::default(),
    });
    let docs = if prompt {
        Docs::of_server(&mut admin.connection()).await
    } else {
        Docs::default()
    };
    let (requests, mut wanted) = tokio::sync::mpsc::unbounded_channel();
    let worker = worker::spawn(0, environment, std::slice::from_ref(&store), requests)?;
    let worker = Arc::new(worker);
    let interrupted = Arc::new(AtomicBool::new(false));
    let path = DataPath {
        worker: worker.clone(),
        app: Arc::new(App {
            name: "flect kv shell".to_owned(),
            stores: vec![store.clone()],
        }),
        asked,
        interrupted: interrupted.clone(),
        docs: Arc::new(docs),
    };
    // Before the prompt: rustyline puts back the handler that it finds.
    let mut interrupts = match prompt {
        true => Some(signal(SignalKind::interrupt())?),
        false => None,
    };
    let mut interrupt = async || match &mut interrupts {
        Some(interrupts) => interrupts.recv().await,
        None => std::future::pending().await,
    };
    // The receiver waits for exactly this.
    let _ = ready.send(Ok(path));
    loop {
        tokio::select! {
            request = wanted.recv() => match request {
                Some(Request::Grant { store, patterns, ticket, .. }) => {
                    let granted = admin.grant(&store, &patterns).await.is_ok();
                    worker.send(Message::Granted(ticket, granted));
                }
                Some(Request::Settings { store, changes, job, .. }) => {
                    let kept = admin.keep_settings(&store, &changes).await.is_ok();
                    worker.send(Message::Kept(job, kept));
                }
                Some(Request::UsersMissing) => {
                    // The next command tells what is wrong, if it fails again.
                    let _ = admin.ensure_housekeeper().await;
                    let _ = admin.ensure_librarian().await;
                    let _ = admin.ensure_users(&[&store], Before::Nothing).await;
                    worker.send(Message::UsersMade);
                }
                // The operator's connection follows when it is used.
                Some(Request::Doubt) => {}
                None => return Ok(()),
            },
            _ = interrupt() => interrupted.store(true, Ordering::Relaxed),
        }
    }
}
