//! What monitoring asks: `/metrics`, `/healthz`, `/readyz`, on a unix socket or a port of loopback.
//!
//! Metrics bear the names of stores, which apps must not learn of each other. At the socket everybody is
//! judged as at the control socket. The port asks for a token; a process that takes the port while the agent
//! is away is given the token by whoever scrapes, so each token is made only once the port is the agent's,
//! and is worth nothing afterwards. Health and readiness tell no names and are for everybody.
//!
//! Invariant: monitoring cannot harm the service. It has a thread of its own, bounded connections, and
//! whatever happens to its port the agent serves on.

mod exposition;
mod judged;
mod scrape;
mod token;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use flect_agent::config::Metrics;
use flect_agent::registry::TokenDigest;
use tokio::net::TcpListener;

use crate::bounded::Bounded;
use crate::control::Desk;
use crate::node::Node;
use crate::vitals::Vitals;
use judged::{Judged, Judgement};

/// How long a loop may take to answer: a turn takes milliseconds, and whoever asks waits for seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A place that cannot be had is tried again this often: its owner may be the agent before this one.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// What OpenMetrics prescribes; Prometheus asks for it first.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What answers are made of.
pub struct Monitoring {
    node: Arc<Node>,
    desk: Arc<Desk>,
    vitals: Arc<Vitals>,
}

/// Why somebody may see metrics.
#[derive(Clone)]
enum Proof {
    /// It has this token.
    Token(TokenDigest),
    /// The socket has judged it.
    Judged,
}

impl Monitoring {
    pub fn new(node: Arc<Node>, desk: Arc<Desk>, vitals: Arc<Vitals>) -> Arc<Self> {
        Arc::new(Self { node, desk, vitals })
    }

    /// Answers from a thread of its own wherever the configuration says, as soon as the places can be had.
    pub fn serve(self: &Arc<Self>, settings: &Metrics) -> anyhow::Result<()> {
        if *settings == Metrics::default() {
            return Ok(());
        }
        let (monitoring, settings) = (self.clone(), settings.clone());
        std::thread::Builder::new()
            .name("monitoring".to_owned())
            .spawn(move || {
                if let Err(error) = monitoring.run(&settings) {
                    tracing::error!("monitoring ended: {error:#}");
                }
            })
            .context("no thread for monitoring")?;
        Ok(())
    }

    fn run(self: Arc<Self>, settings: &Metrics) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut closing = self.node.closing();
        let ended = runtime.block_on(async {
            let (socket, port) = (self.clone().at_socket(settings), self.at_port(settings));
            tokio::select! {
                result = async { tokio::try_join!(socket, port) } => result.map(drop),
                () = closing.told() => Ok(()),
            }
        });
        // With it the places and all connections, before `closing` tells that they are gone.
        drop(runtime);
        ended
    }

    async fn at_socket(self: Arc<Self>, settings: &Metrics) -> anyhow::Result<()> {
        let Some(path) = &settings.socket else {
            return Ok(());
        };
        let bind = || Judged::bind(path, self.desk.clone());
        let listener = persistently(&path.display().to_string(), bind).await;
        tracing::info!(socket = %path.display(), "monitoring");
        let router = router(self, Proof::Judged);
        let service = router.into_make_service_with_connect_info::<Judgement>();
        Ok(axum::serve(Bounded::new(listener), service).await?)
    }

    async fn at_port(self: Arc<Self>, settings: &Metrics) -> anyhow::Result<()> {
        let (Some(address), Some(file)) = (settings.listen, &settings.token_file) else {
            return Ok(());
        };
        let bind = || {
            let listener = std::net::TcpListener::bind(address.0)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            // Only now: what took the port before us was told the token before.
            Ok((listener, token::renew(file)?))
        };
        let (listener, token) = persistently(&address.0.to_string(), bind).await;
        tracing::info!(address = %address.0, token_file = %file.display(), "monitoring");
        let router = router(self, Proof::Token(token));
        Ok(axum::serve(Bounded::new(listener), router).await?)
    }
}

/// Tries again and again, and tells why once.
async fn persistently<T>(place: &str, mut bind: impl FnMut() -> anyhow::Result<T>) -> T {
    let mut told = false;
    loop {
        match bind() {
            Ok(bound) => return bound,
            Err(error) if !told => {
                told = true;
                tracing::warn!(
                    "monitoring cannot listen at {place}: {error:#}; it is tried again every {} seconds",
                    RETRY_EVERY.as_secs()
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

fn router(monitoring: Arc<Monitoring>, proof: Proof) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(proof, proven))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(monitoring)
        .layer(middleware::from_fn(once))
}

/// One request a connection, so that the time of a connection is the time of a request; kept by nobody.
async fn once(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONNECTION, "close"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn proven(State(proof): State<Proof>, request: Request, next: Next) -> Response {
    let refused = match &proof {
        Proof::Token(token) => {
            let given = request.headers().get(header::AUTHORIZATION);
            let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
            let knows = given.is_some_and(|given| token.matches(given));
            (!knows).then_some((
                StatusCode::UNAUTHORIZED,
                "the token of agent.metrics.token_file goes into the header 'Authorization: Bearer TOKEN'\n",
            ))
        }
        Proof::Judged => {
            let judged = request.extensions().get::<ConnectInfo<Judgement>>();
            let operator = judged.is_some_and(|ConnectInfo(judgement)| judgement.is_operator);
            (!operator).then_some((
                StatusCode::FORBIDDEN,
                "metrics are for root and the operators of agent.toml, and for no process in an app\n",
            ))
        }
    };
    match refused {
        None => next.run(request).await,
        Some(refused) => refused.into_response(),
    }
}

async fn metrics(State(monitoring): State<Arc<Monitoring>>) -> Response {
    let signs = monitoring.vitals.look(ANSWER_WITHIN).await;
    let scrape = scrape::take(&monitoring.node, &signs);
    match exposition::text(scrape) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the process serves.
async fn health(State(monitoring): State<Arc<Monitoring>>) -> Response {
    let signs = monitoring.vitals.look(ANSWER_WITHIN).await;
    verdict(match signs.stuck() {
        None => Ok(()),
        Some(stuck) => Err(stuck),
    })
}

/// Whether connections get what they ask for.
async fn readiness(State(monitoring): State<Arc<Monitoring>>) -> Response {
    verdict(monitoring.node.readiness())
}

fn verdict(verdict: Result<(), String>) -> Response {
    match verdict {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

impl Connected<IncomingStream<'_, Bounded<Judged>>> for Judgement {
    fn connect_info(stream: IncomingStream<'_, Bounded<Judged>>) -> Self {
        *stream.remote_addr()
    }
}
