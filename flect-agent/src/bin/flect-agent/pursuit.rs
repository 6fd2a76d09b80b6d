//! Following the primary of a replicated Valkey, beside everything that waits for it.
//!
//! Invariant: only this lets go of the operator's connection because of what others say. Apps' connections
//! follow once the keeper has put the agent's users in place there.

use std::sync::Arc;
use std::time::Duration;

use flect_agent::reach::Link;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// How often it is looked whether the primary is another one, where nobody tells. Sentinels take seconds to agree
/// that a primary is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How soon after a look a worker's doubt brings the next one.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Looks until the process ends. `doubted`: a worker has met a server that takes no writes or is gone; `moved`
/// hears of a connection that leads elsewhere than before.
pub async fn run(link: Link, doubted: Arc<Notify>, moved: Arc<Notify>) {
    let heard = Arc::new(Notify::new());
    let tell = {
        let heard = heard.clone();
        move || heard.notify_one()
    };
    tokio::join!(
        link.hear_of_primaries(tell),
        follow(&link, &doubted, &heard, &moved)
    );
}

async fn follow(link: &Link, doubted: &Notify, heard: &Notify, moved: &Notify) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = link.address();
    let mut told = None;
    loop {
        let is_doubted = tokio::select! {
            _ = tick.tick() => false,
            () = doubted.notified() => true,
            () = heard.notified() => false,
        };
        if link.is_followed() || is_doubted {
            match link.look_for_primary().await {
                Ok(()) => told = None,
                // Once for each reason: it may last.
                Err(error) if told.as_ref() != Some(&error.to_string()) => {
                    tracing::warn!(%error, "the primary of this Valkey cannot be found");
                    told = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
        let now = link.address();
        if now.is_some() && now != before {
            before = now;
            moved.notify_one();
        } else if is_doubted {
            // It may have been restarted where it was.
            moved.notify_one();
        }
        if is_doubted {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
                // What it is about is looked at now.
                () = heard.notified() => heard.notify_one(),
            }
        }
    }
}
