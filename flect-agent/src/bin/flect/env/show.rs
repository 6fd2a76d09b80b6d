//! `flect env show`: server, memory and stores of an environment.

use std::process::ExitCode;

use flect_agent::admin::{CLIENT_MEMORY, info_field};
use serde::Serialize;

use crate::Global;
use crate::operator::{Operator, block_on};
use crate::output::size;

#[derive(Serialize)]
struct Shown {
    name: String,
    address: String,
    server: String,
    version: String,
    memory_used_bytes: u64,
    /// 0 is no limit.
    memory_max_bytes: u64,
    eviction_policy: String,
    /// What the server holds of requests and replies that are not whole or not read.
    client_memory_used_bytes: u64,
    /// As the server's `maxmemory-clients` says it: bytes, or per cent of `maxmemory`; 0 is no limit.
    client_memory_max: String,
    /// Clients disconnected at that limit since the server's start.
    clients_evicted: u64,
    keys: u64,
    stores: usize,
    stores_being_removed: usize,
    registry_version: u64,
}

/// Asks the server.
pub fn run(global: &Global, name: Option<&str>) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect_to(name.or(global.env.as_deref())).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let mut connection = operator.admin.connection();
        let (info, keys, bound): (String, u64, Vec<String>) = redis::pipe()
            .cmd("INFO")
            .cmd("DBSIZE")
            .cmd("CONFIG")
            .arg("GET")
            .arg(CLIENT_MEMORY)
            .query_async(&mut connection)
            .await?;
        let field = |name: &str| info_field(&info, name).unwrap_or_default().to_owned();
        let server = match field("server_name") {
            name if name.is_empty() => "redis".to_owned(),
            name => name,
        };
        let version = match field(&format!("{server}_version")) {
            version if version.is_empty() => field("redis_version"),
            version => version,
        };
        let shown = Shown {
            name: operator.environment,
            address: operator.valkey.address.to_string(),
            server,
            version,
            memory_used_bytes: field("used_memory").parse().unwrap_or(0),
            memory_max_bytes: field("maxmemory").parse().unwrap_or(0),
            eviction_policy: field("maxmemory_policy"),
            client_memory_used_bytes: field("mem_clients_normal").parse().unwrap_or(0),
            client_memory_max: bound.get(1).cloned().unwrap_or_default(),
            clients_evicted: field("evicted_clients").parse().unwrap_or(0),
            keys,
            stores: snapshot.stores.len(),
            stores_being_removed: snapshot.removed.len(),
            registry_version: snapshot.version,
        };
        crate::output::print(global.json, &shown, text)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn text(shown: &Shown) -> String {
    let limit = match shown.memory_max_bytes {
        0 => "no limit".to_owned(),
        bytes => format!("of {}", size(bytes)),
    };
    let client_limit = match shown.client_memory_max.as_str() {
        "0" => "no limit".to_owned(),
        text => format!("of {}", text.parse().map_or(text.to_owned(), size)),
    };
    let removing = match shown.stores_being_removed {
        0 => String::new(),
        count => format!(", {count} removed and not all deleted"),
    };
    format!(
        "name      {}\nserver    {} {} at {}\nmemory    {} used, {limit}, eviction {}\nclients   {} held, {client_limit}, {} disconnected for it\nstores    {}{removing}\nkeys      {}",
        shown.name,
        shown.server,
        shown.version,
        shown.address,
        size(shown.memory_used_bytes),
        shown.eviction_policy,
        size(shown.client_memory_used_bytes),
        shown.clients_evicted,
        shown.stores,
        shown.keys,
    )
}
