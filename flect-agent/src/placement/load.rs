//! What each slot asks of its shard, as the servers count it (`CLUSTER SLOT-STATS`, Valkey 8.0 and newer).

use std::collections::HashMap;
use std::time::Duration;

use redis::{RedisResult, Value};

use super::Load;
use crate::reach::{Link, Shard};
use crate::store::{SLOTS, Slot};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// How many keys there are.
    Keys,
    /// Microseconds of the server's time within a period.
    Cpu(Duration),
    /// Bytes of requests and replies within a period.
    Traffic(Duration),
}

/// What a node counts for each of its slots.
type Counts = HashMap<u16, HashMap<String, u64>>;

/// The load of every slot that has any. `None` where a node does not count it: that is
/// `cluster-slot-stats-enabled no`.
///
/// # Errors
/// When a node cannot be reached or refuses.
pub async fn loads(
    link: &Link,
    shards: &[Shard],
    measure: Measure,
) -> RedisResult<Option<Vec<Load>>> {
    let (fields, period): (&[&str], _) = match measure {
        Measure::Keys => (&["key-count"], None),
        Measure::Cpu(period) => (&["cpu-usec"], Some(period)),
        Measure::Traffic(period) => (&["network-bytes-in", "network-bytes-out"], Some(period)),
    };
    let before = match period {
        Some(period) => {
            let before = ask(link, shards).await?;
            tokio::time::sleep(period).await;
            before
        }
        None => Vec::new(),
    };
    let now = ask(link, shards).await?;
    let mut loads = Vec::new();
    for (shard, counts) in now.iter().enumerate() {
        for (slot, counted) in counts {
            let earlier = before
                .get(shard)
                .and_then(|counts: &Counts| counts.get(slot));
            let mut weight = 0_u64;
            for field in fields {
                let Some(count) = counted.get(*field) else {
                    return Ok(None);
                };
                let earlier = earlier.and_then(|it| it.get(*field)).copied().unwrap_or(0);
                // Counting begins anew at CONFIG RESETSTAT, and when a slot comes.
                weight = weight.saturating_add(count.saturating_sub(earlier));
            }
            if weight > 0 {
                loads.push(Load {
                    slot: *slot,
                    shard,
                    weight,
                });
            }
        }
    }
    loads.sort_unstable_by_key(|load| load.slot);
    Ok(Some(loads))
}

/// What the primaries have counted, in their order.
async fn ask(link: &Link, shards: &[Shard]) -> RedisResult<Vec<Counts>> {
    let mut question = redis::cmd("CLUSTER");
    question
        .arg("SLOT-STATS")
        .arg("SLOTSRANGE")
        .arg(0)
        .arg(SLOTS - 1);
    let question = &question;
    let asked = shards.iter().map(|shard| async move {
        let told = link.of_node(&shard.primary).send(question).await?;
        read(told)
    });
    futures_util::future::try_join_all(asked).await
}

/// An array of slots, each with names and numbers.
fn read(told: Value) -> RedisResult<Counts> {
    let slots: Vec<Value> = redis::from_redis_value(told)?;
    let mut counts = Counts::new();
    for slot in slots {
        let pair: Vec<Value> = redis::from_redis_value(slot)?;
        if let Ok([slot, counted]) = <[Value; 2]>::try_from(pair) {
            // The client library cuts a number off that is too large.
            let slot: u64 = redis::from_redis_value(slot)?;
            if let Some(slot) = u16::try_from(slot).ok().and_then(Slot::new) {
                counts.insert(slot.number(), redis::from_redis_value(counted)?);
            }
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let slot = |number| {
            Value::Array(vec![
                Value::Int(number),
                Value::Array(vec![text("key-count"), Value::Int(number * 2)]),
            ])
        };
        let counts = read(Value::Array(vec![slot(3), slot(16_383)])).unwrap();
        assert_eq!(counts[&3]["key-count"], 6);
        assert_eq!(counts[&16_383]["key-count"], 32_766);
        assert!(read(Value::Array(vec![slot(70_000)])).unwrap().is_empty());
    }
}
