//! Ends scripts that keep the whole server from all stores for too long.
//!
//! A server that runs a script longer than its `busy-reply-threshold` answers everybody BUSY; with a
//! server of its own an app would wait or use SCRIPT KILL, but here others wait with it. A script that has
//! written cannot be ended (`scriptKill` in script.c): that is told, since only the operator can help.

use std::time::{Duration, Instant};

use flect_agent::audit::{self, Reason, Subject};
use flect_agent::reach::Link;

/// How often the server is asked whether it is busy: some times in the shortest limit, a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after the server until the process ends; 0 seconds are no limit.
pub async fn run(connection: Link, busy_seconds_max: u32) {
    if busy_seconds_max == 0 {
        return;
    }
    let limit = Duration::from_secs(busy_seconds_max.into());
    let mut since: Option<Instant> = None;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let mut busy = Vec::new();
        for shard in connection.of_shards() {
            if is_busy(&shard).await {
                busy.push(shard);
            }
        }
        if busy.is_empty() {
            since = None;
            continue;
        }
        let begun = *since.get_or_insert_with(Instant::now);
        if begun.elapsed() >= limit {
            for shard in &busy {
                end(shard).await;
            }
        }
    }
}

async fn is_busy(shard: &Link) -> bool {
    let pong = shard.send(&redis::cmd("PING")).await;
    matches!(pong, Err(error) if error.code() == Some("BUSY"))
}

/// A script or a function: the server knows which, and refuses the other word.
async fn end(shard: &Link) {
    let mut killed = false;
    for word in ["SCRIPT", "FUNCTION"] {
        let result = shard.send(redis::cmd(word).arg("KILL")).await;
        killed |= result.is_ok();
    }
    let detail = if killed {
        "a script kept the server busy and was ended"
    } else {
        "a script keeps the server busy and cannot be ended, since it has written"
    };
    audit::note(Reason::Scripts, Subject::default(), || detail.to_owned());
}
