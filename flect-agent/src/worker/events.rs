//! Keyspace and keyevent notifications of a store.
//!
//! The server knows one database and tells of every store's keys, so no session subscribes to its
//! notifications. One connection per store listens to those of the store's own keys, and the agent
//! makes the messages of them that a private Valkey would send, by the store's own flags.
//!
//! Invariant: a session hears only of keys behind its store's prefix; a subscription that may match a
//! notification is confirmed only once the store's listener is in place; a session that listens is replied to
//! only when it has heard of what happened before.

mod classes;
mod glob;

use super::Worker;
use super::arena::Key;
use super::lanes;
use super::session::{Gate, Lane, Session};
use super::upstream::{Recipient, Role, Upstream};
use crate::commands::Command;
use crate::environment::settings::events as flags;
use crate::resp::request::Request;
use crate::resp::{Protocol, encode, number};
use crate::rewrite::reply::ReplyPlan;
use crate::store::Prefix;

/// What notifications of either kind begin with.
const KINDS: [&[u8]; 2] = [b"__keyspace@", b"__keyevent@"];

/// Notifications that may wait for one client; past this it is disconnected, as at Valkey's
/// client-output-buffer-limit for subscribers.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Notifications that wait for the replies of a busy client's own requests.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// A longer notification is about a key of that length: it is left out.
pub(super) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A store's listener in one worker.
#[derive(Default)]
pub struct Listener {
    pub upstream: Option<Key<Upstream>>,
    ready: bool,
    waiting: Vec<Key<Session>>,
    /// Sessions that may want to hear of something.
    interested: Vec<Key<Session>>,
    /// A `rename_from` whose other half comes next.
    renamed: Option<Event>,
}

/// One thing that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    name: Vec<u8>,
    database: u32,
    key: Vec<u8>,
}

/// The channels that the store's user may listen to.
pub(crate) fn patterns(prefix: &Prefix) -> [String; 2] {
    [':', '/'].map(|separator| format!("__keyspace@0__:{prefix}{separator}*"))
}

/// Whether a channel may be one of notifications.
pub(super) fn concerns_channel(channel: &[u8]) -> bool {
    KINDS.iter().any(|kind| channel.starts_with(kind))
}

/// Whether a pattern may match one.
pub(super) fn concerns_pattern(pattern: &[u8]) -> bool {
    let head = glob::head(pattern);
    KINDS
        .iter()
        .any(|kind| kind.starts_with(head) || head.starts_with(kind))
}

impl Worker {
    /// Whether a subscription may be sent on: what may match a notification waits for the listener.
    pub(super) fn listens(
        &mut self,
        key: Key<Session>,
        command: &Command,
        request: &Request<'_>,
    ) -> bool {
        let concerns = match command.name {
            "subscribe" => concerns_channel,
            "psubscribe" => concerns_pattern,
            _ => return true,
        };
        if !request.args().skip(1).any(concerns) {
            return true;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return true;
        };
        let store = session.store.number;
        let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
            return true;
        };
        let listener = &mut lanes.listener;
        if !listener.interested.contains(&key) {
            listener.interested.push(key);
        }
        if listener.ready {
            return true;
        }
        listener.waiting.push(key);
        session.gate = Gate::Listener;
        if listener.upstream.is_none() {
            self.begin_listening(store);
        }
        false
    }

    /// Whether a request has to wait until its session has heard of all that happened before it, as a client
    /// of the server has when it is replied to: what others have done, and what its own last request has.
    /// The listener's connection answers a PING behind all that.
    pub(super) fn hears_first(&mut self, key: Key<Session>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        if session.heard || !session.hears_events() {
            return false;
        }
        if !session.is_idle() {
            session.gate = Gate::Idle;
            return true;
        }
        let listener = lanes::of(&mut self.stores, Some(session.store.number))
            .filter(|lanes| lanes.listener.ready)
            .and_then(|lanes| lanes.listener.upstream);
        let Some(listener) = listener else {
            return false;
        };
        session.gate = Gate::Listener;
        self.send_own(listener, b"*1\r\n$4\r\nPING\r\n", Recipient::Heard(key));
        true
    }

    /// All that it waited to hear of has been told, or never will be.
    pub(super) fn heard(&mut self, key: Key<Session>) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.heard = true;
            self.settle_events(key);
            self.open_gate(key, Gate::Listener);
        }
    }

    fn begin_listening(&mut self, store: usize) {
        let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
            return;
        };
        let credentials = lanes.store.credentials.clone();
        let patterns = patterns(&lanes.store.prefix);
        let upstream = self.connect(&credentials, Role::Listener, Protocol::Resp3, store);
        if let Some(lanes) = lanes::of(&mut self.stores, Some(store)) {
            lanes.listener.upstream = upstream;
        }
        let Some(key) = upstream else {
            return;
        };
        let mut request = Vec::new();
        let words = [
            b"PSUBSCRIBE",
            patterns[0].as_bytes(),
            patterns[1].as_bytes(),
        ];
        encode::request(&words, &mut request);
        self.send_own(key, &request, Recipient::Listening);
        let upstream = self.upstreams.get_mut(key);
        if let Some(owed) = upstream.and_then(|upstream| upstream.owed.back_mut()) {
            owed.plan = ReplyPlan::Pubsub;
            owed.frames = 2;
        }
    }

    /// The server has confirmed a listener's subscriptions.
    pub(super) fn listening(&mut self, key: Key<Upstream>) {
        let store = self.upstreams.get(key).and_then(|upstream| upstream.store);
        let Some(lanes) = lanes::of(&mut self.stores, store) else {
            return;
        };
        lanes.listener.ready = true;
        for session in std::mem::take(&mut lanes.listener.waiting) {
            self.open_gate(session, Gate::Listener);
        }
    }

    /// A listener's connection is gone; the next tick makes another.
    pub(super) fn listener_failed(&mut self, store: Option<usize>) {
        if let Some(lanes) = lanes::of(&mut self.stores, store) {
            lanes.listener.upstream = None;
            lanes.listener.ready = false;
            lanes.listener.renamed = None;
            tracing::warn!(store = %lanes.store.slug(), "the connection for keyspace notifications broke");
        }
    }

    /// Ends listeners that nobody needs, and makes those anew that broke.
    pub(super) fn look_after_listeners(&mut self) {
        for store in 0..self.stores.len() {
            let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
                continue;
            };
            let listener = &mut lanes.listener;
            let sessions = &self.sessions;
            listener.interested.retain(|key| {
                let session = sessions.get(*key);
                session.is_some_and(|s| s.store.number == store && s.wants_events())
            });
            let needed = !listener.interested.is_empty();
            match listener.upstream {
                Some(upstream) if !needed => {
                    *listener = Listener::default();
                    self.close_upstream(upstream);
                }
                None if needed => self.begin_listening(store),
                _ => {}
            }
        }
    }

    /// A whole message has come to a listener.
    pub(super) fn take_event(&mut self, upstream: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(upstream) else {
            return;
        };
        let frame = std::mem::take(&mut upstream.frame);
        let Some(lanes) = lanes::of(&mut self.stores, upstream.store) else {
            return;
        };
        let Some(event) = Event::read(&frame, &lanes.store.prefix) else {
            tracing::error!(store = %lanes.store.slug(), "a notification was not understood");
            return;
        };
        let Some(event) = event else {
            return;
        };
        let renamed = lanes.listener.renamed.take();
        if event.name == b"rename_from" {
            lanes.listener.renamed = Some(event);
            return;
        }
        let mut events = Vec::with_capacity(2);
        let mut event = event;
        if let Some(mut from) = renamed {
            // RENAME stays within a database, so this is the agent's way to MOVE.
            if event.name == b"rename_to" && event.database != from.database {
                from.name = b"move_from".to_vec();
                event.name = b"move_to".to_vec();
            }
            events.push(from);
        }
        events.push(event);
        let wanted = lanes.store.settings().notify_keyspace_events();
        let interested = lanes.listener.interested.clone();
        for event in events {
            let class = flags::parse(&[classes::of(&event.name)]).unwrap_or(0);
            if wanted & class == 0 {
                continue;
            }
            for (kind, channel, payload) in event.messages() {
                if wanted & kind != 0 {
                    for key in &interested {
                        self.tell_event(*key, &channel, payload);
                    }
                }
            }
        }
    }

    /// Tells a session of a message, as often as it subscribes to it: channels first, then patterns.
    fn tell_event(&mut self, key: Key<Session>, channel: &[u8], payload: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let protocol = session.protocol;
        let mut out = Vec::new();
        if session.event_channels.contains(channel) {
            encode::push(protocol, 3, &mut out);
            for part in [b"message".as_slice(), channel, payload] {
                encode::bulk(part, &mut out);
            }
        }
        for pattern in &session.patterns {
            if glob::matches(pattern, channel) {
                encode::push(protocol, 4, &mut out);
                for part in [b"pmessage".as_slice(), pattern, channel, payload] {
                    encode::bulk(part, &mut out);
                }
            }
        }
        if out.is_empty() {
            return;
        }
        session.events.extend_from_slice(&out);
        if session.out.len() + session.events.len() > WAITING_BYTES_MAX {
            tracing::warn!(store = %session.store.slug(), "a subscriber does not read its notifications; it is disconnected");
            self.close_session(key);
            return;
        }
        self.settle_events(key);
    }

    /// Lets notifications out that wait for a reply: what a client does itself, it hears of behind
    /// the reply, and never inside of one.
    pub(super) fn settle_events(&mut self, key: Key<Session>) {
        let blocked = match self.sessions.get(key).map(|session| session.lane) {
            Some(Lane::Own(upstream)) => self
                .upstreams
                .get(upstream)
                .is_some_and(|upstream| upstream.owed.front().is_some_and(|owed| owed.blocking)),
            _ => false,
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let late = blocked || session.events.len() > HELD_BYTES_MAX;
        if session.events.is_empty() || session.receiving || !(late || session.is_idle()) {
            return;
        }
        let events = std::mem::take(&mut session.events);
        session.out.tail().extend_from_slice(&events);
        self.queue_flush_session(key);
    }
}

impl Event {
    /// Reads `pmessage, pattern, __keyspace@0__:{id}:key, event`; `None` inside is of a name of the agent's
    /// own.
    fn read(frame: &[u8], prefix: &Prefix) -> Option<Option<Self>> {
        let mut rest = frame.strip_prefix(b">4\r\n")?;
        let mut parts: [&[u8]; 4] = [&[]; 4];
        for part in &mut parts {
            let end = memchr::memchr(b'\r', rest)?;
            let bytes = number::parse(rest.get(..end)?.strip_prefix(b"$")?)?;
            let start = end + 2;
            let end = start.checked_add(usize::try_from(bytes).ok()?)?;
            *part = rest.get(start..end)?;
            rest = rest.get(end + 2..)?;
        }
        let stored = parts[2].strip_prefix(b"__keyspace@0__:")?;
        let name = stored.strip_prefix(prefix.as_str().as_bytes())?;
        let (database, key) = match name.split_first()? {
            (b':', key) => (0, key),
            (b'/', rest) => {
                let end = memchr::memchr(b':', rest)?;
                let database = u32::try_from(number::parse(&rest[..end])?).ok()?;
                // Names of the agent's own stand where no database is (see scoped/gather.rs).
                if database == 0 {
                    return Some(None);
                }
                (database, &rest[end + 1..])
            }
            _ => return None,
        };
        Some(Some(Self {
            name: parts[3].to_vec(),
            database,
            key: key.to_vec(),
        }))
    }

    /// The messages of both kinds: the flag that wants them, the channel, the payload.
    fn messages(&self) -> [(u32, Vec<u8>, &[u8]); 2] {
        let channel = |kind: &[u8], name: &[u8]| {
            [kind, format!("{}__:", self.database).as_bytes(), name].concat()
        };
        [
            (flags::KEYSPACE, channel(KINDS[0], &self.key), &self.name),
            (flags::KEYEVENT, channel(KINDS[1], &self.name), &self.key),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(channel: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode::push(Protocol::Resp3, 4, &mut out);
        for part in ["pmessage", "p", channel, "set"] {
            encode::bulk(part, &mut out);
        }
        out
    }

    #[test]
    fn keys_lose_the_prefix_and_tell_their_database() {
        let prefix = Prefix::parse("{s}").unwrap();
        let read = |channel: &str| {
            Event::read(&frame(channel), &prefix)
                .map(|e| e.map(|e| (e.database, String::from_utf8(e.key).unwrap())))
        };
        let event = |database, key: &str| Some(Some((database, key.to_owned())));
        assert_eq!(read("__keyspace@0__:{s}:a:b"), event(0, "a:b"));
        assert_eq!(read("__keyspace@0__:{s}/12:a"), event(12, "a"));
        assert_eq!(read("__keyspace@0__:{s}/0:a"), Some(None));
        for foreign in [
            "__keyspace@0__:{t}:a",
            "__keyspace@1__:{s}:a",
            "{s}:a",
            "__keyspace@0__:{s}x:a",
        ] {
            assert_eq!(read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn patterns_that_may_match_are_known() {
        for pattern in [
            "*",
            "",
            "__key*__:*",
            "__keyspace@0__:k",
            "?",
            "[_]",
            "_",
            "\\_",
            "__keyevent@*:del",
        ] {
            assert!(concerns_pattern(pattern.as_bytes()), "{pattern}");
        }
        for pattern in ["news*", "__keyspaces*", "k"] {
            assert!(!concerns_pattern(pattern.as_bytes()), "{pattern}");
        }
    }
}
