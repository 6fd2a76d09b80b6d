//! Reading what has changed alone, so that one record's change is not the whole registry, read by every agent.
//!
//! Invariant: what comes of it is what [`backup`](Registry::backup) would have read. Where the log does not reach
//! from one to the other without a gap (an earlier release or a person has changed something, or a server took
//! over that went another way), everything is read.

use std::collections::BTreeSet;

use redis::aio::ConnectionLike;
use redis::{RedisResult, Value, from_redis_value};

use super::{
    ALIASES, Backup, LOG, META, PREFIXES, REMOVED, Registry, RegistryError, STORES, Texts,
};

/// How many lines the log has, as `changed.lua` keeps it.
const LINES: u64 = 128;

/// How often what is read may be overtaken by another change.
const TURNS: u32 = 4;

/// What `changed.lua` calls the hashes, and their keys.
const HASHES: [(&str, &str); 4] = [
    ("stores", STORES),
    ("prefixes", PREFIXES),
    ("aliases", ALIASES),
    ("removed", REMOVED),
];

/// A place of [`HASHES`], and a field of that hash.
type Field = (usize, String);

/// What the server says at one instant.
struct Instant {
    meta: Texts,
    /// The log from the version on that was read last.
    lines: Vec<Option<String>>,
    /// The values of the fields that were asked for.
    values: Vec<Option<String>>,
}

impl<C: ConnectionLike + Clone + Send + Sync> Registry<C> {
    /// Everything at one instant, of which `last` was everything at an earlier one.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn refresh(&mut self, last: &Backup) -> Result<Backup, RegistryError> {
        let mut touched = BTreeSet::new();
        for _ in 0..TURNS {
            let now = self.at_once(last.version(), &touched).await?;
            let Some(since) = since(last, &now.meta, &now.lines) else {
                break;
            };
            if since == touched {
                return Ok(last.changed(now, touched));
            }
            touched = since;
        }
        self.backup().await
    }

    async fn at_once(&mut self, first: u64, fields: &BTreeSet<Field>) -> RedisResult<Instant> {
        let mut questions = redis::pipe();
        questions.atomic().hgetall(META);
        let lines: Vec<u64> = (first..first + LINES).collect();
        questions.cmd("HMGET").arg(LOG).arg(lines);
        for (hash, field) in fields {
            questions.hget(HASHES[*hash].1, field);
        }
        let told: Vec<Value> = questions.query_async(&mut self.connection).await?;
        let mut told = told.into_iter();
        let mut next = || told.next().unwrap_or(Value::Nil);
        Ok(Instant {
            meta: from_redis_value(next())?,
            lines: from_redis_value(next())?,
            values: fields
                .iter()
                .map(|_| from_redis_value(next()))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Which fields have been touched since `last`; `None` where nothing says it for certain.
fn since(last: &Backup, meta: &Texts, lines: &[Option<String>]) -> Option<BTreeSet<Field>> {
    if last.line.is_none() || meta.get("user-key") != last.meta.get("user-key") {
        return None;
    }
    let version: u64 = meta.get("version")?.parse().ok()?;
    let count = usize::try_from(version.checked_sub(last.version())?).ok()?;
    let (first, more) = lines.get(..=count)?.split_first()?;
    if *first != last.line {
        return None;
    }
    let mut fields = BTreeSet::new();
    for line in more {
        let (touched, _): (Vec<(String, String)>, String) =
            serde_json::from_str(line.as_ref()?).ok()?;
        for (name, field) in touched {
            let hash = HASHES.iter().position(|(known, _)| *known == name)?;
            fields.insert((hash, field));
        }
    }
    Some(fields)
}

impl Backup {
    /// With these fields as they are now.
    fn changed(&self, now: Instant, touched: BTreeSet<Field>) -> Self {
        let mut changed = self.clone();
        changed.meta = now.meta;
        let behind = changed.version().saturating_sub(self.version());
        let line = usize::try_from(behind)
            .ok()
            .and_then(|at| now.lines.get(at));
        changed.line = line.cloned().flatten();
        for ((hash, field), value) in touched.into_iter().zip(now.values) {
            let hashes = [
                &mut changed.stores,
                &mut changed.prefixes,
                &mut changed.aliases,
                &mut changed.removed,
            ];
            for (_, texts) in hashes.into_iter().enumerate().filter(|(at, _)| *at == hash) {
                match &value {
                    Some(value) => texts.insert(field.clone(), value.clone()),
                    None => texts.remove(&field),
                };
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(version: u64) -> Texts {
        let fields = [("version", version.to_string()), ("user-key", "k".into())];
        fields.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn at(version: u64) -> Backup {
        Backup {
            meta: meta(version),
            line: Some(line("first")),
            stores: [("a".to_owned(), "1".to_owned())].into(),
            ..Backup::default()
        }
    }

    fn line(slug: &str) -> String {
        format!("[[[\"stores\",\"{slug}\"],[\"aliases\",\"{slug}\"]],\"digest of {slug}\"]")
    }

    fn lines(slugs: &[&str]) -> Vec<Option<String>> {
        let known = slugs.iter().map(|slug| Some(line(slug)));
        let mut all: Vec<_> = known.collect();
        all.resize(128, None);
        all
    }

    #[test]
    fn what_was_touched_is_told() {
        let fields = since(&at(7), &meta(9), &lines(&["first", "a", "b"])).unwrap();
        let told: Vec<_> = fields
            .iter()
            .map(|(hash, name)| (*hash, &name[..]))
            .collect();
        assert_eq!(told, [(0, "a"), (0, "b"), (2, "a"), (2, "b")]);
        assert_eq!(
            since(&at(7), &meta(7), &lines(&["first"])),
            Some(BTreeSet::new())
        );
    }

    #[test]
    fn gaps_and_other_ways_are_seen() {
        let known = lines(&["first", "a", "b"]);
        assert_eq!(
            since(&at(7), &meta(10), &known),
            None,
            "a change without a line"
        );
        assert_eq!(since(&at(7), &meta(6), &known), None, "an older registry");
        assert_eq!(since(&at(7), &meta(200), &known), None, "too far behind");
        assert_eq!(
            since(&at(7), &meta(9), &lines(&["other", "a", "b"])),
            None,
            "another way"
        );
        let mut replaced = meta(9);
        replaced.insert("user-key".to_owned(), "l".to_owned());
        assert_eq!(since(&at(7), &replaced, &known), None, "another registry");
        let mut unread = at(7);
        unread.line = None;
        assert_eq!(
            since(&unread, &meta(9), &known),
            None,
            "nothing to begin with"
        );
        let mut strange = known;
        strange[1] = Some("[[[\"news\",\"a\"]],\"digest\"]".to_owned());
        assert_eq!(
            since(&at(7), &meta(9), &strange),
            None,
            "a hash of a newer release"
        );
    }

    #[test]
    fn fields_come_and_go() {
        let now = Instant {
            meta: meta(9),
            lines: lines(&["first", "a", "b"]),
            values: vec![None, Some("2".to_owned())],
        };
        let touched = [(0, "a".to_owned()), (0, "b".to_owned())].into();
        let changed = at(7).changed(now, touched);
        assert_eq!(changed.stores, [("b".to_owned(), "2".to_owned())].into());
        assert_eq!((changed.version(), changed.line), (9, Some(line("b"))));
    }
}
