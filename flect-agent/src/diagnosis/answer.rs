//! The replies of SLOWLOG, COMMANDLOG and LATENCY, from what is kept of a store.
//!
//! Invariant: arguments are read as Valkey reads them, and refused in its words.

use super::{Diagnosis, Kind};
use crate::commands::{self, Lookup};
use crate::environment::settings::Settings;
use crate::metrics::stats::{self, Stats};
use crate::resp::request::Request;
use crate::resp::{Protocol, encode, number};

/// How many entries SLOWLOG GET shows where no number is given.
const SHOWN: usize = 10;

const WRONG_COUNT: &[u8] = b"-ERR count should be greater than or equal to -1\r\n";
const WRONG_KIND: &[u8] =
    b"-ERR type should be one of the following: slow, large-request, large-reply\r\n";

/// `SLOWLOG GET [count]`, `LEN`, `RESET` (`slowlogCommand` in slowlog.c).
#[must_use]
pub fn slowlog(diagnosis: &Diagnosis, request: &Request<'_>) -> Vec<u8> {
    let count = match request.get(2) {
        _ if request.argc() > 3 => return commands::subcommand_syntax_error(request),
        Some(text) => match count(text) {
            Ok(count) => count,
            Err(error) => return error.to_vec(),
        },
        None => SHOWN,
    };
    of_log(diagnosis, Kind::Slow, request.arg(1), count)
}

/// `COMMANDLOG GET count type`, `LEN type`, `RESET type` (`commandlogCommand` in commandlog.c).
#[must_use]
pub fn commandlog(diagnosis: &Diagnosis, request: &Request<'_>) -> Vec<u8> {
    let gets = request.arg(1).eq_ignore_ascii_case(b"get");
    let entries = if gets { count(request.arg(2)) } else { Ok(0) };
    let kind = request.get(request.argc() - 1).and_then(Kind::find);
    match (entries, kind) {
        (Err(error), _) => error.to_vec(),
        (_, None) => WRONG_KIND.to_vec(),
        (Ok(count), Some(kind)) => of_log(diagnosis, kind, request.arg(1), count),
    }
}

/// -1 means all.
fn count(text: &[u8]) -> Result<usize, &'static [u8]> {
    match number::parse(text) {
        Some(-1) => Ok(usize::MAX),
        Some(count) => usize::try_from(count).map_err(|_| WRONG_COUNT),
        None => Err(WRONG_COUNT),
    }
}

fn of_log(diagnosis: &Diagnosis, kind: Kind, what: &[u8], count: usize) -> Vec<u8> {
    let mut log = diagnosis.log(kind);
    let mut out = Vec::new();
    if what.eq_ignore_ascii_case(b"reset") {
        log.reset();
        encode::ok(&mut out);
        return out;
    }
    if what.eq_ignore_ascii_case(b"len") {
        encode::integer(signed(log.len()), &mut out);
        return out;
    }
    let entries = log.newest(count);
    encode::array(entries.len(), &mut out);
    for entry in entries {
        encode::array(6, &mut out);
        encode::integer(entry.id, &mut out);
        encode::integer(i64::try_from(entry.at).unwrap_or(i64::MAX), &mut out);
        encode::integer(entry.value, &mut out);
        encode::request(entry.arguments.get(), &mut out);
        encode::bulk(&entry.peer, &mut out);
        encode::bulk(&entry.name, &mut out);
    }
    out
}

/// What LATENCY is told from.
pub struct Latency<'a> {
    /// What is kept of the store.
    pub diagnosis: &'a Diagnosis,
    /// Its settings.
    pub settings: &'a Settings,
    /// What is counted of its commands.
    pub stats: &'a dyn Fn() -> Stats,
    /// How the app wants its reply.
    pub protocol: Protocol,
    /// Seconds since 1970.
    pub now: u64,
}

impl Latency<'_> {
    /// LATENCY's subcommands but HELP (`latencyCommand` in latency.c).
    #[must_use]
    pub fn answer(&self, request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut spikes = self.diagnosis.spikes();
        let subcommand = request.arg(1).to_ascii_lowercase();
        match subcommand.as_slice() {
            b"latest" => {
                encode::array(spikes.all().len(), &mut out);
                for series in spikes.all() {
                    encode::array(4, &mut out);
                    encode::bulk(series.name(), &mut out);
                    let (at, ms) = series.last();
                    for number in [at, ms, series.max()] {
                        unsigned(number, &mut out);
                    }
                }
            }
            b"history" => {
                let samples = spikes.find(request.arg(2)).map_or(&[][..], |s| s.samples());
                encode::array(samples.len(), &mut out);
                for (at, ms) in samples {
                    encode::array(2, &mut out);
                    unsigned(*at, &mut out);
                    unsigned(*ms, &mut out);
                }
            }
            b"graph" => match spikes.find(request.arg(2)) {
                Some(series) => encode::text(self.protocol, &series.graph(self.now), &mut out),
                None => {
                    let text = b"ERR No samples available for event '";
                    encode::error([text, request.arg(2), b"'"].concat(), &mut out);
                }
            },
            b"reset" if request.argc() == 2 => {
                encode::integer(signed(spikes.reset(None)), &mut out);
            }
            b"reset" => {
                let names = request.args().skip(2);
                let count: usize = names.map(|name| spikes.reset(Some(name))).sum();
                encode::integer(signed(count), &mut out);
            }
            b"doctor" => {
                let report = spikes.report(self.settings, self.now);
                encode::text(self.protocol, &report, &mut out);
            }
            _ => self.histogram(request, &mut out),
        }
        out
    }

    /// LATENCY HISTOGRAM: of all commands, or of those that are named.
    fn histogram(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        let stats = (self.stats)();
        let timed = |name: &str| stats.command(name).filter(|command| command.timed() > 0);
        let mut shown: Vec<&str> = Vec::new();
        if request.argc() == 2 {
            shown.extend(stats.names().filter(|name| timed(name).is_some()));
        }
        for word in request.args().skip(2) {
            let (name, subcommand) = match word.iter().position(|byte| *byte == b'|') {
                Some(at) => (&word[..at], Some(&word[at + 1..])),
                None => (word, None),
            };
            let (Lookup::Known(command)
            | Lookup::MissingSubcommand(command)
            | Lookup::UnknownSubcommand(command)) = commands::lookup(name, subcommand)
            else {
                continue;
            };
            let inside = |name: &&str| {
                let rest = name.strip_prefix(command.name);
                rest.is_some_and(|rest| {
                    rest.is_empty() || command.container && rest.starts_with('|')
                })
            };
            shown.extend(
                stats
                    .names()
                    .filter(inside)
                    .filter(|name| timed(name).is_some()),
            );
        }
        encode::map(self.protocol, shown.len(), out);
        for name in shown {
            let Some(command) = timed(name) else { continue };
            encode::bulk(name, out);
            encode::map(self.protocol, 2, out);
            encode::bulk("calls", out);
            unsigned(command.timed(), out);
            encode::bulk("histogram_usec", out);
            let steps: Vec<(u64, u64)> = stats::cumulative(&command.latency).collect();
            encode::map(self.protocol, steps.len(), out);
            for (us, count) in steps {
                unsigned(us, out);
                unsigned(count, out);
            }
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(number: u64, out: &mut Vec<u8>) {
    encode::integer(i64::try_from(number).unwrap_or(i64::MAX), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{Arguments, Entry};
    use crate::resp::request::{RequestScanner, Scanned};

    fn check(diagnosis: &Diagnosis, words: &str, expect: &str) {
        let mut bytes = Vec::new();
        encode::request(&words.split(' ').collect::<Vec<_>>(), &mut bytes);
        let mut scanner = RequestScanner::default();
        assert!(matches!(scanner.scan(&bytes), Ok(Scanned::Request { .. })));
        let request = scanner.request(&bytes);
        let reply = if words.starts_with("SLOWLOG") {
            slowlog(diagnosis, &request)
        } else {
            commandlog(diagnosis, &request)
        };
        assert_eq!(String::from_utf8(reply).unwrap(), expect, "{words}");
    }

    #[test]
    fn logs_are_shown_newest_first_and_bounded() {
        let diagnosis = Diagnosis::default();
        for at in 0..5 {
            let entry = Entry {
                id: 0,
                at,
                value: 7,
                arguments: Arguments::of_bytes(b"*1\r\n$4\r\nPING\r\n", None),
                peer: "1.2.3.4:5".to_owned(),
                name: b"n".to_vec(),
            };
            diagnosis.log(Kind::Slow).push(3, entry);
        }
        check(&diagnosis, "SLOWLOG LEN", ":3\r\n");
        check(&diagnosis, "COMMANDLOG LEN slow", ":3\r\n");
        check(&diagnosis, "COMMANDLOG LEN large-reply", ":0\r\n");
        let newest =
            "*1\r\n*6\r\n:4\r\n:4\r\n:7\r\n*1\r\n$4\r\nPING\r\n$9\r\n1.2.3.4:5\r\n$1\r\nn\r\n";
        check(&diagnosis, "SLOWLOG GET 1", newest);
        check(&diagnosis, "COMMANDLOG GET 1 SLOW", newest);
        let wrong = "-ERR count should be greater than or equal to -1\r\n";
        check(&diagnosis, "SLOWLOG GET -2", wrong);
        check(&diagnosis, "SLOWLOG GET x", wrong);
        check(
            &diagnosis,
            "COMMANDLOG GET 1 fast",
            "-ERR type should be one of the following: slow, large-request, large-reply\r\n",
        );
        check(&diagnosis, "SLOWLOG RESET", "+OK\r\n");
        check(&diagnosis, "SLOWLOG GET -1", "*0\r\n");
    }
}
