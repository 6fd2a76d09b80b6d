//! Which arguments of a request are names of the store.
//!
//! Invariant: an argument's class follows from the number of arguments and from the arguments before
//! it, so that a request can be rewritten while it streams; and an argument whose meaning cannot be
//! decided counts as a name. Both rewriters ask this one classifier, so they cannot disagree.

use super::words::{is, is_word};
use crate::commands::{Begin, Command, Find, KeySpec, Names, SPECS_MAX};
use crate::resp::number;
use crate::weakened::{self, Weakness};

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArgClass {
    /// Anything that is no name.
    Verbatim,
    /// A key, a pattern of keys or the beginning of keys. A prefix holds no glob character, so it may
    /// stand in front of each.
    Key,
    /// A channel or a pattern of channels.
    Channel,
}

use ArgClass::{Channel, Key, Verbatim};

/// Classifies the arguments of one request, from the first to the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classifier {
    argc: usize,
    walk: Walk,
}

#[derive(Clone, Copy, Debug)]
enum Walk {
    /// Everything left is of one class.
    Rest(ArgClass),
    /// Only argument 1 is a channel.
    OneChannel,
    /// The first arguments are words, the others of one class.
    From(usize, ArgClass),
    /// Keys where the key specs say.
    Specs {
        spans: [Span; SPECS_MAX],
        used: usize,
    },
    /// A key, then words of which some make the next arguments keys.
    Options {
        grammar: Names,
        /// So many of the next arguments have this class, whatever they are.
        next: (usize, ArgClass),
        /// The next argument is SORT's pattern, where `#` is the element itself.
        pattern: bool,
    },
}

/// Every `step`-th argument from `first` to before `end`.
#[derive(Clone, Copy, Debug)]
enum Span {
    Known {
        first: usize,
        end: usize,
        step: usize,
    },
    /// The number of keys stands at `at`.
    Keynum {
        at: usize,
        first: usize,
        step: usize,
    },
    /// The keys begin behind a word, which the spec names.
    Keyword { spec: &'static KeySpec },
}

const EMPTY: Span = Span::Known {
    first: 0,
    end: 0,
    step: 1,
};

impl Classifier {
    /// For a request of `argc` arguments, the command's name included.
    pub(super) fn new(command: &Command, argc: usize) -> Self {
        let walk = match command.names {
            Names::None => Walk::Rest(Verbatim),
            Names::Specs | Names::Keywords => specs(command.keys, argc),
            Names::Channel => Walk::OneChannel,
            Names::Channels(from) | Names::ChannelPatterns(from) => {
                Walk::From(usize::from(from), Channel)
            }
            grammar @ (Names::Sort { .. }
            | Names::Georadius { .. }
            | Names::Xread { .. }
            | Names::Copy
            | Names::Tracking) => Walk::Options {
                grammar,
                next: (0, Verbatim),
                pattern: false,
            },
            Names::Never
                if weakened::has(Weakness::Operator) || weakened::has(Weakness::Scoped) =>
            {
                Walk::Rest(Verbatim)
            }
            Names::Never => Walk::From(if command.name.contains('|') { 2 } else { 1 }, Key),
        };
        Self { argc, walk }
    }

    /// The class of argument `i`; asked once for each, in order, from argument 0. `arg` is `None` when
    /// the argument is longer than [`super::words::WORD_BYTES_MAX`].
    pub(super) fn class(&mut self, i: usize, arg: Option<&[u8]>) -> ArgClass {
        match &mut self.walk {
            Walk::Rest(class) => *class,
            Walk::OneChannel if i == 1 => Channel,
            Walk::OneChannel => Verbatim,
            Walk::From(from, class) if i >= *from => *class,
            Walk::From(..) => Verbatim,
            Walk::Specs { spans, used } => {
                let mut class = Verbatim;
                for span in &mut spans[..*used] {
                    if span.holds(i, arg, self.argc) {
                        class = Key;
                    }
                }
                class
            }
            Walk::Options { .. } => self.option(i, arg),
        }
    }

    /// Whether all arguments after `i` are verbatim.
    pub(super) fn settled(&self, i: usize) -> bool {
        match &self.walk {
            Walk::Rest(class) => *class == Verbatim,
            Walk::OneChannel => i >= 1,
            Walk::From(..) | Walk::Options { .. } => false,
            Walk::Specs { spans, used } => spans[..*used]
                .iter()
                .all(|span| matches!(span, Span::Known { end, .. } if *end <= i + 1)),
        }
    }

    fn option(&mut self, i: usize, arg: Option<&[u8]>) -> ArgClass {
        let Walk::Options {
            grammar,
            next,
            pattern,
        } = &mut self.walk
        else {
            return Key;
        };
        if next.0 > 0 {
            next.0 -= 1;
            let element = *pattern && arg == Some(b"#");
            return if element { Verbatim } else { next.1 };
        }
        let first = match grammar {
            Names::Sort { .. } => 2,
            Names::Georadius { options } => usize::from(*options),
            Names::Xread { .. } => 1,
            _ => 3,
        };
        if i < first {
            let key = match grammar {
                Names::Sort { .. } | Names::Georadius { .. } => i == 1,
                Names::Copy => i > 0,
                _ => false,
            };
            return if key { Key } else { Verbatim };
        }
        let more = self.argc.saturating_sub(i + 1);
        match arg.and_then(|word| after(*grammar, word, more)) {
            Some(After::Next(count, class)) => {
                *next = (count, class);
                *pattern = matches!(grammar, Names::Sort { .. })
                    && arg.is_some_and(|word| is(word, b"by") || is(word, b"get"));
            }
            Some(After::Streams) => self.walk = streams(i + 1, self.argc),
            None => {
                // The server refuses a word that it does not know; nothing after it means anything.
                self.walk = Walk::Rest(Key);
                return Key;
            }
        }
        Verbatim
    }
}

/// What an option does to the arguments after it.
enum After {
    Next(usize, ArgClass),
    Streams,
}

/// The options of each command, as the server walks them; `None` is a syntax error. `more` arguments
/// follow the word.
fn after(grammar: Names, word: &[u8], more: usize) -> Option<After> {
    let any = |words: &[&[u8]]| words.iter().any(|known| is(word, known));
    let next = |count: usize, class| (more >= count).then_some(After::Next(count, class));
    match grammar {
        // `sortCommandGeneric` in src/sort.c; STORE may come again, the last one counts.
        Names::Sort { store } => {
            if any(&[b"asc", b"desc", b"alpha"]) {
                next(0, Verbatim)
            } else if is(word, b"limit") {
                next(2, Verbatim)
            } else if any(&[b"by", b"get"]) || (store && is(word, b"store")) {
                next(1, Key)
            } else {
                None
            }
        }
        // `georadiusGeneric` in src/geo.c; STORE and STOREDIST may come again, the last one counts.
        Names::Georadius { .. } => {
            if any(&[
                b"withdist",
                b"withhash",
                b"withcoord",
                b"any",
                b"asc",
                b"desc",
            ]) {
                next(0, Verbatim)
            } else if is(word, b"count") {
                next(1, Verbatim)
            } else if any(&[b"store", b"storedist"]) {
                next(1, Key)
            } else {
                None
            }
        }
        // `xreadCommand` in src/t_stream.c.
        Names::Xread { group } => {
            if any(&[b"block", b"count"]) {
                next(1, Verbatim)
            } else if is(word, b"streams") {
                (more > 0).then_some(After::Streams)
            } else if group && is(word, b"group") {
                next(2, Verbatim)
            } else if group && is(word, b"noack") {
                next(0, Verbatim)
            } else {
                None
            }
        }
        // `copyCommand` in src/db.c. DB would name a database of the server: a copy to another one is
        // not forwarded as it is, and were it, the server would refuse it.
        Names::Copy => {
            if is(word, b"replace") {
                next(0, Verbatim)
            } else {
                None
            }
        }
        // `clientCommand` in src/networking.c. REDIRECT names a connection of the server: the worker
        // writes such requests itself; were they forwarded, the server would refuse them.
        Names::Tracking => {
            if any(&[b"bcast", b"optin", b"optout", b"noloop"]) {
                next(0, Verbatim)
            } else if is(word, b"prefix") {
                next(1, Key)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// After STREAMS: as many keys as ids. An odd number is an error, and nobody knows what is a key.
fn streams(first: usize, argc: usize) -> Walk {
    let rest = argc.saturating_sub(first);
    if rest % 2 == 1 {
        return Walk::Rest(Key);
    }
    let keys = Span::Known {
        first,
        end: first + rest / 2,
        step: 1,
    };
    let mut spans = [EMPTY; SPECS_MAX];
    spans[0] = keys;
    Walk::Specs { spans, used: 1 }
}

/// Key specs as `getKeysUsingKeySpecs` in src/db.c reads them.
fn specs(keys: &'static [KeySpec], argc: usize) -> Walk {
    let mut spans = [EMPTY; SPECS_MAX];
    if keys.len() > SPECS_MAX {
        return Walk::From(1, Key);
    }
    for (span, spec) in spans.iter_mut().zip(keys) {
        let begun = match spec.begin {
            Begin::Index(begin) => Span::behind(usize::from(begin), spec.find, argc),
            Begin::Keyword { .. } => Some(Span::Keyword { spec }),
            Begin::Unknown => None,
        };
        let Some(begun) = begun else {
            return Walk::From(1, Key);
        };
        *span = begun;
    }
    Walk::Specs {
        spans,
        used: keys.len(),
    }
}

impl Span {
    /// The keys that begin at `begin`; `None` when the server cannot say which they are.
    fn behind(begin: usize, find: Find, argc: usize) -> Option<Self> {
        Some(match find {
            Find::Range { last, step, limit } => {
                let distance = usize::from(last.unsigned_abs());
                let end = if last >= 0 {
                    begin + distance + 1
                } else if limit > 1 {
                    begin + argc.saturating_sub(begin) / usize::from(limit)
                } else {
                    (argc + 1).saturating_sub(distance)
                };
                Self::Known {
                    first: begin,
                    end,
                    step: usize::from(step.max(1)),
                }
            }
            Find::Keynum { at, first, step } => Self::Keynum {
                at: begin + usize::from(at),
                first: begin + usize::from(first),
                step: usize::from(step.max(1)),
            },
            Find::Unknown => return None,
        })
    }

    /// Whether argument `i` is a key; reads the number of keys when it comes by.
    #[inline]
    fn holds(&mut self, i: usize, arg: Option<&[u8]>, argc: usize) -> bool {
        match *self {
            Self::Known { first, end, step } => {
                i >= first && i < end && (step == 1 || (i - first).is_multiple_of(step))
            }
            Self::Keynum { at, first, step } if i == at => {
                let end = arg
                    .and_then(number::parse)
                    .and_then(|keys| usize::try_from(keys).ok())
                    .and_then(|keys| keys.checked_mul(step)?.checked_add(first))
                    .filter(|&end| end <= argc);
                *self = match end {
                    Some(end) => Self::Known { first, end, step },
                    // No number, a negative one, or more keys than arguments.
                    None => Self::Known {
                        first,
                        end: argc,
                        step: 1,
                    },
                };
                false
            }
            Self::Keynum { .. } => false,
            // The last argument is no keyword: nothing could stand behind it.
            Self::Keyword { spec } => {
                let found = match spec.begin {
                    Begin::Keyword { word, from } => {
                        usize::try_from(from).is_ok_and(|from| i >= from)
                            && i + 1 < argc
                            && arg.is_some_and(|arg| is_word(arg, word))
                    }
                    Begin::Index(_) | Begin::Unknown => false,
                };
                if found && let Some(keys) = Self::behind(i + 1, spec.find, argc) {
                    *self = keys;
                }
                false
            }
        }
    }
}
