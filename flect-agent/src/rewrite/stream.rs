//! Rewriting a request that does not fit the buffer, while it streams.
//!
//! Invariant: for any cut of the bytes into calls, the output is what [`super::request::rewrite`] would
//! make of the whole request, and memory stays below one word and the header of an argument.

use super::classify::{ArgClass, Classifier};
use super::reply::ReplyPlan;
use super::words::WORD_BYTES_MAX;
use crate::commands::Command;
use crate::resp::request::ProtocolError;
use crate::resp::{BULK_BYTES_MAX, encode, header};
use crate::store::Namespace;

/// One request on its way.
#[derive(Debug)]
pub struct StreamRewriter {
    /// `None` when the request is swallowed.
    classifier: Option<Box<Classifier>>,
    plan: ReplyPlan,
    /// What stands in the place of argument 1, and what comes behind the last.
    script: Option<Box<Script>>,
    argc: usize,
    /// The argument that comes next, or is on its way.
    arg: usize,
    state: State,
    /// An argument that may be a word, until all of it is here.
    word: Vec<u8>,
    /// The keys, where somebody wants to know them.
    keys: Option<Box<Keys>>,
}

/// The keys of a request as the app wrote them, as far as there is room.
#[derive(Debug, Default)]
struct Keys {
    all: Vec<Vec<u8>>,
    room: usize,
    /// The last one is on its way.
    open: bool,
}

impl Keys {
    /// A key begins; `word` is all of it, or none of it has come.
    fn begin(&mut self, word: Option<&[u8]>) {
        self.open = word.is_none();
        self.all.push(Vec::new());
        self.take(word.unwrap_or_default());
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(last) = self.all.last_mut() else {
            return;
        };
        if bytes.len() > self.room {
            // Half a name is another name.
            self.all.pop();
            self.open = false;
            self.room = 0;
            return;
        }
        self.room -= bytes.len();
        last.extend_from_slice(bytes);
    }
}

/// What a request that runs a script holds besides the app's arguments.
#[derive(Debug)]
struct Script {
    script: Vec<u8>,
    last: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At `*`.
    Multibulk,
    /// At the header of an argument.
    Header,
    /// In an argument short enough to be a word.
    Word {
        bytes: usize,
    },
    /// In an argument that is copied as it comes.
    Payload {
        left: usize,
    },
    /// In an argument that something else stands for.
    Dropped {
        left: usize,
    },
    /// In the two bytes after an argument; Valkey does not look at them.
    Ending {
        left: usize,
    },
    Done,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// So many bytes of the input are used up.
    pub consumed: usize,
    /// The value ended exactly there.
    pub done: bool,
}

impl StreamRewriter {
    /// For a request of `argc` arguments, fed from its first byte on. Only for commands that are
    /// [`crate::commands::streamable`].
    #[must_use]
    pub fn begin(command: &'static Command, argc: usize) -> Self {
        Self {
            classifier: Some(Box::new(Classifier::new(command, argc))),
            plan: ReplyPlan::of(command.reply),
            ..Self::discard(argc)
        }
    }

    /// For a request that runs a script: `script` stands for its text or name, `last` comes behind its
    /// arguments, and `plan` says how its reply must be read.
    #[must_use]
    pub fn begin_script(
        command: &'static Command,
        argc: usize,
        script: Vec<u8>,
        last: Option<Vec<u8>>,
        plan: ReplyPlan,
    ) -> Self {
        Self {
            plan,
            script: Some(Box::new(Script { script, last })),
            ..Self::begin(command, argc)
        }
    }

    /// Swallows a request of `argc` arguments, fed from its first byte on.
    #[must_use]
    pub fn discard(argc: usize) -> Self {
        Self {
            classifier: None,
            plan: ReplyPlan::Verbatim,
            script: None,
            argc,
            arg: 0,
            state: State::Multibulk,
            word: Vec::new(),
            keys: None,
        }
    }

    /// Notes the keys, of which all together may have so many bytes.
    pub fn note_keys(&mut self, bytes_max: usize) {
        self.keys = Some(Box::new(Keys {
            room: bytes_max,
            ..Keys::default()
        }));
    }

    /// The keys that were noted, as the app wrote them.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let keys = self.keys.iter().flat_map(|keys| &keys.all);
        keys.map(Vec::as_slice)
    }

    /// How the reply must be read.
    #[must_use]
    pub fn plan(&self) -> ReplyPlan {
        self.plan.clone()
    }

    /// Consumes what it can and appends the rewritten bytes to `out`. Only the incomplete header of an
    /// argument stays unconsumed.
    ///
    /// # Errors
    /// What Valkey would say. The request has been forwarded in part, so the upstream connection is of
    /// no use afterwards.
    pub fn advance(
        &mut self,
        input: &[u8],
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<Advance, ProtocolError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Multibulk => {
                    let Some(line) = header::multibulk(rest)? else {
                        break;
                    };
                    if usize::try_from(line.value) != Ok(self.argc) || self.argc == 0 {
                        return Err(ProtocolError::InvalidMultibulkLength);
                    }
                    at += line.bytes;
                    if self.classifier.is_some() {
                        let last = self
                            .script
                            .as_ref()
                            .is_some_and(|script| script.last.is_some());
                        encode::array(self.argc + usize::from(last), out);
                    }
                    self.state = State::Header;
                }
                State::Header => {
                    let Some(line) = header::bulk(rest)? else {
                        break;
                    };
                    at += line.bytes;
                    self.begin_arg(line.value, namespace, out)?;
                }
                State::Word { bytes } => {
                    let used = self.take_word(bytes, rest, namespace, out)?;
                    at += used;
                    if matches!(self.state, State::Word { .. }) {
                        break;
                    }
                }
                State::Payload { left } => {
                    let used = left.min(rest.len());
                    if self.classifier.is_some() {
                        out.extend_from_slice(&rest[..used]);
                    }
                    if let Some(keys) = self.keys.as_mut().filter(|keys| keys.open) {
                        keys.take(&rest[..used]);
                    }
                    at += used;
                    if used < left {
                        self.state = State::Payload { left: left - used };
                        break;
                    }
                    self.state = State::Ending { left: 2 };
                }
                State::Dropped { left } => {
                    let used = left.min(rest.len());
                    at += used;
                    if used < left {
                        self.state = State::Dropped { left: left - used };
                        break;
                    }
                    self.state = State::Ending { left: 2 };
                }
                State::Ending { left } => {
                    let used = left.min(rest.len());
                    at += used;
                    if used < left {
                        self.state = State::Ending { left: left - used };
                        break;
                    }
                    self.end_arg(out);
                }
                State::Done => break,
            }
        }
        Ok(Advance {
            consumed: at,
            done: matches!(self.state, State::Done),
        })
    }

    fn begin_arg(
        &mut self,
        bytes: usize,
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        if let (1, Some(script), Some(classifier)) = (self.arg, &self.script, &mut self.classifier)
        {
            // It is no name; asked all the same, since each argument must be.
            classifier.class(1, None);
            encode::header(b'$', script.script.len(), out);
            out.extend_from_slice(&script.script);
            self.state = State::Dropped { left: bytes };
            return Ok(());
        }
        if self.classifier.is_some() && bytes <= WORD_BYTES_MAX {
            self.word.clear();
            self.state = State::Word { bytes };
            return Ok(());
        }
        self.state = State::Payload { left: bytes };
        self.write_header(bytes, None, namespace, out)
    }

    /// Takes the rest of a word from `rest`; writes the argument when it is whole.
    fn take_word(
        &mut self,
        bytes: usize,
        rest: &[u8],
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<usize, ProtocolError> {
        let used = (bytes - self.word.len()).min(rest.len());
        if self.word.len() + used < bytes {
            self.word.extend_from_slice(&rest[..used]);
            return Ok(used);
        }
        self.state = State::Ending { left: 2 };
        if self.word.is_empty() {
            self.write_header(bytes, Some(&rest[..used]), namespace, out)?;
            out.extend_from_slice(&rest[..used]);
            return Ok(used);
        }
        let mut word = std::mem::take(&mut self.word);
        word.extend_from_slice(&rest[..used]);
        let written = self.write_header(bytes, Some(&word), namespace, out);
        out.extend_from_slice(&word);
        self.word = word;
        written.map(|()| used)
    }

    /// Writes the header of an argument of `bytes` bytes, and its prefix when it is a name.
    fn write_header(
        &mut self,
        bytes: usize,
        word: Option<&[u8]>,
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let Some(classifier) = &mut self.classifier else {
            return Ok(());
        };
        let class = classifier.class(self.arg, word);
        if let Some(keys) = &mut self.keys {
            keys.open = false;
            if class == ArgClass::Key {
                keys.begin(word);
            }
        }
        let prefix: &[u8] = match class {
            ArgClass::Verbatim => b"",
            ArgClass::Key => namespace.keys(),
            ArgClass::Channel => namespace.channels(),
        };
        // The server would close the connection over a longer one.
        if bytes + prefix.len() > BULK_BYTES_MAX {
            return Err(ProtocolError::InvalidBulkLength);
        }
        encode::header(b'$', bytes + prefix.len(), out);
        out.extend_from_slice(prefix);
        Ok(())
    }

    fn end_arg(&mut self, out: &mut Vec<u8>) {
        if self.classifier.is_some() {
            out.extend_from_slice(b"\r\n");
        }
        self.arg += 1;
        self.state = if self.arg == self.argc {
            if let Some(last) = self.script.as_ref().and_then(|script| script.last.as_ref()) {
                encode::bulk(last, out);
            }
            State::Done
        } else {
            State::Header
        };
    }
}
