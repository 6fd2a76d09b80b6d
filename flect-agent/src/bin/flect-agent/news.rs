//! Asking for a look at the registry, by those who were told of something that this agent does not know yet: a
//! token that was made a moment ago.
//!
//! Invariant: asking costs Valkey at most one question in [`ASKED_EVERY`], whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// How often strangers may have the registry looked at. Besides, it is polled for.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// How long a look is waited for: the poll's time, and some more.
const LOOKED_WITHIN: Duration = Duration::from_secs(1);

/// Looks at the registry.
pub struct News {
    wanted: Arc<Notify>,
    asked_at: Mutex<Option<Instant>>,
    /// How many looks have begun, and which was the last that is over.
    begun: AtomicU64,
    over: watch::Sender<u64>,
}

impl Default for News {
    fn default() -> Self {
        Self {
            wanted: Arc::default(),
            asked_at: Mutex::default(),
            begun: AtomicU64::new(0),
            over: watch::Sender::new(0),
        }
    }
}

impl News {
    /// Tells whoever looks that somebody wants it to.
    pub fn wanted(&self) -> Arc<Notify> {
        self.wanted.clone()
    }

    /// A look begins; answers its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// It is over, and what it has found is served.
    pub fn end(&self, number: u64) {
        self.over.send_replace(number);
    }

    /// Returns when a look is over that began after this was called, or after [`LOOKED_WITHIN`].
    pub async fn look(&self) {
        let before = self.begun.load(Ordering::Acquire);
        let mut over = self.over.subscribe();
        if self.may_ask() {
            self.wanted.notify_one();
        }
        // Late news are no news: whoever asks goes on with what is known.
        let _ = tokio::time::timeout(LOOKED_WITHIN, over.wait_for(|over| *over > before)).await;
    }

    fn may_ask(&self) -> bool {
        // One assignment, so a panic elsewhere cannot leave it half done.
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked_at.is_none_or(|at| at.elapsed() >= ASKED_EVERY);
        if may {
            *asked_at = Some(Instant::now());
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_look_that_begins_later_counts() {
        let news = Arc::new(News::default());
        let early = news.begin();
        let asker = tokio::spawn({
            let news = news.clone();
            async move { news.look().await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        news.wanted().notified().await;
        news.end(early);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!asker.is_finished(), "it may have read before");
        news.end(news.begin());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(asker.is_finished());
    }

    #[test]
    fn many_askers_are_one() {
        let news = News::default();
        assert!(news.may_ask());
        assert!(!news.may_ask());
    }
}
