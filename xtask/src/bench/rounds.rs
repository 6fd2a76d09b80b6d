//! The interleaved run: in each round every side does the case once, in another order each time, and direct
//! Valkey does it twice.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use flect_tests::tools::Programs;
use indicatif::{ProgressBar, ProgressStyle};

use super::cases::Case;
use super::measure::{Measurement, Warm, measure, warm_up};
use super::side::{Kind, Running, Side};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds per case.
    pub rounds: usize,
    /// Seconds per side and round.
    pub seconds: f64,
}

/// What a case came to.
pub struct Measured {
    /// Which.
    pub case: &'static Case,
    /// Direct Valkey's two measurements of each round.
    pub direct: Vec<[Measurement; 2]>,
    /// Each side's, one per round.
    pub sides: Vec<(Side, Vec<Measurement>)>,
    /// Peers that cannot do the case, and what they said.
    pub unable: Vec<(Side, String)>,
}

/// Who is next in a round.
#[derive(Clone, Copy)]
enum Turn {
    Direct(usize),
    Side(usize),
}

/// Sides that run.
pub struct Rounds {
    programs: Programs,
    sides: Vec<Side>,
    effort: Effort,
    /// By the side's name; direct's is [`DIRECT`]. Started when first needed.
    running: HashMap<&'static str, Running>,
    bar: ProgressBar,
}

const DIRECT: &str = "direct";

impl Rounds {
    /// For so many cases.
    pub fn new(programs: Programs, sides: Vec<Side>, effort: Effort, cases: usize) -> Self {
        let bar = ProgressBar::new(cases as u64 * (effort.rounds as u64 + 1));
        let style =
            ProgressStyle::with_template("{bar:30.cyan/dim} {pos}/{len} {wide_msg:.dim} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            programs,
            sides,
            effort,
            running: HashMap::new(),
            bar,
        }
    }

    /// Measures one case.
    ///
    /// # Errors
    /// When direct Valkey or flect cannot do it.
    pub fn run(&mut self, case: &'static Case) -> Result<Measured> {
        if !std::io::stderr().is_terminal() {
            eprintln!("bench: {}", case.name);
        }
        if case.fresh {
            self.running.clear();
        }
        let measured = self.rounds(case).with_context(|| case.name.to_owned())?;
        if case.fresh {
            self.running.clear();
        }
        Ok(measured)
    }

    /// Lets other lines be printed while the bar is shown.
    pub fn print(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Which acceleration each of flect's running sides has.
    pub fn accelerations(&self) -> Vec<(&'static str, String)> {
        let all = self.sides.iter();
        all.filter_map(|side| Some((side.name, self.running.get(side.name)?.acceleration())))
            .filter(|(_, acceleration)| !acceleration.is_empty())
            .collect()
    }

    fn rounds(&mut self, case: &'static Case) -> Result<Measured> {
        let wanted: Vec<Side> = self
            .sides
            .iter()
            .copied()
            .filter(|side| case.wide || !side.variant)
            .collect();
        self.bar.set_message(format!("{}: preparing", case.name));
        let direct_warm = self.prepare(case, DIRECT, Kind::Direct)??;
        let (mut able, mut unable) = (Vec::new(), Vec::new());
        for side in wanted {
            match (self.prepare(case, side.name, side.kind)?, side.kind) {
                (Ok(warm), _) => able.push((side, warm)),
                (Err(error), Kind::Peer(_)) => unable.push((side, format!("{error:#}"))),
                (Err(error), _) => return Err(error.context(side.name)),
            }
        }
        self.bar.inc(1);
        let mut turns: Vec<Turn> = (0..able.len()).map(Turn::Side).collect();
        // As far apart as two sides can be, so that their difference is the machine's over that time.
        turns.insert(able.len().div_ceil(2), Turn::Direct(1));
        turns.insert(0, Turn::Direct(0));
        let mut direct = Vec::new();
        let mut sides = vec![Vec::new(); able.len()];
        for round in 0..self.effort.rounds {
            let mut twice = [Measurement::new(), Measurement::new()];
            for turn in &turns {
                let (name, warm) = match turn {
                    Turn::Direct(_) => (DIRECT, direct_warm),
                    Turn::Side(index) => (able[*index].0.name, able[*index].1),
                };
                self.bar
                    .set_message(format!("{}: round {}, {name}", case.name, round + 1));
                let running = &self.running[name];
                let measured = measure(case, running, self.effort.seconds, warm, direct_warm)
                    .with_context(|| name.to_owned());
                match turn {
                    Turn::Direct(index) => twice[*index] = measured?,
                    Turn::Side(index) => match (measured, able[*index].0) {
                        (Ok(measured), _) => sides[*index].push(measured),
                        (Err(error), side) if side.is_peer() => {
                            unable.push((side, format!("{error:#}")));
                        }
                        (Err(error), _) => return Err(error),
                    },
                }
            }
            direct.push(twice);
            let fails = |side: &Side| unable.iter().any(|(it, _)| it.name == side.name);
            turns.retain(|turn| !matches!(turn, Turn::Side(index) if fails(&able[*index].0)));
            turns.rotate_left(1);
            self.bar.inc(1);
        }
        for side in &able {
            self.running[side.0.name].check_integrity()?;
        }
        let sides = able.into_iter().map(|(side, _)| side).zip(sides);
        Ok(Measured {
            case,
            // What failed in a later round has ratios to none of them.
            sides: sides
                .filter(|(_, rounds)| rounds.len() == direct.len())
                .collect(),
            direct,
            unable,
        })
    }

    /// Starts a side, unless it runs, and warms it up. The inner error is that it cannot do the case; the
    /// outer one, that it could not even be tried.
    fn prepare(&mut self, case: &Case, name: &'static str, kind: Kind) -> Result<Result<Warm>> {
        if !self.running.contains_key(name) {
            let stores = case.stores.max(1);
            let started = Running::start(kind, stores, &self.programs)?;
            self.running.insert(name, started);
        }
        let running = &self.running[name];
        running.seed(case)?;
        Ok(warm_up(case, running))
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
