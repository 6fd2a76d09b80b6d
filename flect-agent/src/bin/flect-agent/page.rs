//! The status page: what the stores of this node do, for operators, on loopback.
//!
//! Any process of the node can connect to a port on loopback, apps included. So the page itself
//! carries no data, and the data asks for a token that only the control socket gives, to operators:
//! it is random, made at each start, and stands in the fragment of the page's address, which
//! browsers send to nobody. A program that takes the port when the agent is away learns a token
//! that no agent knows any more.
//!
//! Invariant: the page cannot harm the service. It has a thread of its own, bounded connections,
//! and whatever happens to its port the agent serves on.

mod guard;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use flect_agent::admin::hex;
use flect_agent::registry::TokenDigest;
use serde_json::{Value, json};

use crate::bounded::Bounded;
use crate::node::Closing;
use guard::Guard;

/// As much as a key: there is nothing to guess.
const TOKEN_BYTES: usize = 32;
/// A port in use is tried again this often: its owner may be the agent before this one.
const RETRY_EVERY: Duration = Duration::from_secs(5);

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 5] = [
    include_str!("page/rates.js"),
    include_str!("page/figures.js"),
    include_str!("page/chart.js"),
    include_str!("page/stores.js"),
    include_str!("page/page.js"),
];

/// Where the page gets its data.
pub trait Source: Send + Sync + 'static {
    /// The reply to `op: metrics`.
    fn metrics(&self) -> Value;
    /// The reply to `op: status`.
    fn status(&self) -> Value;
}

impl Source for crate::node::Node {
    fn metrics(&self) -> Value {
        // It is numbers and texts: nothing that JSON cannot have.
        serde_json::to_value(crate::metrics::snapshot(self)).unwrap_or_default()
    }

    fn status(&self) -> Value {
        crate::status::report(self)
    }
}

/// The page, for `flect status`.
pub struct Page {
    token: String,
    state: Mutex<Serving>,
}

enum Serving {
    Off,
    At(SocketAddr),
    Failed(String),
}

impl Page {
    /// A page with a fresh token that is not served yet.
    pub fn new() -> anyhow::Result<Arc<Self>> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).context("no random bytes")?;
        Ok(Arc::new(Self {
            token: hex(&bytes),
            state: Mutex::new(Serving::Off),
        }))
    }

    /// Serves the page from a thread of its own, as soon as the port can be had.
    pub fn serve(self: &Arc<Self>, address: SocketAddr, source: Arc<dyn Source>, closing: Closing) {
        let page = self.clone();
        let spawned = std::thread::Builder::new()
            .name("status-page".to_owned())
            .spawn(move || {
                if let Err(error) = page.run(address, source, closing) {
                    page.failed(format!("the status page ended: {error:#}"));
                }
            });
        if let Err(error) = spawned {
            self.failed(format!("no thread for the status page: {error}"));
        }
    }

    /// What `flect status` tells operators: the address with the token, and why there is none.
    pub fn report(&self) -> (Option<String>, Option<String>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            Serving::Off => (None, None),
            Serving::At(address) => (
                Some(format!("http://{address}/#token={}", self.token)),
                None,
            ),
            Serving::Failed(why) => (None, Some(why.clone())),
        }
    }

    fn set(&self, serving: Serving) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = serving;
    }

    fn failed(&self, why: String) {
        tracing::warn!("{why}");
        self.set(Serving::Failed(why));
    }

    fn run(
        &self,
        address: SocketAddr,
        source: Arc<dyn Source>,
        mut closing: Closing,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = async {
            let listener = self.bind(address).await;
            let address = listener.local_addr()?;
            tracing::info!(%address, "status page; `flect status --page` prints its whole address");
            self.set(Serving::At(address));
            let guard = Guard::new(address, TokenDigest::of(self.token.as_bytes()));
            axum::serve(Bounded::new(listener), router(guard, source)).await?;
            Ok(())
        };
        let ended = runtime.block_on(async {
            tokio::select! {
                result = serving => result,
                () = closing.told() => Ok(()),
            }
        });
        // With it the port and all connections, before `closing` tells that they are gone.
        drop(runtime);
        ended
    }

    async fn bind(&self, address: SocketAddr) -> tokio::net::TcpListener {
        let mut told = false;
        loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(error) if !told => {
                    told = true;
                    self.failed(format!(
                        "the status page cannot listen at {address}: {error}; it is tried again \
                         every {} seconds, or choose another agent.status_page",
                        RETRY_EVERY.as_secs()
                    ));
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}

fn router(guard: Guard, source: Arc<dyn Source>) -> Router {
    let guard = Arc::new(guard);
    Router::new()
        .route("/metrics.json", get(metrics))
        .route("/status.json", get(status))
        .route_layer(middleware::from_fn_with_state(guard.clone(), guard::token))
        .route("/", get(shell))
        .with_state(source)
        .layer(middleware::from_fn_with_state(guard, guard::request))
}

/// The page without data, the same for everybody.
async fn shell() -> Response {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let nonce = hex(&bytes);
    // Nothing from elsewhere, nothing by others, no markup made by the script.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    let body = HTML
        .replace("{{nonce}}", &nonce)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &script());
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(body)).into_response()
}

fn script() -> String {
    format!("\"use strict\";\n{}", SCRIPTS.join("\n"))
}

async fn metrics(State(source): State<Arc<dyn Source>>) -> Json<Value> {
    Json(source.metrics())
}

async fn status(State(source): State<Arc<dyn Source>>) -> Json<Value> {
    let mut status = source.status();
    // The page knows its own address, and no reply needs to repeat the token.
    if let Some(fields) = status.as_object_mut() {
        fields.remove("status_page");
    }
    Json(status)
}

/// A reply that says what was wrong, for people who try it by hand.
fn complaint(code: axum::http::StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": { "message": message } }))).into_response()
}

#[cfg(test)]
mod tests;
