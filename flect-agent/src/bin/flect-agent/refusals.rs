//! The last connections that were refused, for `flect status`, `flect doctor` and the status page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Enough to see a pattern, few enough to be read.
const KEPT_MAX: usize = 50;

/// A ring of refusals, the newest last.
#[derive(Default)]
pub struct Refusals(Mutex<VecDeque<Refusal>>);

struct Refusal {
    at_ms: u64,
    cgroup: Option<String>,
    reason: String,
}

impl Refusals {
    /// Notes one; `cgroup` is unknown for connections of explicit mode and for vanished processes.
    pub fn note(&self, cgroup: Option<&str>, reason: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let refusal = Refusal {
            at_ms: since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0)),
            cgroup: cgroup.map(str::to_owned),
            reason: reason.to_owned(),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(refusal);
    }

    /// All that are kept, oldest first.
    pub fn list(&self) -> Vec<Value> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = kept.iter().map(|refusal| {
            json!({
                "at_ms": refusal.at_ms,
                "cgroup": refusal.cgroup,
                "reason": refusal.reason,
            })
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let refusals = Refusals::default();
        for number in 0..KEPT_MAX + 3 {
            refusals.note(Some("/a"), &number.to_string());
        }
        let list = refusals.list();
        assert_eq!(list.len(), KEPT_MAX);
        assert_eq!(list[0]["reason"], "3");
    }
}
