//! What a request costs in the code that no system call is part of: scanner, command table, rewriters.
//!
//! Run alone it tells nanoseconds by the clock, which are this machine's and this moment's. Under callgrind,
//! as `cargo xtask instructions` starts it, it marks where cases begin and end, and callgrind writes down the
//! instructions between two marks: the same numbers each time. One line a case, tabs between the fields.
//!
//! Invariant: both run the same code in the same order, and nothing else lies between a case's marks.

mod cases;

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cases::Case;

/// Runs of a case between its marks, under callgrind, which simulates: so few that all cases take a second,
/// so many that what a mark itself costs does not show.
const COUNTED: u32 = 50;

/// Runs that find out how long a case takes by the clock.
const TIME: Duration = Duration::from_millis(20);

fn main() {
    let counts = env::args().nth(1).as_deref() == Some("counted");
    for mut case in cases::all() {
        // What is made once, such as the command table and the buffers, is not a request's.
        (case.run)();
        (case.run)();
        let told = if counts {
            mark();
            for _ in 0..COUNTED {
                (case.run)();
            }
            mark();
            COUNTED.to_string()
        } else {
            format!("{:.1}", nanoseconds(&mut case))
        };
        let Case {
            part,
            name,
            by,
            bytes,
            ..
        } = case;
        println!("{part}\t{name}\t{}\t{bytes}\t{told}", by.word());
    }
}

/// callgrind dumps what it has counted whenever this is called. It must stay a function with this name, and
/// not become another's twin: so it does something of its own.
#[inline(never)]
fn mark() {
    static MARKS: AtomicU32 = AtomicU32::new(0);
    MARKS.fetch_add(1, Ordering::SeqCst);
}

/// What one run takes, as the fastest of several goes: others only ever make it slower.
fn nanoseconds(case: &mut Case) -> f64 {
    let mut fastest = f64::INFINITY;
    let mut runs = 1;
    let start = Instant::now();
    while start.elapsed() < TIME {
        let begin = Instant::now();
        for _ in 0..runs {
            (case.run)();
        }
        let took = begin.elapsed();
        fastest = fastest.min(took.as_secs_f64() * 1e9 / f64::from(runs));
        if took < TIME / 20 {
            runs *= 2;
        }
    }
    fastest
}
