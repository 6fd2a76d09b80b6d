//! A Valkey, an environment that names it, and `flect`.

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;

use crate::bed::Bed;
use crate::tools::Programs;
use crate::wire::{Value, Wire};

/// What a trial needs.
pub struct Stage {
    pub bed: Bed,
    programs: Programs,
}

/// What a key is: type, `DUMP`, when it expires.
pub type Keys = BTreeMap<Vec<u8>, (String, Vec<u8>, String)>;

impl Stage {
    pub fn start(cluster: bool) -> Result<Self> {
        let mut builder = Bed::builder().direct(true);
        if cluster {
            builder = builder.slots_of_direct();
        }
        let bed = builder.start()?;
        let text = format!("[environment.test]\naddress = \"{}\"\n", bed.address());
        std::fs::write(bed.folder().join("environments.toml"), text)?;
        Ok(Self {
            bed,
            programs: Programs::beside_current()?,
        })
    }

    /// `flect` with these arguments, in the stage's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.flect);
        command
            .args(args)
            .current_dir(self.bed.folder())
            .env("FLECT_CONFIG_DIR", self.bed.folder())
            .env_remove("FLECT_ENV")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().context("starting flect")
    }

    /// Runs it; it must succeed. What it prints.
    pub fn flect(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "flect {args:?}: {}: {said}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same with `--json`.
    pub fn json(&self, args: &[&str]) -> Result<Json> {
        let mut all = args.to_vec();
        all.push("--json");
        let text = self.flect(&all)?;
        serde_json::from_str(&text).with_context(|| format!("flect {args:?} printed {text}"))
    }

    /// Runs it; it must fail with this code. What it says on stderr.
    pub fn fails(&self, args: &[&str], code: i32) -> Result<String> {
        let output = self.output(args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "flect {args:?}: {}: {said}",
            output.status
        );
        Ok(said)
    }

    /// Starts it and kills it with SIGKILL when `ready` says so.
    pub fn killed(&self, args: &[&str], ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut child: Child = self.command(args).stdout(Stdio::null()).spawn()?;
        let waited = crate::bed::agent::wait_until(std::time::Duration::from_secs(30), ready);
        let ended = child.try_wait()?;
        child.kill()?;
        child.wait()?;
        waited?;
        ensure!(
            ended.is_none(),
            "flect {args:?} ended before it could be killed"
        );
        Ok(())
    }

    /// Makes a store; its prefix.
    pub fn create(&self, name: &str) -> Result<String> {
        self.prefix_in(&self.json(&["kv", "create", name])?)
    }

    /// A store's prefix.
    pub fn prefix(&self, name: &str) -> Result<String> {
        self.prefix_in(&self.json(&["kv", "show", name])?)
    }

    fn prefix_in(&self, shown: &Json) -> Result<String> {
        Ok(shown["prefix"].as_str().context("no prefix")?.to_owned())
    }

    pub fn operator(&self) -> Result<Wire> {
        Ok(self.bed.operator()?)
    }

    /// So many strings in a store, by the server itself.
    pub fn populate(&self, prefix: &str, count: usize, bytes: usize) -> Result<()> {
        let (count, bytes) = (count.to_string(), bytes.to_string());
        let reply = self
            .operator()?
            .command(&["DEBUG", "POPULATE", &count, prefix, &bytes])?;
        ensure!(reply.text() == "OK", "{reply:?}");
        Ok(())
    }

    /// So many strings that cannot be compressed, of a thousand bytes each.
    pub fn populate_noise(&self, prefix: &str, count: u64) -> Result<()> {
        const AT_ONCE: u64 = 1000;
        let mut operator = self.operator()?;
        let mut state = 88_172_645_463_325_252_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        for first in (0..count).step_by(1000) {
            for number in first..(first + AT_ONCE).min(count) {
                let name = format!("{prefix}:{number}").into_bytes();
                let value: Vec<u8> = (0..125).flat_map(|_| noise()).collect();
                operator.send(&[&b"SET"[..], &name, &value])?;
            }
            for _ in first..(first + AT_ONCE).min(count) {
                let reply = operator.read()?;
                ensure!(reply.text() == "OK", "{reply:?}");
            }
        }
        Ok(())
    }

    /// Every name on the server that begins with a prefix, without it.
    pub fn names(&self, prefix: &str) -> Result<Vec<Vec<u8>>> {
        let reply = self.operator()?.command(&["KEYS", &format!("{prefix}*")])?;
        let mut all = Vec::new();
        for name in reply.items() {
            if let Value::Bulk(name) = name {
                all.push(name[prefix.len()..].to_vec());
            }
        }
        Ok(all)
    }

    /// Everything that is in a store, by what comes after its prefix.
    pub fn keys(&self, prefix: &str) -> Result<Keys> {
        let mut operator = self.operator()?;
        let mut all = Keys::new();
        for name in self.names(prefix)? {
            let stored = [prefix.as_bytes(), &name].concat();
            let mut ask = |words: &[&[u8]]| operator.command(words);
            let kind = ask(&[b"TYPE", &stored])?.text();
            let dump = match ask(&[b"DUMP", &stored])? {
                Value::Bulk(bytes) => bytes,
                _ => Vec::new(),
            };
            let expires = format!("{:?}", ask(&[b"PEXPIRETIME", &stored])?);
            all.insert(name, (kind, dump, expires));
        }
        Ok(all)
    }

    /// A key of every type, in two databases, with and without expiry, binary and large.
    pub fn fill(&self, prefix: &str) -> Result<()> {
        let mut operator = self.operator()?;
        let key = |name: &str| format!("{prefix}:{name}").into_bytes();
        let third = |name: &str| format!("{prefix}/3:{name}").into_bytes();
        let large = vec![b'x'; 3 << 20];
        let many: Vec<Vec<u8>> = (0..2000)
            .map(|n: u32| format!("m{n}").into_bytes())
            .collect();
        let mut list: Vec<Vec<u8>> = vec![b"RPUSH".to_vec(), key("big-list")];
        list.extend(many);
        let commands: Vec<Vec<Vec<u8>>> = vec![
            vec![b"SET".to_vec(), key("string"), b"value".to_vec()],
            vec![b"SET".to_vec(), key("number"), b"12345".to_vec()],
            vec![b"SET".to_vec(), key("empty"), Vec::new()],
            vec![
                b"SET".to_vec(),
                key("expires"),
                b"v".to_vec(),
                b"PXAT".to_vec(),
                b"4102444800123".to_vec(),
            ],
            vec![
                b"SET".to_vec(),
                [&key("bin")[..], b"\x00\xff\r\n*[ "].concat(),
                b"\x00\xff".to_vec(),
            ],
            vec![b"SET".to_vec(), key(""), b"of the empty name".to_vec()],
            vec![b"SET".to_vec(), key("large"), large],
            vec![b"SET".to_vec(), third("string"), b"of database 3".to_vec()],
            list,
        ];
        for command in commands {
            let reply = operator.command(&command)?;
            ensure!(!matches!(reply, Value::Error(_)), "{reply:?}");
        }
        let text = format!(
            "RPUSH {prefix}:list a b c\nSADD {prefix}:set a b c\nSADD {prefix}:ints 1 2 3\nHSET {prefix}:hash f v g w\n\
             ZADD {prefix}:zset 1.5 a -inf b 3 c\nPFADD {prefix}:hll a b c\nSETBIT {prefix}:bits 1000 1\n\
             GEOADD {prefix}:geo 13.4 52.5 Berlin\nXADD {prefix}:stream 1-1 f v\nXADD {prefix}:stream 2-1 f w\n\
             XADD {prefix}:stream 3-1 f x\nXDEL {prefix}:stream 2-1\nXGROUP CREATE {prefix}:stream g1 0\n\
             XGROUP CREATE {prefix}:stream g2 $\nXREADGROUP GROUP g1 c1 COUNT 1 STREAMS {prefix}:stream >\n\
             XADD {prefix}:gone 1-1 a b\nXDEL {prefix}:gone 1-1\nHSET {prefix}/3:hash a b\nPEXPIREAT {prefix}/3:hash 4102444800456\n\
             XADD {prefix}/15:stream 9-9 a b"
        );
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let reply = operator.command(&words)?;
            ensure!(!matches!(reply, Value::Error(_)), "{line}: {reply:?}");
        }
        Ok(())
    }
}

/// Says where two stores differ.
pub fn ensure_equal(left: &Keys, right: &Keys) -> Result<()> {
    for (name, value) in left {
        let shown = String::from_utf8_lossy(name);
        let other = right
            .get(name)
            .with_context(|| format!("{shown} is missing"))?;
        ensure!(value.0 == other.0, "{shown}: {} or {}", value.0, other.0);
        ensure!(
            value.2 == other.2,
            "{shown} expires {} or {}",
            value.2,
            other.2
        );
        ensure!(value.1 == other.1, "{shown}: other bytes");
    }
    ensure!(
        left.len() == right.len(),
        "{} or {} keys",
        left.len(),
        right.len()
    );
    Ok(())
}
