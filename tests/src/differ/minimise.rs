//! Making a sequence that shows a difference short.
//!
//! Delta debugging: leave out ever smaller parts, then make what is left simple, as long as the
//! same kind of request still differs. Each candidate is played from the beginning on empty sides.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::duel::{Difference, Duel, Tally};
use super::step::{Act, Step};

/// How long it may take: a person waits for it.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Arguments longer than this are tried shorter.
const SHORT_BYTES: usize = 8;

/// A short sequence and what differs in it.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// What shows it.
    pub steps: Vec<Step>,
    /// What differs.
    pub difference: Difference,
    /// Whether the sequence showed it a second time.
    pub is_repeatable: bool,
}

/// Shortens a sequence that has shown a difference.
///
/// # Errors
/// When a side cannot be used at all.
pub fn minimise(duel: &Duel<'_>, steps: &[Step], difference: Difference) -> Result<Minimal> {
    let mut search = Search {
        duel,
        start: Instant::now(),
        best: Minimal {
            steps: steps.to_vec(),
            difference,
            is_repeatable: false,
        },
    };
    if !search.try_steps(steps.to_vec())? {
        return Ok(search.best);
    }
    search.best.is_repeatable = true;
    loop {
        let before = search.best.steps.clone();
        search.leave_out()?;
        search.simplify()?;
        if search.best.steps == before || search.is_late() {
            return Ok(search.best);
        }
    }
}

struct Search<'a> {
    duel: &'a Duel<'a>,
    start: Instant,
    best: Minimal,
}

/// One way to make a step simpler.
type Simplification = Box<dyn Fn(&mut Step)>;

impl Search<'_> {
    fn is_late(&self) -> bool {
        self.start.elapsed() > TIME_MAX
    }

    /// Takes a candidate when it shows the same.
    fn try_steps(&mut self, steps: Vec<Step>) -> Result<bool> {
        if self.is_late() {
            return Ok(false);
        }
        let found = self.duel.run(&steps, &mut Tally::default())?;
        match found {
            Some(difference) if difference.kind == self.best.difference.kind => {
                // What comes after the difference has no part in it.
                let mut steps = steps;
                let is_at_end = difference.step >= steps.len();
                if !is_at_end {
                    let mut end = difference.step + 1;
                    while end < steps.len()
                        && steps[end - 1]
                            .request()
                            .is_some_and(|request| request.joined)
                    {
                        end += 1;
                    }
                    steps.truncate(end);
                }
                self.best.steps = steps;
                self.best.difference = difference;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn leave_out(&mut self) -> Result<()> {
        let mut size = self.best.steps.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut steps = self.best.steps.clone();
                steps.drain(at..(at + size).min(steps.len()));
                if !self.try_steps(steps)? {
                    at += size;
                }
            }
            if size <= 1 {
                return Ok(());
            }
            size = size.div_ceil(2);
        }
    }

    fn simplify(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.best.steps.len() {
            let mut simpler: Vec<Simplification> = vec![
                Box::new(|step| step.client = 'a'),
                Box::new(|step| change(step, |request| request.joined = false)),
                Box::new(|step| change(step, |request| request.cuts.clear())),
            ];
            let count = self.best.steps[at].request().map_or(0, |r| r.args.len());
            for arg in (1..count).rev() {
                simpler.push(Box::new(move |step| {
                    change(step, |request| {
                        if arg < request.args.len() {
                            request.args.remove(arg);
                        }
                    });
                }));
                simpler.push(Box::new(move |step| {
                    change(step, |request| {
                        if let Some(arg) = request.args.get_mut(arg)
                            && arg.len() > SHORT_BYTES
                        {
                            arg.truncate(SHORT_BYTES);
                        }
                    });
                }));
            }
            for make_simpler in simpler {
                let mut steps = self.best.steps.clone();
                let Some(step) = steps.get_mut(at) else {
                    break;
                };
                make_simpler(step);
                if steps != self.best.steps {
                    self.try_steps(steps)?;
                }
            }
            at += 1;
        }
        Ok(())
    }
}

fn change(step: &mut Step, with: impl FnOnce(&mut super::step::Request)) {
    if let Act::Send(request) = &mut step.act {
        with(request);
    }
}
