//! Measuring what stores with a memory limit hold, for all nodes of an environment.
//!
//! One agent at a time does it, the one that holds a lease; the others read what it writes. Who
//! loses the lease has written at most one measurement too many, which is as good as the other's.

use std::time::{Duration, Instant};

use redis::{AsyncCommands, Script};
use serde::{Deserialize, Serialize};

use crate::admin::{hex, random};
use crate::keyspace::Connection;
use crate::registry::{Registry, RegistryError, USAGE, now_seconds};
use crate::store::Prefix;
use crate::usage::{Effort, Survey};

/// Whose turn it is: the holder's name, with an expiry.
pub const LEASE: &str = "flect:{registry}:accountant";

/// Another id after each round of measuring: whoever has read `usage` since then need not do so again.
pub const ROUND: &str = "flect:{registry}:round";

/// Its field.
pub const ROUND_ID: &str = "id";

/// How long a lease lasts: a node that died is replaced within this time.
const LEASE_MILLISECONDS: u64 = 30_000;

/// A round that lasts longer takes the lease again.
const LEASE_RENEWED_AFTER: Duration = Duration::from_millis(LEASE_MILLISECONDS / 3);

/// The least pause between two rounds. A store can be over its limit for about so long before its
/// writes are refused.
const PAUSE_MIN: Duration = Duration::from_secs(3);

/// A round is followed by a pause so many times as long: measuring takes a tenth of one connection.
const PAUSE_FACTOR: u32 = 9;

/// The longest pause, within a lease.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// What a store with a memory limit holds, as the registry keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Measurement {
    /// Bytes of keys and values.
    pub memory_bytes: u64,
    /// How many keys.
    pub keys: u64,
    /// Seconds since 1970.
    pub measured_at: u64,
}

/// How well a limit is measured: within 5 %, and on a server with more than two million keys as well
/// as looking at two million of them tells; a round takes seconds at most.
fn effort() -> Effort {
    Effort {
        names_max: Some(2_000_000),
        error_max: 0.05,
        measured_min: 1_000,
        names_per_second: Some(400_000),
    }
}

/// Measures again and again while it is this node's turn; never returns. `name` tells this agent
/// from all others. What cannot be done is logged and tried again.
pub async fn run<C: Connection>(connection: C, name: String) {
    let mut failed = false;
    loop {
        let began = Instant::now();
        let result = turn(&connection, &name).await;
        match &result {
            Err(error) if !failed => tracing::warn!(%error, "memory of stores is not measured"),
            Ok(_) if failed => tracing::info!("memory of stores is measured again"),
            _ => {}
        }
        failed = result.is_err();
        let pause = (began.elapsed() * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX);
        tokio::time::sleep(pause).await;
    }
}

/// One round, if it is this node's turn: how many stores were measured, `None` when another agent
/// does it.
///
/// # Errors
/// When the server refuses, or the registry is not understood.
pub async fn turn<C: Connection>(
    connection: &C,
    name: &str,
) -> Result<Option<usize>, RegistryError> {
    let mut connection = connection.clone();
    if !hold_lease(&mut connection, name).await? {
        return Ok(None);
    }
    measure_into_registry(&mut connection, Some(name)).await
}

/// Measures every store with a memory limit and writes down what it holds: how many. With a name, as long as that
/// one has the lease; `None` when it has lost it.
///
/// # Errors
/// When the server refuses, or the registry is not understood.
pub async fn measure_into_registry<C: Connection>(
    connection: &mut C,
    name: Option<&str>,
) -> Result<Option<usize>, RegistryError> {
    let snapshot = Registry::open(connection.clone()).await?.snapshot().await?;
    let limited: Vec<Prefix> = snapshot
        .stores
        .values()
        .filter(|record| record.limits.memory_bytes.is_some())
        .map(|record| record.prefix.clone())
        .collect();
    let mut survey = Survey::begin(connection, &limited, effort()).await?;
    let mut held_since = Instant::now();
    while survey.step(connection).await?.is_some() {
        if held_since.elapsed() < LEASE_RENEWED_AFTER {
            continue;
        }
        if let Some(name) = name
            && !hold_lease(connection, name).await?
        {
            return Ok(None);
        }
        held_since = Instant::now();
    }
    let told = survey.told();
    let measured_at = now_seconds();
    let mut pipe = redis::pipe();
    let before: Vec<String> = connection.hkeys(USAGE).await?;
    for old in before {
        if !Prefix::parse(&old).is_ok_and(|prefix| told.contains_key(&prefix)) {
            pipe.hdel(USAGE, old);
        }
    }
    for (prefix, usage) in &told {
        let measurement = Measurement {
            // Estimates are finite: something was found, or everything was looked at.
            memory_bytes: usage.memory_bytes.value as u64,
            keys: usage.keys.value as u64,
            measured_at,
        };
        let text = serde_json::to_string(&measurement).expect("numbers are JSON");
        pipe.hset(USAGE, prefix.as_str(), text);
    }
    if !pipe.is_empty() {
        // After what it tells of: whoever reads it first reads measurements that are as new or newer.
        pipe.hset(ROUND, ROUND_ID, hex(&random::<16>()));
        let () = pipe.query_async(connection).await?;
    }
    Ok(Some(told.len()))
}

/// Takes the lease or keeps it.
async fn hold_lease<C: Connection>(connection: &mut C, name: &str) -> redis::RedisResult<bool> {
    let held: i32 = Script::new(include_str!("accountant/lease.lua"))
        .key(LEASE)
        .arg(name)
        .arg(LEASE_MILLISECONDS)
        .invoke_async(connection)
        .await?;
    Ok(held == 1)
}

#[cfg(test)]
mod tests;
