//! The neighbour, and what sees that something has crossed to it or from it.
//!
//! Its values, the names of some keys and clients hold a mark that the attacker cannot know; it listens,
//! waits and tracks; the server's own state is looked at before and after. Invariant: whatever the attacker
//! may have and whatever it may do to its own store is not seen here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bed::{APP1, Bed};
use crate::wire::{Value, Wire};

/// The victim's app and store.
const APP: &str = "app2";
/// What the attacks publish and write; the victim must never get to see it.
const FORGED: &str = "FORGED";
/// A server that is slow for everyone answers after this at the latest; one that was stopped does not.
const PATIENCE: Duration = Duration::from_secs(3);
/// A busy machine takes its time until the one who waits is seen to wait.
const WAITS_WITHIN: Duration = Duration::from_secs(20);
/// What is there already is there at once.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The neighbour.
pub struct Victim {
    mark: String,
    prefix: String,
    own: String,
    /// What the passwords of all stores' users are made of.
    user_key: String,
    /// It speaks to the server itself, as its own user: a weakened agent may lead it astray as well.
    direct: bool,
    clients: RefCell<Option<Clients>>,
}

/// Its connections.
struct Clients {
    listening: Wire,
    tracking: Wire,
    waiting: Wire,
    /// The number and the address of the one that waits, as the server knows them.
    number: String,
    address: String,
}

/// What the operator sees of the victim and of the server.
pub struct Look(BTreeMap<String, String>);

impl Look {
    /// What is different afterwards.
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let names = self.0.keys().chain(after.0.keys());
        let mut changed: Vec<_> = names
            .filter(|name| self.0.get(*name) != after.0.get(*name))
            .map(|name| format!("changed: {name}"))
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

impl Victim {
    /// Moves in.
    ///
    /// # Errors
    /// When the bed does not work.
    pub fn start(bed: &Bed, direct: bool) -> Result<Self> {
        let mut operator = bed.operator()?;
        let user_key = operator.command(&["HGET", "flect:{registry}:meta", "user-key"])?;
        let victim = Self {
            user_key: user_key.text(),
            mark: format!("{:016x}", fastrand::u64(..)),
            prefix: bed.prefix(APP)?,
            own: bed.prefix("store1")?,
            direct,
            clients: RefCell::new(None),
        };
        victim.prepare(bed)?;
        Ok(victim)
    }

    /// Puts everything in its place.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn prepare(&self, bed: &Bed) -> Result<()> {
        *self.clients.borrow_mut() = None;
        let mark = &self.mark;
        let mut wire = self.connect(bed)?;
        wire.set_patience(PATIENCE * 3)?;
        let mut operator = bed.operator()?;
        operator.set_patience(PATIENCE * 3)?;
        let keys = operator.command(&["KEYS", &format!("{}*", self.prefix)])?;
        for key in keys.items() {
            operator.command(&["DEL", &key.text()])?;
        }
        let library = format!(
            "#!lua name=library\nserver.register_function('f', function() return '{mark}' end)"
        );
        for line in [
            format!("SET r-string {mark}"),
            format!("SET r-hidden-{mark} {mark}"),
            format!("RPUSH r-list {mark} b"),
            format!("HSET r-hash f {mark}"),
            format!("SADD r-set {mark} b"),
            format!("ZADD r-zset 1 {mark} 2 b"),
            format!("GEOADD r-geo 1 1 {mark}"),
            format!("XADD r-stream 1-1 f {mark}"),
            "XGROUP CREATE r-stream group 0".to_owned(),
            "SET r-number 5".to_owned(),
        ] {
            let line = line.replacen(" r-", &format!(" {}", self.name("r-")), 1);
            let line = line.replace("CREATE r-", &format!("CREATE {}", self.name("r-")));
            let reply = wire.command(&line.split(' ').collect::<Vec<_>>())?;
            ensure!(!matches!(reply, Value::Error(_)), "{line}: {reply}");
        }
        let third = format!("{}/3:r-string", self.prefix);
        operator.command(&["SET", &third, mark])?;
        if self.direct {
            let names = format!("flect_{}_", self.id());
            let library = library
                .replace("name=", &format!("name={names}"))
                .replace("'f'", &format!("'{names}f'"));
            operator.command(&["FUNCTION", "LOAD", "REPLACE", &library])?;
        } else {
            wire.command(&["FUNCTION", "LOAD", "REPLACE", &library])?;
        }
        *self.clients.borrow_mut() = Some(self.clients(bed)?);
        Ok(())
    }

    /// A connection of the victim's.
    fn connect(&self, bed: &Bed) -> Result<Wire> {
        if !self.direct {
            return Ok(bed.connect(APP)?);
        }
        let user = format!("flect.{}", self.id());
        let mut operator = bed.operator()?;
        operator.set_patience(PATIENCE)?;
        operator.command(&["ACL", "SETUSER", &user, "on", ">direct"])?;
        let mut wire = bed.operator()?;
        wire.set_patience(PATIENCE)?;
        let reply = wire.command(&["AUTH", &user, "direct"])?;
        ensure!(reply.text() == "OK", "{reply}");
        Ok(wire)
    }

    /// The name of a key or channel, as the victim must write it.
    fn name(&self, name: &str) -> String {
        match self.direct {
            true => format!("{}:{name}", self.prefix),
            false => name.to_owned(),
        }
    }

    /// Takes away what the attacker has of its own.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn clean(&self, bed: &Bed) -> Result<()> {
        if !self.direct {
            let mut wire = bed.connect(APP1)?;
            for line in [["FLUSHALL"].as_slice(), &["FUNCTION", "FLUSH"]] {
                wire.command(line)?;
            }
            return Ok(());
        }
        let mut operator = bed.operator()?;
        operator.set_patience(PATIENCE)?;
        let keys = operator.command(&["KEYS", &format!("{}*", self.own)])?;
        for key in keys.items() {
            operator.command(&["DEL", &key.text()])?;
        }
        Ok(())
    }

    fn clients(&self, bed: &Bed) -> Result<Clients> {
        let connect = || -> Result<Wire> {
            let mut wire = self.connect(bed)?;
            wire.set_patience(PATIENCE)?;
            wire.command(&["HELLO", "3", "SETNAME", &self.mark])?;
            Ok(wire)
        };
        let (mut listening, mut tracking, mut waiting) = (connect()?, connect()?, connect()?);
        for (command, name) in [("SUBSCRIBE", "channel"), ("SSUBSCRIBE", "shard")] {
            listening.command(&[command, &self.name(name)])?;
        }
        listening.command(&["PSUBSCRIBE", &self.name("*")])?;
        tracking.command(&[
            "CLIENT",
            "TRACKING",
            "ON",
            "BCAST",
            "PREFIX",
            &self.name("r-"),
        ])?;
        waiting.send(&["BLPOP", &self.name("r-wait"), "0"])?;
        let user = format!("user=flect.{} ", self.id());
        let mut operator = bed.operator()?;
        operator.set_patience(PATIENCE)?;
        let deadline = Instant::now() + WAITS_WITHIN;
        while Instant::now() < deadline {
            let list = operator.command(&["CLIENT", "LIST"])?.text();
            let line = list
                .lines()
                .find(|line| line.contains(&user) && line.contains("cmd=blpop"));
            if let Some(line) = line {
                let field = |name: &str| {
                    let found = line.split(' ').find_map(|part| part.strip_prefix(name));
                    found.unwrap_or_default().to_owned()
                };
                return Ok(Clients {
                    listening,
                    tracking,
                    waiting,
                    number: field("id="),
                    address: field("addr="),
                });
            }
        }
        bail!("nobody waits")
    }

    fn id(&self) -> &str {
        self.prefix.trim_matches(['{', '}'])
    }

    /// Fills what the attacker knows into the text of an attack.
    pub fn fill(&self, text: &str) -> String {
        let clients = self.clients.borrow();
        let (number, address) = clients
            .as_ref()
            .map_or(("1", "127.0.0.1:1"), |it| (&it.number, &it.address));
        text.replace("{foreign}", &self.prefix)
            .replace("{foreign-id}", self.id())
            .replace("{own}", &self.own)
            .replace("{own-id}", self.own.trim_matches(['{', '}']))
            .replace("{client}", number)
            .replace("{address}", address)
    }

    /// What the attacker has been told. `sent` is the attack: what it says itself is no secret.
    pub fn told(&self, sent: &str, seen: &str) -> Vec<String> {
        let mut told = Vec::new();
        let mut secret = |what: &str, text: &str| {
            if let Some(at) = seen.find(text) {
                let around: String = seen[..at].chars().rev().take(30).collect();
                let around: String = around.chars().rev().collect();
                told.push(format!("told {what}: {around:?} {text}"));
            }
        };
        secret("the mark", &self.mark);
        secret("the key of all passwords", &self.user_key);
        if !sent.contains("{foreign") {
            secret("the neighbour's prefix", self.id());
        }
        secret("a user", "flect.housekeeper");
        secret("a user", "flect.librarian");
        if !sent.contains("{own") {
            secret(
                "a user",
                &format!("flect.{}", self.own.trim_matches(['{', '}'])),
            );
            secret("its own prefix", &self.own);
        }
        if !sent.contains("{registry}") {
            secret("the registry", "flect:{registry}");
        }
        told
    }

    /// What the victim itself has noticed.
    pub fn disturbed(&self) -> Vec<String> {
        let mut clients = self.clients.borrow_mut();
        let Some(clients) = clients.as_mut() else {
            return vec!["the victim has no connections".to_owned()];
        };
        let mut noticed = Vec::new();
        match until_pong(&mut clients.listening) {
            Ok(text) if text.contains(FORGED) => noticed.push(format!("the victim heard {text}")),
            Ok(_) => {}
            Err(error) => noticed.push(format!("the victim listens no more: {error:#}")),
        }
        match until_pong(&mut clients.tracking) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => noticed.push(format!("the victim's cache was told {text}")),
            Err(error) => noticed.push(format!("the victim tracks no more: {error:#}")),
        }
        match clients.waiting.is_silent_for(AT_ONCE) {
            Ok(true) => {}
            other => noticed.push(format!("the victim waits no more: {other:?}")),
        }
        noticed
    }

    /// What the operator sees, but for what is the attacker's own.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn look(&self, bed: &Bed) -> Result<Look> {
        let mut wire = bed.operator()?;
        wire.set_patience(PATIENCE)?;
        let mut ask = |line: &str| -> Result<Value> {
            let reply = wire.command(&line.split(' ').collect::<Vec<_>>());
            reply.with_context(|| line.to_owned())
        };
        let mut seen = BTreeMap::new();
        for pattern in [format!("{}*", self.prefix), "flect:*".to_owned()] {
            for key in ask(&format!("KEYS {pattern}"))?.items() {
                let key = key.text();
                let own = key.starts_with(&format!("flect:scripts:{}", self.own))
                    || key.ends_with(":usage")
                    || key.ends_with(":round")
                    || key.ends_with(":accountant");
                // Their versions change with what the attacker may set for its own store.
                let changing = [":meta", ":stores", ":log"];
                let changing = changing.iter().any(|end| key.ends_with(end));
                let dump = match own || changing {
                    true => String::new(),
                    false => ask(&format!("DUMP {key}"))?.text(),
                };
                if !own {
                    let expires = ask(&format!("PEXPIRETIME {key}"))?.text();
                    seen.insert(key, dump + &expires);
                }
            }
        }
        let foreign_record = format!("HGET flect:{{registry}}:stores {APP}");
        let user_key = "HGET flect:{registry}:meta user-key".to_owned();
        let library = format!("FUNCTION LIST LIBRARYNAME flect_{}_* WITHCODE", self.id());
        let keys_elsewhere = "INFO keyspace".to_owned();
        for line in [
            foreign_record,
            user_key,
            library,
            "MODULE LIST".to_owned(),
            "LASTSAVE".to_owned(),
            "ACL GETUSER default".to_owned(),
        ] {
            let reply = ask(&line)?.to_string();
            seen.insert(line, reply);
        }
        let databases = ask(&keys_elsewhere)?.text();
        let others = databases
            .lines()
            .filter(|line| line.starts_with("db") && !line.starts_with("db0"));
        seen.insert(keys_elsewhere, others.collect());
        let settings = ask("CONFIG GET *")?;
        for pair in settings.items().chunks(2) {
            let [name, value] = pair else { continue };
            // The agent switches it on when the first store asks for notifications.
            if name.text() != "notify-keyspace-events" {
                seen.insert(format!("setting {name}"), value.text());
            }
        }
        let own = format!("user flect.{}", self.own.trim_matches(['{', '}']));
        for user in ask("ACL LIST")?.items() {
            let user = user.text();
            if !user.starts_with(&own) {
                seen.insert(user, String::new());
            }
        }
        for name in ["server", "replication"] {
            let info = ask(&format!("INFO {name}"))?.text();
            let fixed = |line: &&str| line.starts_with("run_id:") || line.starts_with("role:");
            seen.insert(name.to_owned(), info.lines().filter(fixed).collect());
        }
        Ok(Look(seen))
    }
}

/// Everything that came before the answer to a PING.
fn until_pong(wire: &mut Wire) -> Result<String> {
    wire.send(&["PING", "pong-of-the-victim"])?;
    let mut text = String::new();
    loop {
        let value = wire.read()?;
        if matches!(&value, Value::Bulk(bytes) if bytes == b"pong-of-the-victim") {
            return Ok(text);
        }
        text.push_str(&value.to_string());
    }
}
