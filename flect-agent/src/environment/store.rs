//! One store as the data path sees it, and what the control side may change of it while it is served.
//!
//! Invariant: a store keeps its prefix and its number as long as it lives; its number is never given to
//! another, so what is late for a retired store finds nothing.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::attention::Monitors;
use super::limits::Limits;
use super::pause::Pause;
use super::places::Places;
use super::settings::Settings;
use super::{Credentials, lock};
use crate::audit::Counts;
use crate::diagnosis::Diagnosis;
use crate::integrity::OwnNames;
use crate::metrics::Meter;
use crate::metrics::stats::{Rates, Stats};
use crate::registry::{Record, TokenDigest};
use crate::scripts::Scripts;
use crate::store::{Prefix, Slot, Slug};

/// One store as the data path sees it.
#[derive(Debug)]
pub struct Store {
    /// The store's place in every worker's list of stores.
    pub number: usize,
    /// What its keys begin with.
    pub prefix: Prefix,
    /// Where a cluster has it.
    pub slot: Slot,
    /// What no client may see of it.
    pub own_names: OwnNames,
    /// Its own ACL user.
    pub credentials: Credentials,
    /// The user for SORT with BY or GET, which Valkey grants only with read access to every key;
    /// it may do nothing but SORT.
    pub sorter: Credentials,
    /// Channel patterns that the store's user may subscribe to literally, as Valkey demands of
    /// PSUBSCRIBE (`ACLCheckChannelAgainstList` in acl.c compares the text).
    granted_patterns: Mutex<HashSet<Vec<u8>>>,
    /// Patterns that this node's sessions subscribe to.
    pub patterns: Patterns,
    /// Its scripts as this node knows them.
    pub scripts: Arc<Scripts>,
    /// What it may use on this node.
    pub limits: Limits,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Its sessions that watch the others' commands.
    pub monitors: Monitors,
    /// How many FLUSHDB and FLUSHALL this node's sessions have begun.
    pub flushes: Share,
    settings: Settings,
    /// Open sessions on this node.
    sessions: AtomicUsize,
    /// Which workers they are with.
    pub places: Arc<Places>,
    /// Upstream connections that its sessions have for themselves on this node.
    pub upstreams: Share,
    /// Bytes that are held for its sessions on this node.
    pub buffered: Share,
    /// The last CLIENT ID given to one of the store's sessions.
    client_ids: AtomicU64,
    names: ArcSwap<Names>,
    token: ArcSwapOption<TokenDigest>,
    retired: AtomicBool,
    replica_reads: AtomicBool,
    /// One for each worker that has had a session of the store.
    meters: Mutex<Vec<Arc<Meter>>>,
    /// What its apps were refused on this node and which limits they met, by the audit log's reasons.
    pub refusals: Counts,
    /// What its apps are told of slow and large commands.
    pub diagnosis: Diagnosis,
    /// What was counted when an app last reset its statistics.
    reset_at: Mutex<Option<Stats>>,
    /// Bytes of keys and values, and how many keys, as somebody has measured; [`UNMEASURED`] before.
    measured: [AtomicU64; 2],
    /// Commands and bytes of the last seconds, for INFO.
    pub rates: Rates,
    /// When this node began to serve it.
    pub since: Instant,
}

/// What all workers together have of something, each adding what it takes.
#[derive(Debug, Default)]
pub struct Share(AtomicUsize);

impl Share {
    /// So much more; answers the sum.
    pub fn add(&self, more: usize) -> usize {
        self.0.fetch_add(more, Ordering::Relaxed) + more
    }

    /// One more, if there are fewer than this; 0 is no limit.
    #[must_use]
    pub fn add_below(&self, most: usize) -> bool {
        let add = |sum: usize| (most == 0 || sum < most).then_some(sum + 1);
        let relaxed = Ordering::Relaxed;
        self.0.fetch_update(relaxed, relaxed, add).is_ok()
    }

    /// So much less.
    pub fn sub(&self, less: usize) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    /// The sum.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// No store holds so much.
const UNMEASURED: u64 = u64::MAX;

/// What a store is called.
#[derive(Debug, Clone)]
struct Names {
    slug: Slug,
    aliases: Vec<Slug>,
}

impl Store {
    /// A store that nobody uses yet, with its record's limits and token.
    #[must_use]
    pub fn new(
        number: usize,
        slug: &Slug,
        record: &Record,
        credentials: Credentials,
        sorter: Credentials,
    ) -> Self {
        let names = Names {
            slug: slug.clone(),
            aliases: Vec::new(),
        };
        let store = Self {
            number,
            prefix: record.prefix.clone(),
            slot: Slot::of_store(&record.prefix),
            own_names: OwnNames::new(&record.prefix),
            credentials,
            sorter,
            granted_patterns: Mutex::new(HashSet::new()),
            patterns: Patterns::default(),
            scripts: Arc::default(),
            limits: Limits::default(),
            pause: Pause::default(),
            monitors: Monitors::default(),
            flushes: Share::default(),
            settings: Settings::default(),
            sessions: AtomicUsize::new(0),
            places: Arc::default(),
            upstreams: Share::default(),
            buffered: Share::default(),
            client_ids: AtomicU64::new(0),
            names: ArcSwap::from_pointee(names),
            token: ArcSwapOption::empty(),
            retired: AtomicBool::new(false),
            replica_reads: AtomicBool::new(false),
            meters: Mutex::default(),
            refusals: Counts::default(),
            diagnosis: Diagnosis::default(),
            reset_at: Mutex::default(),
            measured: [AtomicU64::new(UNMEASURED), AtomicU64::new(UNMEASURED)],
            rates: Rates::default(),
            since: Instant::now(),
        };
        store.follow(record);
        store
    }

    /// Takes over what its record says of limits, settings and token now. Sessions that are open stay open.
    pub fn follow(&self, record: &Record) {
        self.limits.set(&record.limits);
        self.replica_reads
            .store(record.replica_reads, Ordering::Relaxed);
        self.settings.set(&record.settings);
        self.token.store(record.token.clone().map(Arc::new));
    }

    /// Whether replicas may answer what only reads.
    #[must_use]
    pub fn replica_reads(&self) -> bool {
        self.replica_reads.load(Ordering::Relaxed)
    }

    /// What its apps have set for it.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its name.
    #[must_use]
    pub fn slug(&self) -> Slug {
        self.names.load().slug.clone()
    }

    /// It is called otherwise from now on, and may be found by these names too.
    pub fn rename(&self, slug: &Slug, aliases: &[Slug]) {
        self.names.store(Arc::new(Names {
            slug: slug.clone(),
            aliases: aliases.to_vec(),
        }));
    }

    /// The patterns that its user may subscribe to literally. Not to be held for long: workers look at it.
    pub fn granted(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        lock(&self.granted_patterns)
    }

    /// Whether this is its name, or an earlier one.
    #[must_use]
    pub fn is_called(&self, name: &[u8]) -> bool {
        let names = self.names.load();
        let mut known = std::iter::once(&names.slug).chain(&names.aliases);
        known.any(|known| known.as_str().as_bytes() == name)
    }

    /// Whether this password opens the store: where it has no token, every password does, since the
    /// cgroup is the proof.
    #[must_use]
    pub fn opens_with(&self, password: &[u8]) -> bool {
        let token = self.token.load();
        token.as_ref().is_none_or(|token| token.matches(password))
    }

    /// Whether a password is asked for.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.load().is_some()
    }

    /// The store is gone: no session may come to it any more. Tell the workers with
    /// [`Message::Retire`](crate::worker::Message::Retire), so that those which are there end.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the store is gone.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// A meter for one more worker to count with.
    #[must_use]
    pub fn new_meter(&self) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        lock(&self.meters).push(meter.clone());
        meter
    }

    /// What each worker has counted.
    #[must_use]
    pub fn meters(&self) -> Vec<Arc<Meter>> {
        lock(&self.meters).clone()
    }

    /// What is counted of its commands on this node, since an app has last reset it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stats = Stats::of(self);
        match &*lock(&self.reset_at) {
            Some(before) => stats.since(before),
            None => stats,
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        *lock(&self.reset_at) = Some(Stats::of(self));
    }

    /// Somebody has measured what it holds.
    pub fn set_measured(&self, bytes: u64, keys: u64) {
        for (slot, value) in self.measured.iter().zip([bytes, keys]) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    /// What it holds: bytes of keys and values, and how many keys, where that was measured.
    #[must_use]
    pub fn measured(&self) -> Option<(u64, u64)> {
        let [bytes, keys] = [0, 1].map(|at| self.measured[at].load(Ordering::Relaxed));
        (bytes != UNMEASURED && keys != UNMEASURED).then_some((bytes, keys))
    }

    /// Sessions that there have been on this node.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.client_ids.load(Ordering::Relaxed)
    }

    /// Open sessions on this node.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// One more session, with its CLIENT ID; `None` when there are as many as may be.
    pub fn enter(&self) -> Option<u64> {
        self.may_enter()
            .then(|| self.client_ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// One more session that another process gave this CLIENT ID, if there may be one.
    pub fn enter_again(&self, id: u64) -> bool {
        self.skip_ids(id);
        self.may_enter()
    }

    /// No session is given an id up to this one: another process has.
    pub fn skip_ids(&self, id: u64) {
        self.client_ids.fetch_max(id, Ordering::Relaxed);
    }

    fn may_enter(&self) -> bool {
        let most = self.limits.connections();
        let enter = |open: usize| (most == 0 || open < most).then_some(open + 1);
        self.sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter)
            .is_ok()
    }

    /// One session less.
    pub fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Patterns and how many sessions subscribe to each, for PUBSUB NUMPAT.
#[derive(Debug, Default)]
pub struct Patterns(Mutex<HashMap<Vec<u8>, usize>>);

impl Patterns {
    /// One more session subscribes to a pattern.
    pub fn add(&self, pattern: &[u8]) {
        *lock(&self.0).entry(pattern.to_vec()).or_default() += 1;
    }

    /// One session less does.
    pub fn remove(&self, pattern: &[u8]) {
        let mut counts = lock(&self.0);
        if let Some(count) = counts.get_mut(pattern) {
            *count -= 1;
            if *count == 0 {
                counts.remove(pattern);
            }
        }
    }

    /// How many different patterns there are.
    #[must_use]
    pub fn distinct(&self) -> usize {
        lock(&self.0).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    fn store(limits: registry::Limits) -> Store {
        let prefix = Prefix::parse("{abcde}").unwrap();
        let slug = Slug::try_from("shop".to_owned()).unwrap();
        let nobody = Credentials {
            user: String::new(),
            password: String::new(),
        };
        Store::new(
            0,
            &slug,
            &Record::new(prefix, limits),
            nobody.clone(),
            nobody,
        )
    }

    #[test]
    fn sessions_are_counted_up_to_the_limit() {
        let store = store(registry::Limits {
            connections: Some(2),
            ..registry::Limits::default()
        });
        assert_eq!(store.enter(), Some(1));
        assert_eq!(store.enter(), Some(2));
        assert_eq!(store.enter(), None);
        store.leave();
        assert_eq!(store.enter(), Some(3), "ids are not used twice");
        assert_eq!(store.sessions(), 2);
        assert!(
            !store.enter_again(9),
            "the limit holds for those that go on"
        );
        store.leave();
        assert!(store.enter_again(9));
        store.leave();
        assert_eq!(store.enter(), Some(10));
    }

    #[test]
    fn a_token_is_asked_for_where_there_is_one() {
        let store = store(registry::Limits::default());
        assert!(store.opens_with(b"anything") && !store.has_token());
        let mut record = Record::new(store.prefix.clone(), registry::Limits::default());
        record.token = Some(TokenDigest::of(b"secret"));
        store.follow(&record);
        assert!(store.opens_with(b"secret") && !store.opens_with(b"anything"));
    }

    #[test]
    fn a_renamed_store_is_found_by_both_names() {
        let store = store(registry::Limits::default());
        let new = Slug::try_from("store".to_owned()).unwrap();
        store.rename(&new, &[store.slug()]);
        assert_eq!(store.slug(), new);
        assert!(store.is_called(b"shop") && store.is_called(b"store") && !store.is_called(b"stor"));
    }
}
