//! What a store's scripts are called by the app and by the server.
//!
//! Invariant: bounded, whatever texts an app makes up. A script that has been forgotten is unknown to
//! the app, as one that the server has dropped would be; it sends the text again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::wide::{self, Walks};
use super::{Asks, Declared, GENERIC, Sha, Shim};
use crate::store::Prefix;

/// Texts that are kept for a store: a few times what a large application has. The server keeps 500 of
/// those that came with EVAL.
const TEXTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Names that are kept for a store, some hundred bytes each.
const NAMES_MAX: usize = 4096;

/// What SCRIPT LOAD may bring to the server for a store, in bytes of the server's text: some hundred scripts.
/// The server keeps each until it restarts or is told to forget all stores' scripts, and counts them for nobody;
/// what comes with EVAL it forgets by itself.
const LOADED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a script's text is sent after the server had not got it: what the server drops time and again,
/// since it keeps 500 of all stores' scripts, costs a second way there once a second at most.
const TEXTS_FOR: Duration = Duration::from_secs(1);

/// How long a store's scripts are taken for known without asking whether another node has flushed them.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// A store's scripts on this node.
#[derive(Debug, Default)]
pub struct Scripts {
    shim: OnceLock<Shim>,
    known: Mutex<Inner>,
    functions: Mutex<Functions>,
}

/// What is known of the store's functions: of those that are not here, nothing.
#[derive(Debug, Default)]
struct Functions {
    known: HashMap<Vec<u8>, (Option<Asks>, Declared)>,
    asked: Option<Instant>,
}

#[derive(Debug, Default)]
struct Inner {
    scripts: HashMap<Sha, Script>,
    /// The oldest first.
    order: VecDeque<Sha>,
    texts_bytes: usize,
    /// What SCRIPT LOAD has brought, by the server's names.
    loaded: HashSet<Sha>,
    loaded_bytes: usize,
    /// The last SCRIPT FLUSH that is known of.
    flush: Vec<u8>,
    asked: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Script {
    server: Sha,
    /// Whether it asks for names that the agent walks for.
    walks: Walks,
    /// Whether it has come to the server for good: what is only queued in a transaction, the app does not
    /// know yet.
    run: bool,
    /// The app's text and the server's; not there when another node had them.
    texts: Option<Arc<[Vec<u8>; 2]>>,
    /// From when on EVAL is sent by its name, by the workers' clock, once its text has been sent.
    named_from: Option<Duration>,
}

/// A script whose text is at hand.
#[derive(Debug, Clone)]
pub struct Known {
    /// What the app calls it.
    pub app: Sha,
    /// What the server calls it.
    pub server: Sha,
    texts: Arc<[Vec<u8>; 2]>,
}

impl Known {
    /// The app's text.
    #[must_use]
    pub fn app_text(&self) -> &[u8] {
        &self.texts[0]
    }

    /// The server's text.
    #[must_use]
    pub fn server_text(&self) -> &[u8] {
        &self.texts[1]
    }
}

impl Script {
    /// It, if its text is here.
    fn known(&self, app: Sha) -> Option<Known> {
        Some(Known {
            app,
            server: self.server,
            texts: self.texts.clone()?,
        })
    }
}

impl Scripts {
    /// The script of this text, which is known from now on; of one that is `queued`, the app knows when its
    /// transaction has been carried out and has told so by [`Self::learn`].
    pub fn prepare(&self, text: &[u8], prefix: &Prefix, databases: u32, queued: bool) -> Known {
        let app = Sha::of(text);
        if let Some(known) = self.known(app, !queued) {
            return known;
        }
        let shim = self.shim.get_or_init(|| Shim::new(prefix, databases));
        let server_text = shim.transform(text);
        let known = Known {
            app,
            server: Sha::of(&server_text),
            texts: Arc::new([text.to_vec(), server_text]),
        };
        let script = Script {
            server: known.server,
            walks: wide::walks(text),
            run: !queued,
            texts: Some(known.texts.clone()),
            named_from: None,
        };
        self.lock().keep(app, script);
        known
    }

    /// Whether SCRIPT LOAD may bring this script to the server, which it is taken to do then.
    #[must_use]
    pub fn may_load(&self, known: &Known) -> bool {
        let mut inner = self.lock();
        if inner.loaded.contains(&known.server) {
            return true;
        }
        let bytes = inner.loaded_bytes + known.server_text().len();
        if bytes > LOADED_BYTES_MAX {
            return false;
        }
        inner.loaded_bytes = bytes;
        inner.loaded.insert(known.server)
    }

    /// The script that the app calls so, if its text is here.
    #[must_use]
    pub fn get(&self, app: Sha) -> Option<Known> {
        let inner = self.lock();
        let script = inner.scripts.get(&app).filter(|script| script.run)?;
        script.known(app)
    }

    /// The same, whether it has been run or not, and from now on it has if it `runs`.
    fn known(&self, app: Sha, runs: bool) -> Option<Known> {
        let mut inner = self.lock();
        let script = inner.scripts.get_mut(&app)?;
        let known = script.known(app)?;
        script.run |= runs;
        Some(known)
    }

    /// What the server calls the script that the app calls so.
    #[must_use]
    pub fn find(&self, app: Sha) -> Option<Sha> {
        let inner = self.lock();
        let script = inner.scripts.get(&app).filter(|script| script.run)?;
        Some(script.server)
    }

    /// Whether the script asks for names that the agent walks for, as far as is known.
    #[must_use]
    pub fn walks(&self, app: Sha) -> Walks {
        self.lock()
            .scripts
            .get(&app)
            .map_or(Walks::No, |script| script.walks)
    }

    /// Whether an EVAL of the script goes by its name: the server is taken to have it from the first EVAL on,
    /// which brings it the text. When told not to, the caller sends the text.
    #[must_use]
    pub fn goes_by_name(&self, app: Sha, now: Duration) -> bool {
        let mut inner = self.lock();
        let Some(script) = inner.scripts.get_mut(&app) else {
            return false;
        };
        now >= *script
            .named_from
            .get_or_insert(now + Duration::from_nanos(1))
    }

    /// The server lacks the script: it goes with its text for a while.
    pub fn missed(&self, app: Sha, now: Duration) {
        if let Some(script) = self.lock().scripts.get_mut(&app) {
            script.named_from = Some(now + TEXTS_FOR);
        }
    }

    /// Another node has loaded a script, or a transaction has run it.
    pub fn learn(&self, app: Sha, server: Sha, walks: Walks) {
        let mut inner = self.lock();
        if let Some(script) = inner.scripts.get_mut(&app) {
            script.run = true;
        } else {
            let script = Script {
                server,
                walks,
                run: true,
                texts: None,
                named_from: None,
            };
            inner.keep(app, script);
        }
    }

    /// How many scripts the app knows, as far as this node does.
    #[must_use]
    pub fn count(&self) -> usize {
        let generic = Sha::of(GENERIC);
        let inner = self.lock();
        let run = inner.scripts.iter().filter(|(_, script)| script.run);
        // The agent's own is no app's.
        run.filter(|(app, _)| **app != generic).count()
    }

    /// Whether it is time to ask for the last SCRIPT FLUSH; whoever is told so asks.
    pub fn is_due(&self, now: Instant) -> bool {
        is_due(&mut self.lock().asked, now)
    }

    /// Whoever was told to ask could not.
    pub fn ask_again(&self) {
        self.lock().asked = None;
    }

    /// When the agent walks for the names that a function may ask for.
    #[must_use]
    pub fn function_asks(&self, name: &[u8]) -> Option<Asks> {
        self.functions().known.get(name)?.0
    }

    /// What a function has declared when it was registered.
    #[must_use]
    pub fn function_declares(&self, name: &[u8]) -> Declared {
        let functions = self.functions();
        let known = functions.known.get(name);
        known.map_or_else(Declared::default, |(_, declared)| *declared)
    }

    /// What a script declares whose text is here, queued or not.
    #[must_use]
    pub fn declares(&self, app: Sha) -> Declared {
        let known = self.known(app, false);
        known.map_or_else(Declared::default, |known| {
            Declared::of_script(known.app_text())
        })
    }

    /// Whether it is time to ask the server for the store's functions, which another node may have changed;
    /// whoever is told so asks.
    pub fn functions_are_due(&self, now: Instant) -> bool {
        let mut functions = self.functions();
        is_due(&mut functions.asked, now)
    }

    /// These are all functions that ask for names or declare something.
    pub fn learn_functions(&self, known: HashMap<Vec<u8>, (Option<Asks>, Declared)>) {
        self.functions().known = known;
    }

    /// The store's functions may be others than before.
    pub fn functions_changed(&self) {
        self.functions().asked = None;
    }

    fn functions(&self) -> MutexGuard<'_, Functions> {
        self.functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// This is the last SCRIPT FLUSH, by whatever name: all that was known before is forgotten.
    pub fn flushed(&self, flush: &[u8]) {
        let mut inner = self.lock();
        if inner.flush != flush {
            inner.scripts.clear();
            inner.order.clear();
            inner.texts_bytes = 0;
            inner.flush = flush.to_vec();
        }
    }

    /// Each change made under the lock is whole before anything can panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_due(asked: &mut Option<Instant>, now: Instant) -> bool {
    let due = asked.is_none_or(|asked| now.duration_since(asked) >= ASKED_FOR);
    if due {
        *asked = Some(now);
    }
    due
}

impl Inner {
    fn keep(&mut self, app: Sha, script: Script) {
        self.texts_bytes += bytes(&script);
        match self.scripts.insert(app, script) {
            Some(old) => self.texts_bytes -= bytes(&old),
            None => self.order.push_back(app),
        }
        while self.order.len() > NAMES_MAX || self.texts_bytes > TEXTS_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            if let Some(old) = self.scripts.remove(&oldest) {
                self.texts_bytes -= bytes(&old);
            }
        }
    }
}

fn bytes(script: &Script) -> usize {
    script
        .texts
        .as_ref()
        .map_or(0, |texts| texts.iter().map(Vec::len).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix() -> Prefix {
        Prefix::parse("{abc}").unwrap()
    }

    #[test]
    fn scripts_are_found_by_the_apps_name() {
        let scripts = Scripts::default();
        let known = scripts.prepare(b"return 1", &prefix(), 16, false);
        assert_eq!(known.app, Sha::of(b"return 1"));
        assert_eq!(known.server, Sha::of(known.server_text()));
        assert_eq!(scripts.find(known.app), Some(known.server));
        assert_eq!(scripts.find(known.server), None);
        scripts.learn(Sha::of(b"x"), known.server, Walks::No);
        assert_eq!(scripts.find(Sha::of(b"x")), Some(known.server));
        assert!(scripts.get(Sha::of(b"x")).is_none());
        scripts.flushed(b"1");
        assert_eq!(scripts.find(known.app), None);
        scripts.prepare(b"return 1", &prefix(), 16, false);
        scripts.flushed(b"1");
        assert!(scripts.find(known.app).is_some(), "not flushed since");
    }

    #[test]
    fn names_go_where_texts_have_gone() {
        let scripts = Scripts::default();
        let known = scripts.prepare(b"return 1", &prefix(), 16, false);
        let now = Duration::from_secs(5);
        assert!(!scripts.goes_by_name(known.app, now), "it brings the text");
        let later = now + Duration::from_millis(1);
        assert!(scripts.goes_by_name(known.app, later));
        scripts.missed(known.app, later);
        assert!(!scripts.goes_by_name(known.app, later));
        assert!(scripts.goes_by_name(known.app, later + TEXTS_FOR));
        scripts.flushed(b"1");
        assert!(!scripts.goes_by_name(known.app, later + TEXTS_FOR));
        scripts.prepare(b"return 1", &prefix(), 16, false);
        assert!(!scripts.goes_by_name(known.app, later + TEXTS_FOR));
    }

    #[test]
    fn what_is_queued_is_not_known_yet() {
        let scripts = Scripts::default();
        let queued = scripts.prepare(b"return 1", &prefix(), 16, true);
        assert_eq!(scripts.find(queued.app), None);
        assert!(scripts.get(queued.app).is_none());
        scripts.learn(queued.app, queued.server, Walks::No);
        assert_eq!(scripts.find(queued.app), Some(queued.server));
        scripts.prepare(b"return 1", &prefix(), 16, true);
        assert!(scripts.find(queued.app).is_some(), "it has been run before");
    }

    #[test]
    fn texts_are_bounded() {
        let scripts = Scripts::default();
        let text = |number: usize| format!("return {number}{}", " ".repeat(64 * 1024));
        for number in 0..100 {
            scripts.prepare(text(number).as_bytes(), &prefix(), 16, false);
        }
        let inner = scripts.lock();
        assert!(inner.texts_bytes <= TEXTS_BYTES_MAX && !inner.scripts.is_empty());
        assert_eq!(inner.scripts.len(), inner.order.len());
        drop(inner);
        assert_eq!(scripts.find(Sha::of(text(0).as_bytes())), None);
        assert!(scripts.find(Sha::of(text(99).as_bytes())).is_some());
    }

    #[test]
    fn flushes_elsewhere_are_asked_for_now_and_then() {
        let scripts = Scripts::default();
        let now = Instant::now();
        assert!(scripts.is_due(now));
        assert!(!scripts.is_due(now));
        assert!(scripts.is_due(now + ASKED_FOR));
    }
}
