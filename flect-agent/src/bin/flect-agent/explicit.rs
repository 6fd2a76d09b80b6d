//! Explicit mode: ordinary listeners, where the store is chosen and proven by user and token.
//!
//! Invariant: a session of explicit mode has an app with exactly one store, the one whose token it
//! gave, so it can reach nothing else.
//!
//! It runs on a thread of its own: what strangers cost (TLS handshakes, waiting, wrong passwords) must
//! not delay the rest of the agent.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use flect_agent::audit::{self, Reason, Subject};
use flect_agent::config::{EXPLICIT_APP, Explicit};
use flect_agent::secret;
use flect_agent::worker::Handle;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::gate::{self, Ends};
use crate::login::{Admitted, Doorkeeper};
use crate::news::News;
use crate::node::Node;

/// Connections that have not proved themselves, at once: with 20 KiB each, 10 MiB.
const UNPROVEN_MAX: usize = 512;

/// The same from one address, so that one machine cannot keep the others out.
const UNPROVEN_PER_ADDRESS_MAX: usize = 128;

/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Listeners, bound before anything else is begun, so that mistakes show at once.
pub struct Listeners {
    listeners: Vec<TcpListener>,
    certificate: Option<Arc<Certificate>>,
}

/// What the listeners prove themselves with, where they speak TLS; read again with the configuration, since
/// certificates end.
pub struct Certificate(ArcSwap<ServerConfig>);

impl Certificate {
    /// None where the configuration names none.
    fn of(config: &Explicit) -> anyhow::Result<Option<Self>> {
        Ok(read(config)?.map(|tls| Self(ArcSwap::new(tls))))
    }

    /// Reads certificate and key again; they are for handshakes from then on, once taken.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit together.
    pub fn renewed(self: &Arc<Self>, config: &Explicit) -> anyhow::Result<Renewed> {
        Ok(Renewed(self.clone(), read(config)?))
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

/// A certificate that is good, and not in use yet.
pub struct Renewed(Arc<Certificate>, Option<Arc<ServerConfig>>);

impl Renewed {
    /// Uses it.
    pub fn take(self) {
        if let Some(tls) = self.1 {
            self.0.0.store(tls);
        }
    }
}

impl Listeners {
    /// Binds, unless a predecessor's listener has the address, and reads certificate and key.
    pub fn bind(config: &Explicit, mut inherited: Vec<TcpListener>) -> anyhow::Result<Self> {
        let certificate = Certificate::of(config)?.map(Arc::new);
        let mut listeners = Vec::new();
        for address in &config.listen {
            if certificate.is_none() && !address.ip().is_loopback() {
                tracing::warn!(%address, "tokens and data cross the network unencrypted: set explicit.tls_certificate and explicit.tls_key");
            }
            let is_same = |it: &TcpListener| it.local_addr().is_ok_and(|own| own == *address);
            let listener = match inherited.iter().position(is_same) {
                Some(index) => inherited.swap_remove(index),
                None => TcpListener::bind(address)
                    .with_context(|| format!("explicit.listen: cannot listen at {address}"))?,
            };
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            certificate,
        })
    }

    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// What they prove themselves with; none where they do not speak TLS.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Second descriptors of them, for a successor.
    pub fn copies(&self) -> std::io::Result<Vec<TcpListener>> {
        self.listeners.iter().map(TcpListener::try_clone).collect()
    }

    /// Accepts from now on, on a thread of its own.
    pub fn serve(self, node: Arc<Node>, workers: Arc<Vec<Handle>>) -> anyhow::Result<()> {
        if self.listeners.is_empty() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut listeners = Vec::new();
        {
            let _inside = runtime.enter();
            for listener in self.listeners {
                listeners.push(tokio::net::TcpListener::from_std(listener)?);
            }
        }
        let mut closing = node.closing();
        let hall = Arc::new(Hall {
            node,
            workers,
            certificate: self.certificate,
            waiting: Mutex::default(),
        });
        std::thread::Builder::new()
            .name("explicit".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let mut tasks = tokio::task::JoinSet::new();
                    for listener in listeners {
                        tasks.spawn(accept(listener, hall.clone()));
                    }
                    closing.told().await;
                    tasks.shutdown().await;
                    drop(closing);
                    // Who is logging in, or has a session, goes on as long as the process lives.
                    std::future::pending::<()>().await;
                });
            })
            .context("no thread for explicit mode")?;
        Ok(())
    }
}

fn read(config: &Explicit) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    match (&config.tls_certificate, &config.tls_key) {
        (Some(certificate), Some(key)) => tls(certificate, key).map(Some),
        _ => Ok(None),
    }
}

/// TLS as the certificate and key say.
fn tls(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let in_certificate = || format!("explicit.tls_certificate: {}", certificate.display());
    let in_key = || format!("explicit.tls_key: {}", key.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .with_context(in_certificate)?
        .collect::<Result<_, _>>()
        .with_context(in_certificate)?;
    secret::is_kept(key).map_err(|reason| anyhow!("{}: {reason}", in_key()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(in_key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("explicit.tls_certificate and explicit.tls_key do not fit together")?;
    Ok(Arc::new(config))
}

/// Where connections prove themselves.
struct Hall {
    node: Arc<Node>,
    workers: Arc<Vec<Handle>>,
    certificate: Option<Arc<Certificate>>,
    /// Connections that have not, by address.
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

async fn accept(listener: tokio::net::TcpListener, hall: Arc<Hall>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(place) = Place::take(&hall, peer.ip()) else {
                    let subject = Subject {
                        app: Some(EXPLICIT_APP),
                        ..Subject::default()
                    };
                    audit::note(Reason::Connections, subject, || {
                        format!(
                            "too many connections wait for their login; one from {} is dropped",
                            peer.ip()
                        )
                    });
                    continue;
                };
                tokio::spawn(serve(stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, place: Place) {
    let hall = place.hall.clone();
    let door = Door {
        node: &hall.node,
        peer,
    };
    let result = async {
        let asked = stream.local_addr()?;
        let ends = Ends { peer, asked };
        // The agent writes whole batches; Nagle would only add a delay.
        stream.set_nodelay(true)?;
        match &hall.certificate {
            None => {
                let mut stream = stream;
                let login = gate::log_in(&mut stream, &door);
                let login = tokio::time::timeout(gate::LOGIN_WITHIN, login).await??;
                drop(place);
                if let Some((admitted, early)) = login {
                    let accepted = gate::accepted(stream.into_std()?, ends, admitted, early);
                    gate::hand_over(&hall.workers, accepted);
                }
            }
            Some(certificate) => {
                let login = async {
                    let mut stream = certificate.acceptor().accept(stream).await?;
                    let login = gate::log_in(&mut stream, &door).await?;
                    std::io::Result::Ok(login.map(|(admitted, early)| (stream, admitted, early)))
                };
                let login = tokio::time::timeout(gate::LOGIN_WITHIN, login).await??;
                drop(place);
                if let Some((stream, admitted, early)) = login {
                    gate::hand_over_stream(&hall.workers, stream, ends, admitted, early).await?;
                }
            }
        }
        std::io::Result::Ok(())
    };
    if let Err(error) = result.await {
        tracing::debug!(%peer, %error, "a connection of explicit mode ended");
    }
}

/// The stores with a token.
struct Door<'a> {
    node: &'a Node,
    peer: SocketAddr,
}

impl Doorkeeper for Door<'_> {
    fn open(&self, user: &[u8], password: &[u8]) -> Option<Admitted> {
        let serving = self.node.serving.load();
        let app = match user {
            b"default" => serving.doors.open_unnamed(password),
            name => serving.doors.open(name, password),
        };
        app.map(|app| Admitted {
            app,
            user: b"default".to_vec(),
        })
    }

    fn turned_away(&self, user: &[u8]) {
        let serving = self.node.serving.load();
        let reason = format!(
            "explicit mode: {} named store '{}' with a wrong token, or the store does not exist or has no token",
            self.peer.ip(),
            user.escape_ascii()
        );
        let mut stores = serving.stores().iter();
        let named = stores.find(|store| store.slug().as_str().as_bytes() == user);
        if let Some(store) = named {
            store.refusals.add(Reason::Authentication);
        }
        let slug = named.map(|store| store.slug());
        // A name that is no store's may be a token in the wrong place.
        let subject = Subject {
            app: Some(EXPLICIT_APP),
            store: slug.as_ref().map(|slug| slug.as_str()),
            cgroup: None,
        };
        audit::note(Reason::Authentication, subject, || {
            format!("explicit mode: a wrong token from {}", self.peer.ip())
        });
        self.node.refusals.note(None, &reason);
    }

    fn news(&self) -> Option<&News> {
        Some(&self.node.news)
    }

    fn refusal(&self) -> Option<String> {
        None
    }
}

/// A connection that has not proved itself yet.
struct Place {
    hall: Arc<Hall>,
    address: IpAddr,
}

impl Place {
    fn take(hall: &Arc<Hall>, address: IpAddr) -> Option<Self> {
        let mut waiting = hall.waiting();
        let all: usize = waiting.values().sum();
        let own = waiting.entry(address).or_default();
        if all >= UNPROVEN_MAX || *own >= UNPROVEN_PER_ADDRESS_MAX {
            if *own == 0 {
                waiting.remove(&address);
            }
            return None;
        }
        *own += 1;
        drop(waiting);
        Some(Self {
            hall: hall.clone(),
            address,
        })
    }
}

impl Hall {
    /// Each change is one call, so a panic elsewhere cannot leave it half done.
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.hall.waiting();
        if let Some(count) = waiting.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.address);
            }
        }
    }
}
