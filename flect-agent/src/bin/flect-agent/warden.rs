//! Ends scripts that keep the whole server from all stores for too long.
//!
//! A server that runs a script longer than its `busy-reply-threshold` answers everybody BUSY; with a
//! server of its own an app would wait or use SCRIPT KILL, but here others wait with it. A script that has
//! written cannot be ended (`scriptKill` in script.c): that is told, since only the operator can help.

use std::time::{Duration, Instant};

use flect_agent::audit::{self, Reason, Subject};
use flect_agent::reach::{Link, UpstreamAddress};
use futures_util::future::join_all;

/// How often the server is asked whether it is busy: some times in the shortest limit, a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after the server until the process ends; 0 seconds are no limit.
pub async fn run(connection: Link, busy_seconds_max: u32) {
    if busy_seconds_max == 0 {
        return;
    }
    let limit = Duration::from_secs(busy_seconds_max.into());
    let mut known: Vec<Busy> = Vec::new();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // All at once: one that cannot be reached is no reason to leave the others to their scripts.
        let looks = connection.of_shards().into_iter().map(look);
        let busy: Vec<Link> = join_all(looks).await.into_iter().flatten().collect();
        known.retain(|it| busy.iter().any(|shard| shard.node() == it.node));
        for shard in &busy {
            let node = shard.node();
            let since = match known.iter().find(|it| it.node == node) {
                Some(it) => it.since,
                None => {
                    let since = Instant::now();
                    known.push(Busy { node, since });
                    since
                }
            };
            if since.elapsed() >= limit {
                end(shard).await;
            }
        }
    }
}

/// A server that was busy when it was last asked, and every time before since then.
struct Busy {
    /// Which one, of a cluster.
    node: Option<UpstreamAddress>,
    since: Instant,
}

/// The server, if it is busy.
async fn look(shard: Link) -> Option<Link> {
    is_busy(&shard).await.then_some(shard)
}

async fn is_busy(shard: &Link) -> bool {
    let answer = shard.send(&redis::cmd("PING")).await;
    matches!(answer, Err(error) if error.code() == Some("BUSY"))
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
