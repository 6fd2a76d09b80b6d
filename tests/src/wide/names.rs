//! Names and patterns: the shim's own matching against the server's, SCAN's promises, RANDOMKEY's choice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::pair::{Pair, Side};

/// Rounds of random patterns, all at once in each.
const ROUNDS: u64 = 40;

/// Names or patterns in a round.
const IN_A_ROUND: usize = 25;

/// Draws of RANDOMKEY: a tenth of them is far from what any of five keys gets by chance.
const DRAWS: usize = 300;

/// Numbers that are the same in every run (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }

    fn text(&mut self, alphabet: &[u8], length_max: usize) -> Vec<u8> {
        let length = self.below(length_max + 1);
        (0..length)
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }
}

/// Random patterns match the same names: KEYS of a private server, of a store, and of a script that has
/// written before, for which the shim looks itself.
pub fn patterns(pair: &Pair) -> Result<()> {
    const SCRIPT: &str = "redis.call('DEL', 'none') return redis.call('KEYS', ARGV[1])";
    let mut dice = Dice(7);
    let mut wires = [pair.connect(Side::Private)?, pair.connect(Side::Store)?];
    for _ in 0..ROUNDS {
        let mut words = vec![b"MSET".to_vec()];
        for _ in 0..IN_A_ROUND {
            words.extend([dice.text(b"aab-]^[*\\?z\xfe", 6), b"v".to_vec()]);
        }
        for wire in &mut wires {
            wire.command(&["FLUSHALL"])?;
            wire.command(&words)?;
        }
        let mut patterns: Vec<Vec<u8>> = (0..IN_A_ROUND)
            .map(|_| dice.text(b"aab-]^[[**\\?z\xfe", 9))
            .collect();
        patterns.push([b"*a".repeat(40), b"b".to_vec()].concat());
        patterns.push(b"*".repeat(1500));
        patterns.push(b"a*".repeat(1100));
        for pattern in &patterns {
            let mut said = Vec::new();
            for wire in &mut wires {
                said.push(wire.command(&[b"KEYS", pattern.as_slice()])?.sorted());
                let eval: [&[u8]; 4] = [b"EVAL", SCRIPT.as_bytes(), b"0", pattern];
                said.push(wire.command(&eval)?.sorted());
            }
            let same = said.iter().all(|other| *other == said[0]);
            ensure!(same, "{}: {said:?}", pattern.escape_ascii());
        }
    }
    Ok(())
}

/// SCAN shows every key that is there all the while, whatever COUNT says and whoever else has keys, in
/// few enough steps.
pub fn scanned(pair: &Pair) -> Result<()> {
    let mut other = pair.bed.connect("app2")?;
    let mut wire = pair.connect(Side::Store)?;
    for first in 0..100 {
        let mut words = vec!["MSET".to_owned()];
        for number in 0..1000 {
            words.extend([format!("k:{first}:{number}"), String::new()]);
        }
        other.command(&words)?;
    }
    let keys: BTreeSet<String> = (0..50).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        wire.command(&["SET", key, "1"])?;
    }
    for (count, steps_max) in [("1", 1100), ("10", 1100), ("1000", 110), ("100000000", 1)] {
        let (mut cursor, mut seen, mut steps, mut empty) = ("0".to_owned(), BTreeSet::new(), 0, 0);
        loop {
            let page = wire.command(&["SCAN", &cursor, "COUNT", count, "MATCH", "key:*"])?;
            let items = page.items();
            ensure!(items.len() == 2, "{}", page.text());
            seen.extend(items[1].items().iter().map(|name| name.text()));
            empty += usize::from(items[1].items().is_empty());
            steps += 1;
            cursor = items[0].text();
            // What comes and goes meanwhile must not matter.
            wire.command(&["SET", &format!("passing:{steps}"), "1"])?;
            wire.command(&["DEL", &format!("passing:{steps}")])?;
            if cursor == "0" {
                break;
            }
        }
        ensure!(seen == keys, "COUNT {count}: {} keys", seen.len());
        ensure!(steps <= steps_max, "COUNT {count}: {steps} steps");
        ensure!(empty <= 3, "COUNT {count}: {empty} empty pages");
    }
    Ok(())
}

/// Every key has its chance, alone on the server or not.
pub fn random(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        wire.command(&["SET", name, "1"])?;
    }
    for draw in [
        &["RANDOMKEY"][..],
        &["EVAL", "return redis.call('RANDOMKEY')", "0"],
    ] {
        let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..DRAWS {
            *drawn.entry(wire.command(draw)?.text()).or_default() += 1;
        }
        let fair = names
            .iter()
            .all(|name| drawn.get(*name).is_some_and(|n| *n > DRAWS / 10));
        ensure!(fair && drawn.len() == names.len(), "{draw:?}: {drawn:?}");
    }
    Ok(())
}
