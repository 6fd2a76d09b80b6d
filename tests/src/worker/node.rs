//! A node without its kernel side: workers, a private Valkey, and the operator's connection.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use flect_agent::admin::Admin;
use flect_agent::commands::Learnt;
use flect_agent::config;
use flect_agent::environment::{App, Directory, Environment, Store, UpstreamAddress, Whereabouts};
use flect_agent::integrity::Integrity;
use flect_agent::registry::{Limits, Record, TokenDigest};
use flect_agent::store::Slug;
use flect_agent::worker::{self, Accepted, Handle, Message, Request};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::bed::{Bed, Builder};
use crate::wire::Wire;

/// How long a worker may take for what it does at once: long for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Workers of one node: two, so that what they share is shared.
const WORKERS: usize = 2;

/// Workers and their Valkey.
pub struct Node {
    pub bed: Bed,
    pub workers: Vec<Handle>,
    runtime: Runtime,
    admin: Admin,
    listener: TcpListener,
    stores: usize,
    /// Held, since a worker may ask.
    _requests: UnboundedReceiver<Request>,
}

impl Node {
    pub fn start() -> Result<Self> {
        Self::start_with(Bed::builder())
    }

    /// With a Valkey of this kind.
    pub fn start_with(bed: Builder) -> Result<Self> {
        let bed = bed.direct(true).start()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let address = bed.address().to_string().try_into();
        let valkey = config::Valkey::at(address.map_err(anyhow::Error::msg)?);
        let mut admin = runtime.block_on(Admin::connect(&valkey))?;
        let housekeeper = runtime.block_on(admin.ensure_housekeeper())?;
        let librarian = runtime.block_on(admin.ensure_librarian())?;
        let environment = Arc::new(Environment {
            whereabouts: Whereabouts::new(vec![UpstreamAddress::Tcp(bed.address())]),
            replicas: Default::default(),
            facts: admin.facts().clone(),
            housekeeper,
            integrity: Arc::new(Integrity::new(true, [bed.address().to_string()])),
            librarian,
            directory: Directory::default(),
        });
        let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
        let spawn = |number| worker::spawn(number, environment.clone(), &[], sender.clone());
        let workers = (0..WORKERS).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self {
            bed,
            workers,
            runtime,
            admin,
            listener: TcpListener::bind("127.0.0.1:0")?,
            stores: 0,
            _requests: requests,
        })
    }

    /// Makes a store in the registry and tells no worker.
    pub fn make(&mut self, name: &str) -> Result<Arc<Store>> {
        let slug = Slug::try_from(name.to_owned())?;
        let record = self.runtime.block_on(self.admin.registry().ensure(&slug))?;
        let made = self.admin.store(self.stores, &slug, &record);
        let store = self.runtime.block_on(made)?;
        self.stores += 1;
        Ok(Arc::new(store))
    }

    /// What has been learnt of the server.
    pub fn learnt(&self) -> &Learnt {
        self.admin.learnt()
    }

    /// Makes a store that all workers serve.
    pub fn store(&mut self, name: &str) -> Result<Arc<Store>> {
        let store = self.make(name)?;
        self.tell(|| Message::Store(store.clone()));
        Ok(store)
    }

    /// Tells every worker.
    pub fn tell(&self, message: impl Fn() -> Message) {
        for worker in &self.workers {
            worker.send(message());
        }
    }

    /// A client of an app, at its default store.
    pub fn connect(&self, app: &Arc<App>) -> Result<Wire> {
        self.connect_to(0, app, |_| {})
    }

    /// A client at this worker, accepted in a way of its own.
    pub fn connect_to(
        &self,
        worker: usize,
        app: &Arc<App>,
        with: impl FnOnce(&mut Accepted),
    ) -> Result<Wire> {
        let wire = Wire::connect(self.listener.local_addr()?)?;
        let (stream, peer) = self.listener.accept()?;
        self.accept(worker, app, stream, peer, with)?;
        Ok(wire)
    }

    /// Hands a socket to a worker.
    pub fn accept(
        &self,
        worker: usize,
        app: &Arc<App>,
        stream: TcpStream,
        peer: SocketAddr,
        with: impl FnOnce(&mut Accepted),
    ) -> Result<()> {
        stream.set_nonblocking(true)?;
        let mut accepted = Accepted::new(stream, app.clone(), peer, self.bed.address());
        with(&mut accepted);
        let worker = self.workers.get(worker).context("no such worker")?;
        worker.send(Message::Accept(Box::new(accepted)));
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.stop();
        }
    }
}

/// An app with these stores.
pub fn app(stores: &[&Arc<Store>]) -> Arc<App> {
    Arc::new(App {
        name: "app".to_owned(),
        stores: stores.iter().map(|&store| store.clone()).collect(),
    })
}

/// A record of a store with these limits and token, as the registry would say.
pub fn record(store: &Store, limits: Limits, token: Option<&str>) -> Record {
    let mut record = Record::new(store.prefix.clone(), limits);
    record.token = token.map(|token| TokenDigest::of(token.as_bytes()));
    record
}
