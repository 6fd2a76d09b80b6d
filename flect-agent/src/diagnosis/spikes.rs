//! LATENCY's events: for each the worst of every second, as far back as Valkey keeps them.

use std::fmt::Write;

use crate::environment::settings::{Setting, Settings};

/// Seconds that are kept of an event (`LATENCY_TS_LEN` in latency.h).
const SAMPLES: usize = 160;

/// Columns of LATENCY GRAPH.
const COLUMNS: usize = 80;

/// Rows of LATENCY GRAPH.
const ROWS: usize = 4;

/// What fills a row of it by a third, two thirds and three.
const FILLS: &[u8; 3] = b"_o#";

/// One event.
#[derive(Debug)]
pub struct Series {
    name: &'static str,
    /// Seconds since 1970, and the most milliseconds in that second; the oldest first.
    samples: Vec<(u64, u64)>,
    /// The most milliseconds ever.
    max: u64,
}

/// All events that have happened.
#[derive(Debug, Default)]
pub struct Spikes(Vec<Series>);

impl Series {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is kept of it, the oldest first: seconds since 1970, milliseconds.
    #[must_use]
    pub fn samples(&self) -> &[(u64, u64)] {
        &self.samples
    }

    /// The last second with such an event.
    #[must_use]
    pub fn last(&self) -> (u64, u64) {
        self.samples.last().copied().unwrap_or_default()
    }

    /// The most milliseconds ever.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// LATENCY GRAPH: columns of up to twelve steps, and under each how long ago it was.
    #[must_use]
    pub fn graph(&self, now: u64) -> String {
        let values = self.samples.iter().map(|(_, ms)| *ms);
        let (low, high) = (values.clone().min().unwrap_or(0), values.max().unwrap_or(0));
        let mut graph = format!(
            "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
            self.name,
            self.max,
            "-".repeat(COLUMNS)
        );
        for (at, chunk) in self.samples.chunks(COLUMNS).enumerate() {
            if at > 0 {
                graph.push('\n');
            }
            columns(chunk, low, high, now, &mut graph);
        }
        graph
    }

    fn describe(&self, number: usize, now: u64, out: &mut String) {
        let count = self.samples.len().max(1) as u64;
        let sum: u64 = self.samples.iter().map(|(_, ms)| ms).sum();
        let average = sum / count;
        let deviation: u64 = self
            .samples
            .iter()
            .map(|(_, ms)| average.abs_diff(*ms))
            .sum();
        let oldest = self.samples.iter().map(|(at, _)| *at).min().unwrap_or(now);
        let period = now.saturating_sub(oldest).max(1);
        // Both are small enough to be exact.
        let each = period as f64 / count as f64;
        let _ = writeln!(
            out,
            "{number}. {}: {count} latency spikes (average {average}ms, mean deviation {}ms, period {each:.2} sec). Worst all time event {}ms.",
            self.name,
            deviation / count,
            self.max
        );
    }
}

fn columns(samples: &[(u64, u64)], low: u64, high: u64, now: u64, out: &mut String) {
    let range = (high - low).max(1);
    let steps = (ROWS * FILLS.len()) as u64;
    let step = |ms: u64| ((ms - low) * steps / range).min(steps - 1) as usize;
    for row in 0..ROWS {
        let floor = (ROWS - row - 1) * FILLS.len();
        out.extend(samples.iter().map(|(_, ms)| match step(*ms) {
            step if step < floor => ' ',
            step if step < floor + FILLS.len() => char::from(FILLS[step - floor]),
            _ => '|',
        }));
        out.push('\n');
    }
    let labels: Vec<Vec<u8>> = samples
        .iter()
        .map(|(at, _)| ago(now.saturating_sub(*at)).into_bytes())
        .collect();
    let rows = labels.iter().map(Vec::len).max().unwrap_or(0);
    out.extend(std::iter::repeat_n(' ', samples.len()));
    out.push('\n');
    for row in 0..rows {
        let letter = |label: &Vec<u8>| label.get(row).map_or(' ', |byte| char::from(*byte));
        out.extend(labels.iter().map(letter));
        out.push('\n');
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

impl Spikes {
    /// An event of so many milliseconds in this second.
    pub fn add(&mut self, name: &'static str, now: u64, ms: u64) {
        let at = self.0.iter().position(|series| series.name == name);
        let at = at.unwrap_or_else(|| {
            self.0.push(Series {
                name,
                samples: Vec::new(),
                max: 0,
            });
            self.0.len() - 1
        });
        let series = &mut self.0[at];
        series.max = series.max.max(ms);
        match series.samples.last_mut() {
            Some((second, worst)) if *second == now => *worst = ms.max(*worst),
            _ => {
                if series.samples.len() == SAMPLES {
                    series.samples.remove(0);
                }
                series.samples.push((now, ms));
            }
        }
    }

    /// All events.
    #[must_use]
    pub fn all(&self) -> &[Series] {
        &self.0
    }

    /// One event.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Series> {
        self.0.iter().find(|series| series.name.as_bytes() == name)
    }

    /// Forgets the event of this name, in any case, or all; how many those were.
    pub fn reset(&mut self, name: Option<&[u8]>) -> usize {
        let before = self.0.len();
        self.0.retain(|series| {
            name.is_some_and(|name| !series.name.as_bytes().eq_ignore_ascii_case(name))
        });
        before - self.0.len()
    }

    /// LATENCY DOCTOR. The measurements are told as Valkey tells them; the advice is what helps in a
    /// store.
    #[must_use]
    pub fn report(&self, settings: &Settings, now: u64) -> String {
        let threshold_ms = settings.latency_monitor_threshold_ms();
        if self.0.is_empty() {
            return if threshold_ms == 0 { DISABLED } else { NOTHING }.to_owned();
        }
        let mut out = "Latency spikes are observed in this Valkey instance.\n\n".to_owned();
        for (at, series) in self.0.iter().enumerate() {
            series.describe(at + 1, now, &mut out);
        }
        out.push_str("\nHere is some advice for you:\n\n");
        let slower_than_us = settings.get(Setting::SlowerThan);
        let slow_commands = self.find(b"command").is_some();
        if slow_commands && (slower_than_us < 0 || slower_than_us / 1000 > threshold_ms) {
            let _ = writeln!(
                out,
                "- Not all of these commands are in the slow log. To have them there: CONFIG SET slowlog-log-slower-than {}",
                threshold_ms * 1000
            );
        }
        if slow_commands {
            out.push_str("- See in SLOWLOG GET which commands take long, and whether a key has grown large: deleting, expiring or reading it whole takes time in proportion.\n");
        }
        if self.find(b"fast-command").is_some() {
            out.push_str("- Commands that are fast by nature took long: they waited for other commands, or the machine has too little processor time.\n");
        }
        out
    }
}

/// Valkey's answer while nothing is watched and nothing was.
const DISABLED: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Valkey instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n";

/// Valkey's answer while nothing has happened.
const NOTHING: &str = "No latency spike was observed during the lifetime of this Valkey instance, not in the slightest bit.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_each_second_is_kept() {
        let mut spikes = Spikes::default();
        for (at, ms) in [(10, 5), (10, 9), (10, 3), (11, 4)] {
            spikes.add("command", at, ms);
        }
        let series = spikes.find(b"command").unwrap();
        assert_eq!(series.samples(), [(10, 9), (11, 4)]);
        assert_eq!((series.last(), series.max()), ((11, 4), 9));
        for at in 12..400 {
            spikes.add("command", at, 1);
        }
        let series = spikes.find(b"command").unwrap();
        assert_eq!(series.samples().len(), SAMPLES);
        assert_eq!((series.last(), series.max()), ((399, 1), 9));
        assert_eq!(spikes.reset(Some(b"fork")), 0);
        assert_eq!(spikes.reset(Some(b"Command")), 1);
    }

    /// As Valkey 8.0 draws the same samples.
    #[test]
    fn a_graph_is_drawn_as_valkey_does() {
        let mut spikes = Spikes::default();
        for (at, ms) in [(100, 10), (101, 40), (130, 22)] {
            spikes.add("command", at, ms);
        }
        let graph = spikes.find(b"command").unwrap().graph(195);
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(
            lines[0],
            "command - high 40 ms, low 10 ms (all time high 40 ms)"
        );
        assert_eq!(
            lines[2..],
            [" # ", " | ", " |o", "_||", "   ", "111", "mmm"]
        );
    }

    #[test]
    fn the_doctor_says_what_it_knows() {
        let settings = Settings::default();
        let mut spikes = Spikes::default();
        assert!(spikes.report(&settings, 7).starts_with("I'm sorry, Dave"));
        spikes.add("command", 5, 30);
        let report = spikes.report(&settings, 7);
        assert!(report.contains("1. command: 1 latency spikes (average 30ms, mean deviation 0ms, period 2.00 sec). Worst all time event 30ms."), "{report}");
    }
}
