//! The requests of the control socket, each for those who may make it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use flect_agent::audit::{self, Reason, Subject};
use flect_agent::config::Config;
use flect_agent::interception::AnnounceError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::standing::{Kind, Standing};
use super::{Peer, People};
use crate::enter::RunGroups;
use crate::metrics;
use crate::node::Node;
use crate::serving::Serving;
use crate::status;

/// Where requests are answered.
pub struct Desk {
    node: Arc<Node>,
    groups: Option<Arc<RunGroups>>,
    known: ArcSwap<Known>,
}

/// Who the configuration names.
struct Known {
    operators: People,
    /// By app.
    users: HashMap<String, People>,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    Status,
    Metrics,
    Apps,
    Enter { app: String },
    Announce { process: u32 },
}

/// A reply that is not `ok`.
struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn denied(message: impl Into<String>) -> Self {
        Self {
            code: "denied",
            message: message.into(),
        }
    }
}

/// The request is none.
pub fn invalid(message: &str) -> Value {
    json!({ "error": { "code": "invalid", "message": message } })
}

impl Known {
    fn of(config: &Config) -> Self {
        let users = config.apps.iter().map(|app| {
            let people = People::resolve(&app.users, &format!("users of app '{}'", app.name));
            (app.name.clone(), people)
        });
        Self {
            operators: People::resolve(&config.agent.operators, "agent.operators"),
            users: users.collect(),
        }
    }
}

impl Desk {
    pub fn new(node: Arc<Node>, groups: Option<Arc<RunGroups>>) -> Self {
        let known = ArcSwap::from_pointee(Known::of(&node.config.load()));
        Self {
            node,
            groups,
            known,
        }
    }

    /// The configuration may name others now.
    pub fn renew(&self) {
        let known = Known::of(&self.node.config.load());
        self.known.store(Arc::new(known));
    }

    /// What the peer may do, as things are now.
    pub fn judge(&self, peer: &Peer) -> Standing {
        let serving = self.node.serving.load();
        let places = self.node.places.as_ref();
        Standing::of(peer, &serving, places, &self.known.load().operators)
    }

    /// Whether the peer may ask for everything, as things are now.
    pub fn is_operator(&self, peer: &Peer) -> bool {
        self.judge(peer).kind == Kind::Operator
    }

    /// Whether the peer may take over the service, and with it the apps' connections: root, or the agent's own
    /// user, where no app lives.
    pub fn is_heir(&self, peer: &Peer) -> bool {
        let own = rustix::process::geteuid().as_raw();
        (peer.uid == 0 || peer.uid == own) && self.is_operator(peer) && peer.is_there()
    }

    /// Answers one line.
    pub async fn answer(&self, peer: &Arc<Peer>, line: &[u8]) -> Value {
        let request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => return invalid(&format!("no such request: {error}")),
        };
        // Judged anew each time: the process may have entered an app since.
        let standing = self.judge(peer);
        let operation = match &request {
            Request::Status => "status",
            Request::Metrics => "metrics",
            Request::Apps => "apps",
            Request::Enter { .. } => "enter",
            Request::Announce { .. } => "announce",
        };
        let result = match request {
            Request::Status => self
                .for_operators(&standing, peer)
                .map(|()| status::report(&self.node)),
            Request::Metrics => self
                .for_operators(&standing, peer)
                .map(|()| json!(metrics::snapshot(&self.node))),
            Request::Apps => Ok(self.apps(&standing, peer)),
            Request::Enter { app } => self.enter(&standing, peer, app).await,
            Request::Announce { process } => match self.for_operators(&standing, peer) {
                Ok(()) => self.announce(process).await,
                Err(refusal) => Err(refusal),
            },
        };
        match result {
            Ok(value) => json!({ "ok": value }),
            Err(refusal) => {
                if refusal.code == "denied" {
                    self.audit(peer, &standing, operation);
                }
                json!({ "error": { "code": refusal.code, "message": refusal.message } })
            }
        }
    }

    /// Tells the audit log of what was refused.
    pub fn audit(&self, peer: &Peer, standing: &Standing, what: &str) {
        let cgroup = peer.cgroup().ok();
        let subject = Subject {
            app: standing.app.as_deref(),
            store: None,
            cgroup: cgroup.as_deref(),
        };
        audit::note(Reason::ControlSocket, subject, || {
            format!(
                "{what}: refused to {} with uid {}",
                standing.kind.word(),
                peer.uid
            )
        });
    }

    /// Answers once connections are taken where the process lives.
    async fn announce(&self, process: u32) -> Result<Value, Refusal> {
        if self.node.places.is_none() {
            return Err(Refusal {
                code: "failed",
                message: "this agent intercepts nothing ([intercept] enabled = false), so it listens in no network namespace but its own".to_owned(),
            });
        }
        let running = self.node.running();
        let acceptor = running.and_then(|running| running.announcer.as_ref()?.upgrade());
        let arrival = match acceptor {
            Some(acceptor) => acceptor.announce(process).await,
            None => Err(AnnounceError::Resting),
        };
        let arrival = arrival.map_err(|error| match error {
            // Whoever asks, asks the next one.
            AnnounceError::Resting => Refusal {
                code: "starting",
                message: "an agent is starting: ask again".to_owned(),
            },
            error => Refusal {
                code: "failed",
                message: error.to_string(),
            },
        })?;
        Ok(json!({
            "cgroup": arrival.cgroup,
            "app": arrival.app,
            "opened": arrival.opened,
        }))
    }

    fn for_operators(&self, standing: &Standing, peer: &Peer) -> Result<(), Refusal> {
        match (standing.kind, &standing.app) {
            (Kind::Operator, _) => Ok(()),
            (Kind::User, _) => Err(Refusal::denied(format!(
                "user {} is no operator of this node: run it as root, or let the operator add the user to [agent] operators",
                peer.uid
            ))),
            (_, Some(app)) => Err(Refusal::denied(format!(
                "this process is in app '{app}', and apps may not see the node: ask from outside of it"
            ))),
            (_, None) => Err(Refusal::denied(
                "this process runs where apps do, and apps may not see the node: ask from outside of it",
            )),
        }
    }

    fn is_user_of(&self, peer: &Peer, app: &str) -> bool {
        let known = self.known.load();
        known
            .users
            .get(app)
            .is_some_and(|users| users.include(peer))
    }

    /// Whether the peer may enter an app that it is not in.
    fn may_enter(&self, standing: &Standing, peer: &Peer, app: &str) -> bool {
        match standing.kind {
            Kind::Operator => true,
            Kind::User | Kind::Runner => self.is_user_of(peer, app),
            Kind::Tenant => false,
        }
    }

    fn apps(&self, standing: &Standing, peer: &Peer) -> Value {
        let serving = self.node.serving.load();
        let seen = serving.workloads.iter().filter(|workload| {
            standing.app.as_ref() == Some(&workload.name)
                || self.may_enter(standing, peer, &workload.name)
        });
        json!({
            "address": self.node.address(),
            "environment": self.node.config.load().valkey.environment,
            "mode": if self.node.places.is_some() { "intercept" } else { "explicit" },
            "current": standing.app,
            "apps": seen.map(status::app).collect::<Vec<_>>(),
        })
    }

    async fn enter(
        &self,
        standing: &Standing,
        peer: &Arc<Peer>,
        app: String,
    ) -> Result<Value, Refusal> {
        let Some(groups) = &self.groups else {
            return Err(Refusal {
                code: "failed",
                message: "this agent intercepts nothing ([intercept] enabled = false), so there are no apps to enter: connect to its explicit listener with a store's name and token".to_owned(),
            });
        };
        let serving = self.node.serving.load_full();
        // Whoever is in it already stays where it is, under the limits of its own cgroup.
        if standing.app.as_ref() == Some(&app) {
            return self.entered(&serving, &app);
        }
        if !self.may_enter(standing, peer, &app) {
            return Err(self.not_permitted(standing, peer, &app));
        }
        if serving.workload(&app).is_none() {
            return Err(Refusal {
                code: "unknown",
                message: format!("this node has no app '{app}'; it has: {}", names(&serving)),
            });
        }
        let (groups, peer, name) = (groups.clone(), peer.clone(), app.clone());
        // The kernel may take its time to move a process, and others want to be served.
        let moved = tokio::task::spawn_blocking(move || groups.enter(&peer, &name)).await;
        match moved {
            Ok(Ok(())) => self.entered(&serving, &app),
            Ok(Err(error)) => Err(Refusal {
                code: "failed",
                message: error.to_string(),
            }),
            Err(error) => Err(Refusal {
                code: "failed",
                message: error.to_string(),
            }),
        }
    }

    fn entered(&self, serving: &Serving, app: &str) -> Result<Value, Refusal> {
        let workload = serving.workload(app).ok_or_else(|| Refusal {
            code: "unknown",
            message: format!("this node has no app '{app}'"),
        })?;
        let mut entry = status::app(workload);
        entry["address"] = json!(self.node.address());
        entry["environment"] = json!(self.node.config.load().valkey.environment);
        Ok(entry)
    }

    fn not_permitted(&self, standing: &Standing, peer: &Peer, app: &str) -> Refusal {
        let uid = peer.uid;
        match (standing.kind, &standing.app) {
            (Kind::Tenant, Some(current)) => Refusal::denied(format!(
                "this process is app '{current}' and cannot become app '{app}'"
            )),
            (Kind::Tenant, None) => Refusal::denied(
                "this process runs where apps do (below the managed root, or in a container), so it cannot enter one",
            ),
            (Kind::Runner, _) => Refusal::denied(format!(
                "this process was started by `flect run` in an app; from there user {uid} may enter only apps that name it in `users`, and app '{app}' does not"
            )),
            _ => {
                let known = self.known.load();
                let mut own: Vec<&str> = known
                    .users
                    .keys()
                    .map(String::as_str)
                    .filter(|app| self.is_user_of(peer, app))
                    .collect();
                own.sort_unstable();
                let own = match own.as_slice() {
                    [] => "none".to_owned(),
                    own => own.join(", "),
                };
                Refusal::denied(format!(
                    "user {uid} may not enter app '{app}', or there is no such app; it may enter: {own}. The operator adds users in agent.toml: [[app]] users"
                ))
            }
        }
    }
}

fn names(serving: &Serving) -> String {
    let names: Vec<_> = serving.workloads.iter().map(|w| w.name.as_str()).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
