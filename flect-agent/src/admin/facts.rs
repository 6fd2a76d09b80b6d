//! What the agent asks a server about itself.

use std::collections::{HashMap, HashSet};

use crate::environment::ServerFacts;
use crate::reach::Link;

/// A field of an INFO reply, as it stands there.
#[must_use]
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim_end)
}

pub(super) async fn facts(connection: &mut Link) -> redis::RedisResult<ServerFacts> {
    let info: String = redis::cmd("INFO")
        .arg("server")
        .arg("cluster")
        .query_async(connection)
        .await?;
    let hello: HashMap<String, redis::Value> = redis::cmd("HELLO").query_async(connection).await?;
    let text = |name: &str| {
        hello
            .get(name)
            .and_then(|value| redis::from_redis_value::<String>(value.clone()).ok())
    };
    let databases: Vec<String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("databases")
        .query_async(connection)
        .await?;
    Ok(ServerFacts {
        server: text("server").unwrap_or_else(|| "redis".to_owned()),
        version: text("version")
            .or_else(|| info_field(&info, "redis_version").map(str::to_owned))
            .unwrap_or_else(|| "7.2.4".to_owned()),
        // A cluster has one database or few; a store's are the agent's own, as many as Valkey has by default.
        databases: databases
            .get(1)
            .filter(|_| info_field(&info, "cluster_enabled") != Some("1"))
            .and_then(|value| value.parse().ok())
            .unwrap_or(DATABASES),
        release: info_field(&info, "valkey_version")
            .and_then(release)
            .unwrap_or(OLDEST_RELEASE),
        modules: hello
            .get("modules")
            .and_then(|value| redis::from_redis_value(value.clone()).ok())
            .map_or_else(Vec::new, built_in),
    })
}

/// A module that is part of the server has its name where others have the path of a file.
fn built_in(modules: Vec<HashMap<String, redis::Value>>) -> Vec<(String, i64)> {
    let text = |module: &HashMap<String, redis::Value>, field: &str| -> Option<String> {
        redis::from_redis_value(module.get(field)?.clone()).ok()
    };
    let read = |module: HashMap<String, redis::Value>| {
        let name = text(&module, "name")?;
        let version = text(&module, "ver")?.parse().ok()?;
        (text(&module, "path")? == name).then_some((name, version))
    };
    modules.into_iter().filter_map(read).collect()
}

/// How many databases a Valkey has that nobody has configured.
const DATABASES: u32 = 16;

/// What a server that does not say its version is taken for.
const OLDEST_RELEASE: crate::commands::Version = crate::commands::Version { major: 8, minor: 0 };

fn release(text: &str) -> Option<crate::commands::Version> {
    let mut parts = text.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return None;
    };
    Some(crate::commands::Version { major, minor })
}

pub(super) async fn commands(connection: &mut Link) -> redis::RedisResult<HashSet<String>> {
    let names: Vec<String> = redis::cmd("COMMAND")
        .arg("LIST")
        .query_async(connection)
        .await?;
    Ok(names
        .into_iter()
        .map(|name| name.to_ascii_lowercase())
        .collect())
}
