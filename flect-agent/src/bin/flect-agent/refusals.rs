//! The last connections that were refused, for `flect status`, `flect doctor` and the status page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use flect_agent::metrics::Refusal;

/// Enough to see a pattern, few enough to be read.
const KEPT_MAX: usize = 50;

/// A ring of refusals, the newest last.
#[derive(Default)]
pub struct Refusals(Mutex<VecDeque<Refusal>>);

impl Refusals {
    /// Notes one; the cgroup is unknown for connections of explicit mode and for vanished processes.
    pub fn note(&self, cgroup: Option<&str>, reason: &str) {
        let refusal = Refusal {
            at_ms: crate::metrics::now_ms(),
            cgroup: cgroup.unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(refusal);
    }

    /// All that are kept, oldest first.
    pub fn list(&self) -> Vec<Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
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
        assert_eq!(list[0].reason, "3");
    }
}
