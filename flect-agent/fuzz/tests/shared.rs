//! What threads share without a lock, in every order that the memory model allows (loom).
//!
//! The files are the product's own: they take their atomics from their parent, which here has loom's.
//!
//! Invariant: each test's model has more than one outcome, so that it looks at orders and not at one run.

use std::time::Duration;

use loom::sync::{Arc, atomic};
use loom::thread;

#[path = "../../src/metrics/counter.rs"]
mod counter;
#[path = "../../src/environment/pause.rs"]
mod pause;

use counter::Counter;
use pause::Pause;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two workers pause a store at once: the longer end and the stricter kind win, whoever comes first.
#[test]
fn two_pauses_at_once_are_the_stricter_of_both() {
    loom::model(|| {
        let pause = Arc::new(Pause::default());
        let other = Arc::clone(&pause);
        let long = thread::spawn(move || other.extend(ms(1), ms(900), false));
        pause.extend(ms(1), ms(500), true);
        long.join().expect("it ends");
        assert_eq!(pause.remaining(ms(100)), Some((ms(800), true)));
    });
}

/// A worker that reads while another pauses sees one pause or the other, whole.
#[test]
fn a_reader_sees_a_pause_in_one_piece() {
    loom::model(|| {
        let pause = Arc::new(Pause::default());
        let other = Arc::clone(&pause);
        let writer = thread::spawn(move || {
            other.extend(ms(1), ms(500), false);
            other.extend(ms(600), ms(900), true);
        });
        let seen = pause.remaining(ms(100));
        let whole = [None, Some((ms(400), false)), Some((ms(800), true))];
        assert!(whole.contains(&seen), "{seen:?}");
        writer.join().expect("it ends");
    });
}

/// A count that one thread raises never goes back for who reads it, and nothing is lost.
#[test]
fn a_count_never_goes_back() {
    loom::model(|| {
        let count = Arc::new(Counter::default());
        let owner = Arc::clone(&count);
        let writer = thread::spawn(move || {
            owner.add(1);
            owner.add(2);
            owner.raise(7);
            owner.raise(5);
        });
        let (first, second) = (count.get(), count.get());
        assert!([0, 1, 3, 7].contains(&first) && first <= second);
        writer.join().expect("it ends");
        assert_eq!(count.get(), 7);
    });
}

/// One after the other, as one worker hears of them.
#[test]
fn a_pause_becomes_neither_shorter_nor_milder() {
    loom::model(|| {
        let pause = Pause::default();
        assert!(!pause.is_set());
        pause.extend(ms(0), ms(500), false);
        assert_eq!(pause.remaining(ms(100)), Some((ms(400), false)));
        pause.extend(ms(100), ms(200), true);
        assert_eq!(pause.remaining(ms(100)), Some((ms(400), true)));
        pause.extend(ms(100), ms(900), false);
        assert_eq!(pause.remaining(ms(100)), Some((ms(800), true)));
        assert_eq!(pause.remaining(ms(900)), None);
        pause.extend(ms(1000), ms(1100), false);
        assert_eq!(pause.remaining(ms(1000)), Some((ms(100), false)));
        pause.end();
        assert!(!pause.is_set() && pause.remaining(ms(1000)).is_none());
    });
}
