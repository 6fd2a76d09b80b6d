//! What stores hold, as one agent has measured it for all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use flect_agent::accountant::{ROUND, ROUND_ID};
use flect_agent::registry::USAGE;
use flect_agent::store::Prefix;

use super::Keeper;
use crate::node::Usage;

/// What was read last.
#[derive(Default)]
pub struct Measured {
    /// The round of measuring that it was, where it is known.
    round: Option<String>,
    /// Whose measurements were asked for.
    stores: HashSet<Prefix>,
}

impl Measured {
    /// Whether there can be nothing new for these stores.
    fn is_of<'a>(&self, round: Option<&str>, mut stores: impl Iterator<Item = &'a Prefix>) -> bool {
        round.is_some()
            && self.round.as_deref() == round
            && stores.all(|prefix| self.stores.contains(prefix))
    }
}

impl Keeper {
    /// Tells the workers which stores hold more than they may. A store that nobody has measured holds nothing too
    /// much.
    pub(super) async fn look_at_usage(&mut self) {
        let Some(usage) = self.usage().await else {
            return;
        };
        for (prefix, store) in self.stores.served() {
            let limit = store.limits.get().memory_bytes;
            let held = usage.get(prefix).map(|usage| usage.memory_bytes);
            let exceeded = matches!((held, limit), (Some(held), Some(limit)) if held > limit);
            if exceeded != store.limits.memory_exceeded() {
                tracing::info!(store = %store.slug(), held, limit, exceeded, "memory limit");
            }
            store.limits.set_memory_exceeded(exceeded);
            if let Some(usage) = usage.get(prefix) {
                store.set_measured(usage.memory_bytes, usage.keys);
            }
        }
        self.node.usage.store(usage);
    }

    /// What stores hold, read anew where it may be another; `None` when the server does not tell.
    async fn usage(&mut self) -> Option<Arc<HashMap<Prefix, Usage>>> {
        let served = self.stores.served();
        if served.is_empty() {
            return Some(Arc::default());
        }
        let mut question = redis::cmd("HGET");
        question.arg(ROUND).arg(ROUND_ID);
        let mut connection = self.admin.connection();
        let round: Option<String> = question.query_async(&mut connection).await.ok()?;
        if self.measured.is_of(round.as_deref(), served.keys()) {
            return Some(self.node.usage.load_full());
        }
        // Those of all stores of a large environment are a megabyte.
        let stores: Vec<&Prefix> = served.keys().collect();
        let mut question = redis::cmd("HMGET");
        question.arg(USAGE);
        for prefix in &stores {
            question.arg(prefix.as_str());
        }
        let texts: Vec<Option<String>> = question.query_async(&mut connection).await.ok()?;
        let usage = stores.iter().zip(texts).filter_map(|(prefix, text)| {
            Some(((*prefix).clone(), serde_json::from_str(&text?).ok()?))
        });
        let usage = Arc::new(usage.collect());
        self.measured = Measured {
            round,
            stores: stores.into_iter().cloned().collect(),
        };
        Some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_round_is_read_once_for_the_same_stores() {
        let [one, two] = ["{aaaaa}", "{bbbbb}"].map(|text| Prefix::parse(text).unwrap());
        let measured = Measured {
            round: Some("1".to_owned()),
            stores: HashSet::from([one.clone()]),
        };
        let is_of = |round, stores: &[&Prefix]| measured.is_of(round, stores.iter().copied());
        assert!(is_of(Some("1"), &[&one]));
        assert!(is_of(Some("1"), &[]));
        assert!(!is_of(Some("2"), &[&one]));
        assert!(!is_of(Some("1"), &[&one, &two]));
        // Nobody has measured, or an older release: whatever is written is read.
        assert!(!is_of(None, &[&one]));
        assert!(!Measured::default().is_of(None, [&one].into_iter()));
    }
}
