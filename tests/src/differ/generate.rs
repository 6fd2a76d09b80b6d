//! Sequences of requests from a seed.
//!
//! Clients `a` and `b` work on the same few keys, `c` listens. Everything is decided here, before
//! the first request is sent, so that a sequence can be written down, shortened and played again.

mod mode;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use mode::Mode;

use super::step::{Act, Request, Step};
use super::template::Grammar;
use super::vocabulary::Vocabulary;

/// Classes of commands: name, weight, shapes.
const CLASSES: &[(&str, u32, &str)] = &[
    ("strings", 14, include_str!("grammar/strings.txt")),
    ("hashes", 9, include_str!("grammar/hashes.txt")),
    ("lists", 9, include_str!("grammar/lists.txt")),
    ("sets", 9, include_str!("grammar/sets.txt")),
    ("zsets", 12, include_str!("grammar/zsets.txt")),
    ("streams", 12, include_str!("grammar/streams.txt")),
    ("keys", 12, include_str!("grammar/keys.txt")),
    ("scripts", 8, include_str!("grammar/scripts.txt")),
    ("functions", 2, include_str!("grammar/functions.txt")),
    ("blocking", 3, include_str!("grammar/blocking.txt")),
    ("publishing", 5, include_str!("grammar/publishing.txt")),
    ("connection", 5, include_str!("grammar/connection.txt")),
];
const SETUP: &str = include_str!("grammar/setup.txt");
const LISTENING: &str = include_str!("grammar/pubsub.txt");
const HEARING: &str = include_str!("grammar/notifications.txt");
const TRACKING: &str = include_str!("grammar/tracking.txt");
const NOLOOP: &str = include_str!("grammar/noloop.txt");

/// Commands that are left out of transactions: a store carries them out when they are queued, and the
/// judge of RANDOMKEY does not follow a SELECT there.
const NEVER_QUEUED: &[&str] = &[
    "CLIENT", "CONFIG", "FUNCTION", "HELLO", "INFO", "PUBSUB", "SCRIPT", "SELECT",
];

/// Steps of a sequence after its setup. Long enough to get somewhere, short enough that a difference
/// does not hide the rest of a run.
const STEPS: std::ops::Range<usize> = 40..120;
/// How often a request is made wrong, in thousandths.
const WRONG_PER_MILLE: u32 = 25;
/// How often a request goes out in pieces, and how often with the next, in thousandths.
const CUT_PER_MILLE: u32 = 60;
const JOIN_PER_MILLE: u32 = 250;
/// What stands in the place of an argument in a wrong request.
const WRONG: &[&[u8]] = &[
    b"",
    b"\xff\x00",
    b"-1",
    b"999999999999999999999",
    b"*",
    b"NX",
    b"COUNT",
    b"STORE",
    b"1.5",
];

/// Makes sequences.
#[derive(Debug)]
pub struct Generator {
    classes: Vec<(&'static str, u32, Grammar)>,
    setup: Grammar,
    listening: Grammar,
    hearing: Grammar,
    /// Without NOLOOP and with it.
    tracking: [Grammar; 2],
    words: Vocabulary,
}

impl Generator {
    /// A generator of all classes, or only of those named.
    ///
    /// # Errors
    /// When a class is unknown.
    pub fn new(only: &[String]) -> Result<Self> {
        for name in only {
            let known: Vec<_> = CLASSES.iter().map(|(name, ..)| *name).collect();
            ensure!(
                known.contains(&name.as_str()),
                "no class {name}; there are {}",
                known.join(", ")
            );
        }
        let is_wanted = |name: &str| match only {
            [] => true,
            only => only.iter().any(|wanted| wanted == name),
        };
        let mut classes = Vec::new();
        for &(name, weight, text) in CLASSES {
            if is_wanted(name) {
                let grammar = Grammar::parse(text).with_context(|| format!("{name}.txt"))?;
                classes.push((name, weight, grammar));
            }
        }
        Ok(Self {
            classes,
            setup: Grammar::parse(SETUP).context("setup.txt")?,
            listening: Grammar::parse(LISTENING).context("pubsub.txt")?,
            hearing: Grammar::parse(HEARING).context("notifications.txt")?,
            tracking: [
                Grammar::parse(TRACKING).context("tracking.txt")?,
                Grammar::parse(NOLOOP).context("noloop.txt")?,
            ],
            words: Vocabulary::new(),
        })
    }

    /// The sequence of a seed.
    ///
    /// # Errors
    /// When a shape names a value that is not in the vocabulary.
    pub fn sequence(&self, seed: u64) -> Result<Vec<Step>> {
        let rng = &mut Rng::with_seed(seed);
        let mode = Mode::any(rng);
        let mut steps = Vec::new();
        for client in ['a', 'b', 'c'] {
            if mode.speaks_resp3(client, rng) {
                steps.push(Step::send(client, vec![b"HELLO".to_vec(), b"3".to_vec()]));
            }
        }
        if mode.hears {
            let flags = self.words.value("events", rng)?;
            let words = [b"CONFIG".as_slice(), b"SET", mode::EVENTS_SETTING, &flags];
            steps.push(Step::send('b', words.map(<[u8]>::to_vec).to_vec()));
        }
        for args in self.setup.each(rng, &self.words)? {
            if rng.u8(..10) < 7 {
                steps.push(Step::send('a', args));
            }
        }
        let end = steps.len() + rng.usize(STEPS);
        while steps.len() < end {
            match rng.u32(..100) {
                0..6 => self.transaction(mode, rng, &mut steps)?,
                6..14 if mode.listens || mode.hears => {
                    let grammar = match mode.hears {
                        true => &self.hearing,
                        false => &self.listening,
                    };
                    let args = grammar.any(rng, &self.words)?;
                    steps.push(Step::send(mode.listener(rng), args));
                }
                14 => steps.push(Step {
                    client: if rng.bool() { 'b' } else { 'c' },
                    act: Act::Close,
                }),
                15 => self.unheard(mode, rng, &mut steps)?,
                16..19 if !mode.listens && !mode.hears => {
                    let args = self.request(mode, rng, false)?;
                    steps.push(self.dress('c', args, rng));
                }
                19..28 if mode.tracks => self.track(mode, rng, &mut steps)?,
                _ => {
                    let client = if rng.u8(..10) < 7 { 'a' } else { 'b' };
                    let args = self.request(mode, rng, true)?;
                    steps.push(self.dress(client, args, rng));
                }
            }
        }
        Ok(steps)
    }

    /// CLIENT TRACKING and what belongs to it.
    fn track(&self, mode: Mode, rng: &mut Rng, steps: &mut Vec<Step>) -> Result<()> {
        let grammar = &self.tracking[usize::from(mode.noloop)];
        let args = grammar.any(rng, &self.words)?;
        let client = ['a', 'a', 'b', 'c'][rng.usize(..4)];
        let mut step = Step::send(client, args);
        if let Act::Send(request) = &mut step.act
            && request.word(1) == "CACHING"
        {
            // It is about the next request of its client, before anybody asks how far it has read.
            request.joined = true;
            steps.push(step);
            step = Step::send(client, self.request(mode, rng, false)?);
        }
        steps.push(step);
        Ok(())
    }

    /// A request of any class, sometimes a wrong one.
    fn request(&self, mode: Mode, rng: &mut Rng, may_block: bool) -> Result<Vec<Vec<u8>>> {
        let all: u32 = self.classes.iter().map(|(_, weight, _)| weight).sum();
        let args = loop {
            let mut chosen = rng.u32(..all);
            let found = self.classes.iter().find(|(_, weight, _)| {
                let is_it = chosen < *weight;
                chosen = chosen.saturating_sub(*weight);
                is_it
            });
            let (name, _, grammar) = found.context("the weights do not add up")?;
            if may_block || *name != "blocking" || self.classes.len() == 1 {
                break grammar.any(rng, &self.words)?;
            }
        };
        let args = make_wrong(args, rng);
        if mode.leaves_out(&Request::new(args.clone())) {
            return Ok(vec![b"PING".to_vec()]);
        }
        Ok(args)
    }

    /// [WATCH], MULTI, some requests, EXEC or DISCARD; others may come between.
    fn transaction(&self, mode: Mode, rng: &mut Rng, steps: &mut Vec<Step>) -> Result<()> {
        let one = |word: &str| vec![word.as_bytes().to_vec()];
        if rng.bool() {
            let key = self.words.value("any", rng)?;
            steps.push(Step::send('b', vec![b"WATCH".to_vec(), key]));
            if rng.u8(..4) == 0 {
                steps.push(Step::send('b', one("UNWATCH")));
            }
        }
        steps.push(Step::send('b', one("MULTI")));
        for _ in 0..rng.usize(0..6) {
            let client = if rng.u8(..5) == 0 { 'a' } else { 'b' };
            let mut args = self.request(mode, rng, client == 'b')?;
            let name = Request::new(args.clone()).name();
            let left_out = NEVER_QUEUED.contains(&name.as_str()) || mode.never_queues(&name);
            if client == 'b' && left_out {
                args = vec![b"PING".to_vec()];
            }
            steps.push(self.dress(client, args, rng));
        }
        let end = if rng.u8(..8) == 0 { "DISCARD" } else { "EXEC" };
        steps.push(Step::send('b', one(end)));
        Ok(())
    }

    /// Requests that are not replied to.
    fn unheard(&self, mode: Mode, rng: &mut Rng, steps: &mut Vec<Step>) -> Result<()> {
        let say = |word: &str| {
            ["CLIENT", "REPLY", word]
                .map(|w| w.as_bytes().to_vec())
                .to_vec()
        };
        let is_one = rng.bool();
        let mut add = |args| {
            let mut step = Step::send('a', args);
            if let Act::Send(request) = &mut step.act {
                request.joined = true;
            }
            steps.push(step);
        };
        add(say(if is_one { "SKIP" } else { "OFF" }));
        for _ in 0..if is_one { 1 } else { rng.usize(1..4) } {
            let mut args = self.request(mode, rng, false)?;
            // These would change what is heard.
            let request = Request::new(args.clone());
            if matches!(
                request.name().as_str(),
                "RESET" | "QUIT" | "CLIENT" | "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN"
            ) || super::player::waits_forever(&request)
            {
                args = vec![b"PING".to_vec()];
            }
            add(args);
        }
        steps.push(Step::send('a', say("ON")));
        Ok(())
    }

    /// Decides how the bytes are written.
    fn dress(&self, client: char, args: Vec<Vec<u8>>, rng: &mut Rng) -> Step {
        let mut request = Request::new(args);
        if rng.u32(..1000) < CUT_PER_MILLE {
            let length = request.pieces().concat().len();
            let cuts = rng.usize(1..4);
            request.cuts = (0..cuts).map(|_| rng.usize(1..length)).collect();
            request.cuts.sort_unstable();
            request.cuts.dedup();
        }
        // A page's successor must follow it, and what waits must not keep others from being read.
        let stands_alone = matches!(
            request.name().as_str(),
            "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN" | "QUIT" | "RESET" | "HELLO"
        ) || super::player::waits_forever(&request);
        request.joined = !stands_alone && rng.u32(..1000) < JOIN_PER_MILLE;
        Step {
            client,
            act: Act::Send(request),
        }
    }
}

fn make_wrong(mut args: Vec<Vec<u8>>, rng: &mut Rng) -> Vec<Vec<u8>> {
    // Without its count SPOP is random, and everything after it differs.
    let name = args[0].to_ascii_uppercase();
    if name == b"SPOP" || rng.u32(..1000) >= WRONG_PER_MILLE {
        return args;
    }
    let at = rng.usize(..args.len());
    match rng.u8(..5) {
        0 if args.len() > 1 && at > 0 => {
            args.remove(at);
        }
        1 => {
            let copy = args[at].clone();
            args.push(copy);
        }
        2 if at > 0 => args[at] = WRONG[rng.usize(..WRONG.len())].to_vec(),
        3 if at > 0 => args.truncate(at),
        _ => args.push(WRONG[rng.usize(..WRONG.len())].to_vec()),
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence() {
        let generator = Generator::new(&[]).unwrap();
        let first = generator.sequence(42).unwrap();
        assert_eq!(first, generator.sequence(42).unwrap());
        assert_ne!(first, generator.sequence(43).unwrap());
        let text: String = first.iter().map(|step| format!("{step}\n")).collect();
        assert_eq!(Step::parse_all(&text).unwrap(), first);
    }

    #[test]
    fn every_class_has_shapes() {
        for (name, ..) in CLASSES {
            let generator = Generator::new(&[(*name).to_owned()]).unwrap();
            for seed in 0..20 {
                assert!(generator.sequence(seed).unwrap().len() >= STEPS.start);
            }
        }
        assert!(Generator::new(&["nothing".to_owned()]).is_err());
    }
}
