//! CONFIG GET: settings of the server that an app may know, and the store's own.

mod known;

use super::walk::misunderstood;
use super::{Context, Reply, Step, Target, ask};
use crate::environment::{Setting, Store};
use crate::resp::encode;
use known::{AS_FRESH, SHOWN};

/// What a store has otherwise than its server.
#[derive(Clone, Debug, Default)]
pub struct View {
    own: Vec<(Setting, i64)>,
    memory_bytes: Option<u64>,
    connections: Option<u32>,
    /// The port that the app connected to.
    port: u16,
    /// How many databases SELECT reaches, which are no matter of the server's.
    databases: u32,
}

impl View {
    /// A store of so many databases as an app sees it that connected to this port.
    #[must_use]
    pub fn of(store: &Store, port: u16, databases: u32) -> Self {
        let limits = store.limits.get();
        Self {
            own: store.settings().all().collect(),
            memory_bytes: limits.memory_bytes,
            connections: limits.connections,
            port,
            databases,
        }
    }

    /// The store's value of one of its own settings.
    pub(super) fn own(&self, setting: Setting) -> Option<i64> {
        let mut own = self.own.iter();
        own.find(|(known, _)| *known == setting)
            .map(|(_, value)| *value)
    }

    /// The value that an app may know of a setting, whose name the server has and whose value there is
    /// this; `None` for what is the operator's alone.
    pub(super) fn value(&self, name: &[u8], on_server: &[u8]) -> Option<Vec<u8>> {
        if let Some(setting) = Setting::find(name) {
            return Some(setting.text(self.own(setting)?).into_bytes());
        }
        let name = name.to_ascii_lowercase();
        let fresh = AS_FRESH.iter().find(|(fresh, _)| fresh.as_bytes() == name);
        if let Some((_, value)) = fresh {
            return Some(value.as_bytes().to_vec());
        }
        let number = match name.as_slice() {
            b"maxmemory" => self.memory_bytes.map(|bytes| bytes.to_string()),
            b"maxclients" => self.connections.map(|count| count.to_string()),
            b"port" => Some(self.port.to_string()),
            b"databases" => Some(self.databases.to_string()),
            _ => None,
        };
        if let Some(number) = number {
            return Some(number.into_bytes());
        }
        let shown = SHOWN.iter().any(|shown| shown.as_bytes() == name);
        shown.then(|| on_server.to_vec())
    }
}

/// A CONFIG GET under way.
#[derive(Debug)]
pub struct Settings {
    patterns: Vec<Vec<u8>>,
    view: View,
}

impl Settings {
    /// The app's patterns; the server matches them.
    #[must_use]
    pub fn new(patterns: Vec<Vec<u8>>, view: View) -> Self {
        Self { patterns, view }
    }

    pub(super) fn ask(&self) -> Step {
        get(self.patterns.iter().map(Vec::as_slice))
    }

    pub(super) fn take(&self, reply: &Reply, context: &Context) -> Step {
        let Some(found) = pairs(reply) else {
            return misunderstood();
        };
        let shown: Vec<(&[u8], Vec<u8>)> = found
            .into_iter()
            .filter_map(|(name, value)| Some((name, self.view.value(name, value)?)))
            .collect();
        let mut out = Vec::new();
        encode::map(context.protocol, shown.len(), &mut out);
        for (name, value) in shown {
            encode::bulk(name, &mut out);
            encode::bulk(value, &mut out);
        }
        Step::Done(out)
    }
}

/// The question what settings the server has.
pub(super) fn get<'n>(names: impl Iterator<Item = &'n [u8]>) -> Step {
    let mut words: Vec<&[u8]> = vec![b"CONFIG", b"GET"];
    words.extend(names);
    ask(Target::Housekeeper, &words)
}

/// Names and values in the reply to that.
pub(super) fn pairs(reply: &Reply) -> Option<Vec<(&[u8], &[u8])>> {
    let Reply::Array(items) = reply else {
        return None;
    };
    let pairs = items.chunks_exact(2);
    pairs
        .map(|pair| Some((pair[0].bytes()?, pair[1].bytes()?)))
        .collect()
}
