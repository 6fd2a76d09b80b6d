//! What `flect status` shows of this node.

use flect_agent::metrics::StoreMetrics;
use flect_agent::worker::Handle;
use serde_json::{Value, json};

use crate::metrics;
use crate::node::Node;
use crate::serving::{Absence, State, Workload};

/// The whole report.
pub fn report(node: &Node) -> Value {
    let running = node.running();
    let serving = node.serving.load();
    let reachable = node.is_reachable();
    let readiness = node.readiness();
    let mut stores = Vec::new();
    for store in serving.stores() {
        stores.push(json!({
            "name": store.slug(),
            "prefix": store.prefix.as_str(),
            "sessions": store.sessions(),
            "integrity_violations": StoreMetrics::violations(store),
        }));
    }
    let learnt = node.learnt.load();
    let refused = learnt.refused.iter();
    let refused: Vec<_> = refused
        .map(|(name, why)| json!({ "name": name, "reason": why }))
        .collect();
    let config = node.config.load();
    let explicit = &config.explicit;
    let (status_page, status_page_error) = node.page.report();
    json!({
        "ready": readiness.is_ok(),
        "not_ready": readiness.err(),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "environment": config.valkey.environment,
        "mode": if node.places.is_some() { "intercept" } else { "explicit" },
        "valkey": {
            "address": config.valkey.address.to_string(),
            "reachable": reachable,
            "version": running.map(|running| running.environment.facts.version.clone()),
        },
        "registry": { "version": serving.version },
        "acceleration": node.acceleration,
        "config": **node.reloads.load(),
        "integrity": config.agent.integrity,
        "commands": { "learnt": learnt.forwarded, "refused": refused },
        "apps": serving.workloads.iter().map(app).collect::<Vec<_>>(),
        "explicit": {
            "listen": running.map_or_else(Vec::new, |running| running.explicit.clone()),
            "tls": explicit.tls_certificate.is_some(),
        },
        "stores": stores,
        "sessions": running.map_or(0, |r| r.workers.iter().map(Handle::sessions).sum()),
        "workers": running.map_or(0, |r| r.workers.len()),
        "rss_bytes": metrics::rss_bytes(),
        "refusals": node.refusals.list(),
        "status_page": status_page,
        "status_page_error": status_page_error,
    })
}

/// An app: its stores by the names that it is bound to, and those that lead nowhere.
pub fn app(workload: &Workload) -> Value {
    let names: Vec<_> = workload
        .bindings
        .iter()
        .map(|binding| &binding.name)
        .collect();
    let state = match &workload.state {
        State::Ready(_) => "ready",
        State::Absent {
            absence: Absence::Missing,
            ..
        } => "missing",
        State::Absent {
            absence: Absence::Filling,
            ..
        } => "filling",
    };
    json!({
        "name": workload.name,
        "default": names.first(),
        "stores": names,
        "missing": workload.missing().collect::<Vec<_>>(),
        "tokens": workload.with_token().collect::<Vec<_>>(),
        "state": state,
    })
}
