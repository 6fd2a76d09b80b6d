//! The control socket: one JSON object for whoever connects. `flect status` reads it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use flect_agent::config::Config;
use flect_agent::environment::{Environment, Store};
use flect_agent::interception::AccelerationVerdict;
use flect_agent::worker::Handle;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// What `flect status` shows.
pub struct Status {
    acceleration: AccelerationVerdict,
    valkey: String,
    apps: Value,
    reachable: AtomicBool,
    serving: OnceLock<Serving>,
}

struct Serving {
    stores: Vec<Arc<Store>>,
    workers: Arc<Vec<Handle>>,
    environment: Arc<Environment>,
}

impl Status {
    pub fn new(config: &Config, acceleration: AccelerationVerdict) -> Self {
        let apps = config
            .apps
            .iter()
            .map(|app| {
                let stores: Vec<&str> = app.stores.iter().map(|store| store.as_str()).collect();
                json!({ "name": app.name, "stores": stores })
            })
            .collect();
        Self {
            acceleration,
            valkey: config.valkey.address.to_string(),
            apps,
            reachable: AtomicBool::new(false),
            serving: OnceLock::new(),
        }
    }

    /// Connections are served from now on.
    pub fn ready(
        &self,
        stores: &[Arc<Store>],
        workers: &Arc<Vec<Handle>>,
        environment: &Arc<Environment>,
    ) {
        self.reachable.store(true, Ordering::Relaxed);
        // Set once, by the one caller.
        let _ = self.serving.set(Serving {
            stores: stores.to_vec(),
            workers: workers.clone(),
            environment: environment.clone(),
        });
    }

    /// Whether Valkey answered when it was last asked.
    pub fn reachable(&self, reachable: bool) {
        if self.reachable.swap(reachable, Ordering::Relaxed) != reachable {
            if reachable {
                tracing::info!("Valkey answers again");
            } else {
                tracing::warn!("Valkey does not answer");
            }
        }
    }

    fn report(&self) -> Value {
        let serving = self.serving.get();
        let reachable = self.reachable.load(Ordering::Relaxed);
        let stores: Vec<Value> = serving.map_or_else(Vec::new, |serving| {
            serving
                .stores
                .iter()
                .map(|store| {
                    json!({
                        "name": store.slug(),
                        "prefix": store.prefix.as_str(),
                        "sessions": store.sessions(),
                    })
                })
                .collect()
        });
        json!({
            "ready": serving.is_some() && reachable,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "valkey": {
                "address": self.valkey,
                "reachable": reachable,
                "version": serving.map(|serving| serving.environment.facts.version.clone()),
            },
            "acceleration": self.acceleration,
            "apps": self.apps,
            "stores": stores,
            "sessions": serving.map_or(0, |s| s.workers.iter().map(Handle::sessions).sum()),
            "workers": serving.map_or(0, |s| s.workers.len()),
            "rss_bytes": rss_bytes(),
        })
    }
}

/// Resident memory of this process, from /proc/self/statm (pages); 0 when it cannot be read.
fn rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Removes the socket when the daemon ends.
pub struct Control {
    path: std::path::PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers one line with one line.
async fn answer(stream: tokio::net::UnixStream, status: Arc<Status>) {
    let mut stream = tokio::io::BufReader::new(stream);
    let mut line = String::new();
    while let Ok(1..) = stream.read_line(&mut line).await {
        let request: Value = serde_json::from_str(&line).unwrap_or_default();
        let answer = match request["op"].as_str() {
            Some("status") => json!({ "ok": status.report() }),
            _ => json!({ "error": { "code": "unknown", "message": "no such request" } }),
        };
        if stream
            .write_all(format!("{answer}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
        line.clear();
    }
}

/// Answers on a socket that only root may use.
pub fn listen(path: &Path, status: Arc<Status>) -> anyhow::Result<Control> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("another agent answers at {}; stop it first", path.display());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answer(stream, status.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(Control {
        path: path.to_owned(),
    })
}
