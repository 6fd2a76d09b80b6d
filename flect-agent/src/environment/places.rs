//! Which workers a store's sessions are with. Each worker that has some has connections to Valkey of its own for
//! the store, and requests are put together only where they meet: so few workers, and more with more sessions.

use std::sync::{Arc, Mutex};

use super::lock;

/// Sessions of a store for which one more worker is used. Requests of so many, each waiting for its reply, are
/// about what one worker carries.
const SESSIONS_A_WORKER: usize = 16;

/// How many sessions of one store each worker has, by the worker's number.
#[derive(Debug, Default)]
pub struct Places(Mutex<Vec<usize>>);

/// One session of a store with a worker, counted until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    worker: usize,
}

impl Places {
    /// A place for one more session, where `loads` are all sessions of each worker; `None` without workers.
    #[must_use]
    pub fn choose(self: &Arc<Self>, loads: &[usize]) -> Option<Place> {
        let mut counts = lock(&self.0);
        if counts.len() < loads.len() {
            counts.resize(loads.len(), 0);
        }
        let worker = choice(&counts, loads)?;
        counts[worker] += 1;
        Some(self.place(worker))
    }

    /// A place with this worker.
    #[must_use]
    pub fn take(self: &Arc<Self>, worker: usize) -> Place {
        let mut counts = lock(&self.0);
        if counts.len() <= worker {
            counts.resize(worker + 1, 0);
        }
        counts[worker] += 1;
        self.place(worker)
    }

    fn place(self: &Arc<Self>, worker: usize) -> Place {
        Place {
            places: self.clone(),
            worker,
        }
    }
}

/// The worker for one more session: one that has some of the store already, while they are few enough; no other is
/// much less busy.
fn choice(counts: &[usize], loads: &[usize]) -> Option<usize> {
    let workers = || 0..loads.len();
    let least = workers().min_by_key(|&worker| loads[worker])?;
    let used = workers().filter(|&worker| counts[worker] > 0).count();
    let sessions: usize = counts.iter().sum();
    if used <= sessions / SESSIONS_A_WORKER {
        let fresh = workers().filter(|&worker| counts[worker] == 0);
        return fresh.min_by_key(|&worker| loads[worker]).or(Some(least));
    }
    let known = workers().filter(|&worker| counts[worker] > 0);
    let known = known.min_by_key(|&worker| (counts[worker], loads[worker]))?;
    let busy = loads[known] > 2 * loads[least] + SESSIONS_A_WORKER;
    Some(if busy { least } else { known })
}

impl Place {
    /// The worker's number.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn is_of(&self, places: &Arc<Places>) -> bool {
        Arc::ptr_eq(&self.places, places)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.0)[self.worker] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(places: &Places) -> Vec<usize> {
        lock(&places.0).clone()
    }

    #[test]
    fn few_sessions_stay_together_and_many_are_spread() {
        let places = Arc::new(Places::default());
        let mut loads = vec![5, 3, 4, 9];
        let mut taken = Vec::new();
        let mut connect = |loads: &mut Vec<usize>| {
            let place = places.choose(loads).unwrap();
            loads[place.worker()] += 1;
            taken.push(place);
        };
        for _ in 0..16 {
            connect(&mut loads);
        }
        assert_eq!(counts(&places), [0, 16, 0, 0]);
        for _ in 16..32 {
            connect(&mut loads);
        }
        assert_eq!(counts(&places), [0, 16, 16, 0]);
        for _ in 32..100 {
            connect(&mut loads);
        }
        // All workers are used, and the least busy gets the next one whatever its store is.
        assert_eq!(loads, [31, 30, 30, 30]);
        assert_eq!(counts(&places), [26, 27, 26, 21]);
        drop(taken);
        assert_eq!(counts(&places), [0, 0, 0, 0]);
    }

    #[test]
    fn a_busy_worker_gets_no_more() {
        let places = Arc::new(Places::default());
        let first = places.choose(&[0, 0]).unwrap();
        assert_eq!(first.worker(), 0);
        assert_eq!(places.choose(&[25, 5]).unwrap().worker(), 0);
        assert_eq!(places.choose(&[27, 5]).unwrap().worker(), 1);
    }

    #[test]
    fn stores_with_a_session_each_are_spread() {
        let mut loads = vec![0; 4];
        for _ in 0..40 {
            let place = Arc::new(Places::default()).choose(&loads).unwrap();
            loads[place.worker()] += 1;
        }
        assert_eq!(loads, [10, 10, 10, 10]);
    }

    #[test]
    fn without_workers_there_is_no_place() {
        assert!(Arc::new(Places::default()).choose(&[]).is_none());
        let places = Arc::new(Places::default());
        let third = places.take(3);
        assert_eq!(counts(&places), [0, 0, 0, 1]);
        assert!(third.is_of(&places) && third.worker() == 3);
    }
}
