//! Walking and measuring, with bounded effort.

use std::collections::BTreeMap;
use std::slice;

use super::tally::{Measured, Tally, Usage};
use crate::keyspace::{BATCH_COMMANDS_MAX, Connection, Walk, database_and_key, has_slots, pattern};
use crate::store::Prefix;

/// Every name of a store begins so, and hardly anything else does.
const ANY_STORE: &[u8] = b"{*";

/// Questions about each key: its size, its type, its remaining life.
const QUESTIONS: usize = 3;

/// How much work a survey may make.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Names to look at, at most, of each store in a cluster; what is known then is told with the error
    /// that it has.
    pub names_max: Option<u64>,
    /// Good enough: the error of keys and bytes (0.05 is 5 %). 0 walks and measures everything.
    pub error_max: f64,
    /// Keys of each store to measure at least, if it has so many: fewer do not show that a store
    /// has a few big keys.
    pub measured_min: u64,
    /// Names to look at per second.
    pub names_per_second: Option<u64>,
}

impl Effort {
    /// Everything: no error but what is written meanwhile.
    #[must_use]
    pub fn exact() -> Self {
        Self {
            names_max: None,
            error_max: 0.0,
            measured_min: u64::MAX,
            names_per_second: None,
        }
    }

    fn enough(&self, tally: &Tally, fraction: f64) -> bool {
        self.error_max > 0.0
            && tally.measured() >= self.measured_min
            && tally.error(fraction) <= self.error_max
    }

    /// Whether more sizes would tell more: their error is to be the smaller part of the whole.
    fn measure(&self, tally: &Tally) -> bool {
        tally.measured() < self.measured_min || tally.error_of_sizes() > self.error_max / 2.0
    }
}

/// How far a survey is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The part of all names that was looked at, from 0 to 1.
    pub fraction: f64,
    /// Keys of the stores asked for that were found.
    pub found: u64,
}

/// A survey, finished or not: what was found can be told at any time.
#[derive(Debug)]
pub struct Survey {
    tallies: BTreeMap<Prefix, Tally>,
    /// By store where the server has slots, one for all otherwise.
    walks: Vec<Part>,
    effort: Effort,
    slots: bool,
    /// Names that the walk has to look at, about, where there is one for all.
    names: u64,
}

/// A walk, and what it is for.
#[derive(Debug)]
struct Part {
    prefixes: Vec<Prefix>,
    walk: Walk,
    /// Names that it has looked at, about: one store's slot is no reason to look less at another's.
    looked_at: u64,
}

impl Part {
    fn new(prefixes: &[Prefix], walk: Walk) -> Self {
        Self {
            prefixes: prefixes.to_vec(),
            walk,
            looked_at: 0,
        }
    }
}

/// Finds out what stores hold.
///
/// # Errors
/// When the server refuses.
pub async fn survey<C: Connection>(
    connection: &mut C,
    prefixes: &[Prefix],
    effort: Effort,
) -> redis::RedisResult<BTreeMap<Prefix, Usage>> {
    let mut survey = Survey::begin(connection, prefixes, effort).await?;
    while survey.step(connection).await?.is_some() {}
    Ok(survey.told())
}

impl Survey {
    /// Prepares a survey of these stores.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn begin<C: Connection>(
        connection: &mut C,
        prefixes: &[Prefix],
        effort: Effort,
    ) -> redis::RedisResult<Self> {
        let slots = has_slots(connection).await?;
        let names: u64 = redis::cmd("DBSIZE").query_async(connection).await?;
        let walks = match prefixes {
            // In a cluster's slots names are in the order of stores: each store has its own walk.
            _ if slots => prefixes
                .iter()
                .map(|prefix| Part::new(slice::from_ref(prefix), Walk::new(pattern(prefix), true)))
                .collect(),
            [] => Vec::new(),
            [one] => vec![Part::new(prefixes, Walk::new(pattern(one), false))],
            many => vec![Part::new(many, Walk::new(ANY_STORE.to_vec(), false))],
        };
        let tallies = prefixes.iter().map(|p| (p.clone(), Tally::default()));
        Ok(Self {
            tallies: tallies.collect(),
            walks,
            effort,
            slots,
            names,
        })
    }

    /// One page more; `None` when everything asked for is told well enough, or the effort is spent.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn step<C: Connection>(
        &mut self,
        connection: &mut C,
    ) -> redis::RedisResult<Option<Progress>> {
        let effort = &self.effort;
        let open = self.walks.iter_mut().find(|part| {
            let fraction = part.walk.fraction();
            fraction < 1.0
                && effort.names_max.is_none_or(|most| part.looked_at < most)
                && part
                    .prefixes
                    .iter()
                    .any(|prefix| !effort.enough(&self.tallies[prefix], fraction))
        });
        let Some(Part {
            walk,
            looked_at: looked_at_in_all,
            ..
        }) = open
        else {
            return Ok(None);
        };
        let before = walk.fraction();
        let began = std::time::Instant::now();
        let Some(page) = walk.next(connection).await? else {
            return Ok(None);
        };
        let looked_at = match self.slots {
            // A slot's names are its stores' alone.
            true => page.names.len() as u64,
            false => ((walk.fraction() - before) * self.names as f64) as u64,
        };
        *looked_at_in_all += looked_at;
        let mut own = Vec::new();
        for name in page.names {
            let Some(prefix) = owner(&self.tallies, &name) else {
                continue;
            };
            let Some((database, key)) = database_and_key(&prefix, &name) else {
                continue;
            };
            let key = key.to_vec();
            if let Some(tally) = self.tallies.get_mut(&prefix) {
                tally.find();
                if self.effort.measure(tally) {
                    own.push((prefix, name, database, key));
                }
            }
        }
        for batch in own.chunks(BATCH_COMMANDS_MAX / QUESTIONS) {
            self.measure(connection, batch).await?;
        }
        if let Some(rate) = self.effort.names_per_second {
            let wanted = std::time::Duration::from_secs_f64(looked_at as f64 / rate.max(1) as f64);
            tokio::time::sleep(wanted.saturating_sub(began.elapsed())).await;
        }
        let parts: f64 = self.walks.iter().map(|part| part.walk.fraction()).sum();
        Ok(Some(Progress {
            fraction: parts / self.walks.len() as f64,
            found: self.tallies.values().map(Tally::found).sum(),
        }))
    }

    async fn measure<C: Connection>(
        &mut self,
        connection: &mut C,
        batch: &[(Prefix, Vec<u8>, u32, Vec<u8>)],
    ) -> redis::RedisResult<()> {
        let mut pipe = redis::pipe();
        for (_, name, _, _) in batch {
            pipe.cmd("MEMORY").arg("USAGE").arg(name);
            pipe.cmd("TYPE").arg(name);
            pipe.cmd("PTTL").arg(name);
        }
        let replies: Vec<redis::Value> = pipe.query_async(connection).await?;
        for ((prefix, _, database, key), reply) in batch.iter().zip(replies.chunks(QUESTIONS)) {
            let Some(tally) = self.tallies.get_mut(prefix) else {
                continue;
            };
            let [size, kind, ttl] = reply else {
                continue;
            };
            let size: Option<u64> = redis::from_redis_value(size.clone())?;
            match size {
                Some(bytes) => tally.measure(Measured {
                    database: *database,
                    key: key.clone(),
                    bytes,
                    kind: redis::from_redis_value(kind.clone())?,
                    ttl: redis::from_redis_value(ttl.clone())?,
                }),
                None => tally.lose(),
            }
        }
        Ok(())
    }

    /// What is known so far.
    #[must_use]
    pub fn told(&self) -> BTreeMap<Prefix, Usage> {
        let mut all = BTreeMap::new();
        for part in &self.walks {
            for prefix in &part.prefixes {
                let usage = self.tallies[prefix].usage(part.walk.fraction());
                all.insert(prefix.clone(), usage);
            }
        }
        all
    }
}

/// Whose name it is, among these.
fn owner(tallies: &BTreeMap<Prefix, Tally>, name: &[u8]) -> Option<Prefix> {
    let end = name.iter().position(|byte| *byte == b'}')?;
    let prefix = Prefix::parse(std::str::from_utf8(&name[..=end]).ok()?).ok()?;
    tallies.contains_key(&prefix).then_some(prefix)
}
