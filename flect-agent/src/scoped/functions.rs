//! FUNCTION LOAD, LIST, DELETE, FLUSH, DUMP, RESTORE, STATS and KILL, and SCRIPT KILL: the server has one
//! registry for all stores, so a user that can do nothing else (the librarian) works on the store's names in it.
//!
//! Invariant: every name that goes to the librarian's connection bears the store's id, and what comes back
//! without it is another store's and is not looked at. What is running is ended only when its name says
//! that it is the store's own.

use std::sync::Arc;

use super::answer::Reply;
use super::library::{self, Held, Running};
use super::walk::misunderstood;
use super::{Context, Step, Target, ask, error};
use crate::resp::encode;
use crate::scripts::{FunctionNames, Library, Scripts, load_error, payload};
use crate::store::Prefix;

/// What was asked for.
#[derive(Debug)]
pub(super) enum Command {
    Load {
        library: Library,
        replace: bool,
    },
    List {
        pattern: Option<Vec<u8>>,
        code: bool,
    },
    Delete(Vec<u8>),
    Flush,
    Dump,
    Restore {
        libraries: Vec<Library>,
        policy: Restore,
    },
    Stats,
    KillFunction,
    KillScript,
    /// Which functions ask for names of all keys: looked for before one is called.
    Learn(Arc<Scripts>),
}

/// What FUNCTION RESTORE does with the libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restore {
    Append,
    Replace,
    Flush,
}

/// A function command under way.
#[derive(Debug)]
pub struct Functions {
    command: Command,
    stage: Stage,
    names: FunctionNames,
    prefix: Prefix,
    databases: u32,
    /// A script of the store's is under way on this node, as far as that is known.
    scripts_run: bool,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has been asked for.
    Begin,
    /// What is there?
    List,
    /// The server does what was asked for.
    Only,
    /// What is in the way goes, then what is new comes; an error turns all of it back.
    Change(Change),
    /// What is running?
    Stats,
    /// How many libraries are there? The reply up to there is done.
    Count(Option<Running>),
    /// It is the store's own.
    Kill,
}

/// Steps to another state of the store's libraries, and back.
#[derive(Debug)]
struct Change {
    /// To be done, the next one last.
    steps: Vec<Edit>,
    /// What turns back what is done, the last one first when taken from the end.
    undo: Vec<Edit>,
    doing: Option<Edit>,
    /// What the app is told in the end.
    reply: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Edit {
    /// The server's name.
    name: Vec<u8>,
    /// The server's text to load, or none to delete.
    text: Option<Vec<u8>>,
    /// What turns it back: the text that it takes away.
    before: Option<Vec<u8>>,
}

/// What a server says that runs nothing (`scriptKill` in script.c).
const NOT_BUSY: &[u8] = b"-NOTBUSY No scripts in execution right now.\r\n";

/// The server runs one script at a time and does not say whose.
const WHOSE: &[u8] = b"-ERR a script is running, but the server does not tell whether it is this store's: ask the operator of this Valkey to end it\r\n";

impl Functions {
    pub(super) fn new(
        command: Command,
        prefix: &Prefix,
        databases: u32,
        scripts_run: bool,
    ) -> Self {
        Self {
            command,
            stage: Stage::Begin,
            names: FunctionNames::of(prefix),
            prefix: prefix.clone(),
            databases,
            scripts_run,
        }
    }

    /// Looks at which of the store's functions ask for names, for a call that is looked at again then.
    #[must_use]
    pub fn learn(scripts: Arc<Scripts>, prefix: &Prefix, databases: u32) -> Self {
        Self::new(Command::Learn(scripts), prefix, databases, false)
    }

    /// Whether the store's functions may be others afterwards.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(
            self.command,
            Command::Load { .. } | Command::Delete(_) | Command::Flush | Command::Restore { .. }
        )
    }

    pub(super) fn ask(&mut self) -> Step {
        let (stage, step) = match &self.command {
            Command::Delete(name) => {
                let name = self.names.of_server(name);
                let words = [b"FUNCTION".as_slice(), b"DELETE", &name];
                (Stage::Only, ask(Target::Librarian, &words))
            }
            Command::Stats | Command::KillFunction | Command::KillScript => {
                let words = [b"FUNCTION".as_slice(), b"STATS"];
                (Stage::Stats, ask(Target::Librarian, &words))
            }
            Command::Learn(_) => (Stage::List, self.list(None, false)),
            Command::List { pattern, code } => (Stage::List, self.list(pattern.as_deref(), *code)),
            Command::Flush | Command::Dump | Command::Load { .. } | Command::Restore { .. } => {
                (Stage::List, self.list(None, true))
            }
        };
        self.stage = stage;
        step
    }

    fn list(&self, pattern: Option<&[u8]>, code: bool) -> Step {
        let pattern = self.names.of_server(pattern.unwrap_or(b"*"));
        let mut words: Vec<&[u8]> = vec![b"FUNCTION", b"LIST", b"LIBRARYNAME", &pattern];
        if code {
            words.push(b"WITHCODE");
        }
        ask(Target::Librarian, &words)
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        if let Reply::Error(text) = reply {
            return self.take_error(text, context);
        }
        match std::mem::replace(&mut self.stage, Stage::Only) {
            Stage::Begin => misunderstood(),
            Stage::List => match library::held(reply, &self.names) {
                Some(held) => self.listed(&held, context),
                None => misunderstood(),
            },
            Stage::Only => match (reply, &self.command) {
                (Reply::Bytes(name), Command::Load { .. }) => {
                    let mut out = Vec::new();
                    encode::bulk(self.names.of_app(name).unwrap_or_default(), &mut out);
                    Step::Done(out)
                }
                _ => Step::Done(b"+OK\r\n".to_vec()),
            },
            Stage::Change(change) => self.go_on(change),
            Stage::Stats => self.running(reply),
            Stage::Count(running) => match library::held(reply, &self.names) {
                Some(held) => {
                    let functions = held.iter().map(|held| held.functions.len()).sum();
                    Step::Done(library::stats(
                        running.as_ref(),
                        held.len(),
                        functions,
                        context.protocol,
                    ))
                }
                None => misunderstood(),
            },
            Stage::Kill => Step::Done(b"+OK\r\n".to_vec()),
        }
    }

    fn take_error(&mut self, text: &str, context: &Context) -> Step {
        if matches!(self.command, Command::Learn(_)) {
            // What is known must do; the call itself will be told what is wrong.
            return Step::Again;
        }
        let said = match &self.command {
            Command::Load { .. } | Command::Restore { .. } => load_error(text, &self.names),
            _ => self.names.strip(text),
        };
        match std::mem::replace(&mut self.stage, Stage::Only) {
            Stage::Change(mut change) => {
                // The last step has changed nothing.
                change.doing = None;
                change.steps = std::mem::take(&mut change.undo);
                if change.reply.first() != Some(&b'-') {
                    change.reply = error(&said);
                }
                self.go_on(change)
            }
            // A script of EVAL is running: only the agents know whose.
            Stage::Stats if text.starts_with("BUSY") => self.script_runs(&said),
            // Nothing can be counted while a function runs.
            Stage::Count(running) if text.starts_with("BUSY") => {
                Step::Done(library::stats(running.as_ref(), 0, 0, context.protocol))
            }
            _ => Step::Done(error(&said)),
        }
    }

    /// What the store has is known.
    fn listed(&mut self, held: &[Held], context: &Context) -> Step {
        match &self.command {
            Command::Learn(scripts) => {
                scripts.learn_functions(library::known(held));
                Step::Again
            }
            Command::List { code, .. } => Step::Done(library::show(held, *code, context.protocol)),
            Command::Dump => {
                let texts: Vec<_> = held.iter().map(Held::app_text).collect();
                let mut out = Vec::new();
                encode::bulk(payload::pack(&texts), &mut out);
                Step::Done(out)
            }
            Command::Flush => {
                let steps = held.iter().map(|held| self.delete(held)).collect();
                self.change(steps)
            }
            Command::Load { library, replace } => {
                let replaced = held.iter().any(|held| held.name == library.name.as_bytes());
                if replaced && !replace {
                    let name = &library.name;
                    return Step::Done(error(&format!("ERR Library '{name}' already exists")));
                }
                let kept = held
                    .iter()
                    .filter(|held| held.name != library.name.as_bytes());
                if let Err(refusal) = library::bounded(kept, std::slice::from_ref(library)) {
                    return Step::Done(refusal);
                }
                let text = library.server_text(&self.prefix, self.databases);
                let mut words: Vec<&[u8]> = vec![b"FUNCTION", b"LOAD"];
                if *replace {
                    words.push(b"REPLACE");
                }
                words.push(&text);
                self.stage = Stage::Only;
                ask(Target::Librarian, &words)
            }
            Command::Restore { .. } => match self.restore(held) {
                Ok(steps) => self.change(steps),
                Err(refusal) => Step::Done(refusal),
            },
            _ => misunderstood(),
        }
    }

    /// The server's own RESTORE would wait forever for a library that never comes to its end, so each is
    /// loaded, which the server gives up after half a second.
    fn restore(&self, held: &[Held]) -> Result<Vec<Edit>, Vec<u8>> {
        let Command::Restore { libraries, policy } = &self.command else {
            return Ok(Vec::new());
        };
        for (at, library) in libraries.iter().enumerate() {
            let name = &library.name;
            if libraries[..at].iter().any(|before| before.name == *name) {
                return Err(error(&format!("ERR Library '{name}' already exists")));
            }
        }
        let comes = |held: &Held| {
            let mut names = libraries.iter().map(|library| library.name.as_bytes());
            names.any(|name| name == held.name)
        };
        if let (Some(held), Restore::Append) = (held.iter().find(|held| comes(held)), policy) {
            let name = String::from_utf8_lossy(&held.name);
            return Err(error(&format!("ERR Library {name} already exists")));
        }
        let goes = |held: &Held| *policy == Restore::Flush || comes(held);
        let kept = held.iter().filter(|held| !goes(held));
        library::bounded(kept, libraries)?;
        let gone = held
            .iter()
            .filter(|held| goes(held))
            .map(|held| self.delete(held));
        let new = libraries.iter().map(|library| Edit {
            name: self.names.of_server(library.name.as_bytes()),
            text: Some(library.server_text(&self.prefix, self.databases)),
            before: None,
        });
        Ok(gone.chain(new).collect())
    }

    fn delete(&self, held: &Held) -> Edit {
        Edit {
            name: self.names.of_server(&held.name),
            text: None,
            before: Some(held.server_text.clone()),
        }
    }

    fn change(&mut self, mut steps: Vec<Edit>) -> Step {
        steps.reverse();
        self.go_on(Change {
            steps,
            undo: Vec::new(),
            doing: None,
            reply: b"+OK\r\n".to_vec(),
        })
    }

    fn go_on(&mut self, mut change: Change) -> Step {
        if let Some(done) = change.doing.take() {
            change.undo.push(Edit {
                text: done.before.clone(),
                before: done.text,
                name: done.name,
            });
        }
        let Some(next) = change.steps.pop() else {
            return Step::Done(change.reply);
        };
        let step = match &next.text {
            Some(text) => ask(Target::Librarian, &[b"FUNCTION".as_slice(), b"LOAD", text]),
            None => ask(
                Target::Librarian,
                &[b"FUNCTION".as_slice(), b"DELETE", &next.name],
            ),
        };
        change.doing = Some(next);
        self.stage = Stage::Change(change);
        step
    }

    /// The server says what is running: a function, or nothing.
    fn running(&mut self, reply: &Reply) -> Step {
        let running = library::running(reply, &self.names);
        match &self.command {
            Command::Stats => {
                self.stage = Stage::Count(running);
                self.list(None, false)
            }
            // The server's own words: for SCRIPT KILL that a function is running.
            _ if running.is_some() => self.kill(),
            _ => Step::Done(NOT_BUSY.to_vec()),
        }
    }

    /// A script of EVAL is running, of whichever store.
    fn script_runs(&mut self, said: &str) -> Step {
        match &self.command {
            _ if !self.scripts_run => match &self.command {
                Command::Stats => {
                    self.stage = Stage::Count(None);
                    self.list(None, false)
                }
                _ => Step::Done(NOT_BUSY.to_vec()),
            },
            Command::KillScript => Step::Done(WHOSE.to_vec()),
            _ => Step::Done(error(said)),
        }
    }

    fn kill(&mut self) -> Step {
        self.stage = Stage::Kill;
        let what: &[u8] = match self.command {
            Command::KillScript => b"SCRIPT",
            _ => b"FUNCTION",
        };
        ask(Target::Librarian, &[what, b"KILL"])
    }
}
