//! Settings that apps change with CONFIG SET: written into the registry, at a bounded rate.
//!
//! Invariant: a command is answered when the registry has what it asked for and this node obeys it;
//! other nodes obey within a second, as with every change of the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flect_agent::environment::{Setting, Store};
use flect_agent::worker::{Handle, JobTicket, Message};

/// The time between two changes of one store's record, once [`BURST`] is used up: each change makes every
/// agent read the registry anew, so no app may cause many of them.
const CHANGE_EVERY: Duration = Duration::from_millis(250);

/// Changes of one store that may follow each other at once, for apps that set several things as they
/// start.
const BURST: u32 = 16;

/// Changes that wait to be written.
#[derive(Default)]
pub struct Changes {
    stores: BTreeMap<usize, Changing>,
}

/// One store's changes.
struct Changing {
    store: Arc<Store>,
    wanted: Vec<(Setting, i64)>,
    waiting: Vec<(usize, JobTicket)>,
    /// When the store will have had no more than its share, if nothing comes meanwhile.
    quiet_at: Instant,
}

/// What is to be written now, and who waits for it.
pub struct Due {
    pub store: Arc<Store>,
    pub wanted: Vec<(Setting, i64)>,
    waiting: Vec<(usize, JobTicket)>,
}

impl Changes {
    /// Notes what a command asks for. Later ones override earlier ones that have not been written.
    pub fn add(
        &mut self,
        store: Arc<Store>,
        wanted: &[(Setting, i64)],
        worker: usize,
        job: JobTicket,
    ) {
        let changing = self.stores.entry(store.number).or_insert(Changing {
            store,
            wanted: Vec::new(),
            waiting: Vec::new(),
            quiet_at: Instant::now(),
        });
        for (setting, value) in wanted {
            changing.wanted.retain(|(known, _)| known != setting);
            changing.wanted.push((*setting, *value));
        }
        changing.waiting.push((worker, job));
    }

    /// When the next change may be written; `None` while none waits.
    pub fn next_at(&self) -> Option<Instant> {
        let waiting = self.stores.values().filter(|c| !c.waiting.is_empty());
        waiting.map(Changing::may_at).min()
    }

    /// What may be written now.
    pub fn due(&mut self) -> Option<Due> {
        let now = Instant::now();
        // Stores that have been quiet for long enough need not be remembered.
        self.stores
            .retain(|_, c| !c.waiting.is_empty() || c.quiet_at > now);
        let changing = self
            .stores
            .values_mut()
            .find(|c| !c.waiting.is_empty() && c.may_at() <= now)?;
        changing.quiet_at = changing.quiet_at.max(now) + CHANGE_EVERY;
        Some(Due {
            store: changing.store.clone(),
            wanted: std::mem::take(&mut changing.wanted),
            waiting: std::mem::take(&mut changing.waiting),
        })
    }
}

impl Changing {
    fn may_at(&self) -> Instant {
        self.quiet_at
            .checked_sub(CHANGE_EVERY * (BURST - 1))
            .unwrap_or(self.quiet_at)
    }
}

impl Due {
    /// Tells those who wait what became of it.
    pub fn answer(self, workers: &[Handle], kept: bool) {
        for (worker, job) in self.waiting {
            if let Some(worker) = workers.get(worker) {
                worker.send(Message::Kept(job, kept));
            }
        }
    }
}
