//! The flags of commands and keys as `COMMAND` names them.
//!
//! Invariant: one constant for each word; a word that has none makes the generator fail.

macro_rules! flag_set {
    ($(#[$doc:meta])* $set:ident($int:ty) { $($flag:ident = $bit:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $set($int);

        impl $set {
            /// No flag.
            pub const NONE: Self = Self(0);
            $(
                #[doc = concat!("`", $word, "`")]
                pub const $flag: Self = Self(1 << $bit);
            )*
            /// Every flag: its constant's name, the server's word, the flag.
            pub const ALL: &'static [(&'static str, &'static str, Self)] =
                &[$((stringify!($flag), $word, Self::$flag),)*];

            /// Both sets' flags.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether every flag of `other` is set.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The set of the server's words; the first unknown word on failure.
            ///
            /// # Errors
            /// When a word is no flag known here.
            pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
                words.into_iter().try_fold(Self::NONE, |set, word| {
                    let (_, _, flag) = Self::ALL.iter().find(|(_, known, _)| *known == word).ok_or(word)?;
                    Ok(set.with(*flag))
                })
            }

            /// The server's words for the set.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                Self::ALL.iter().filter(move |(_, _, flag)| self.has(*flag)).map(|(_, word, _)| *word)
            }

            /// The names of the set's constants.
            pub fn constants(self) -> impl Iterator<Item = &'static str> {
                Self::ALL.iter().filter(move |(_, _, flag)| self.has(*flag)).map(|(name, _, _)| *name)
            }
        }

        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.words()).finish()
            }
        }
    };
}

flag_set! {
    /// A command's flags.
    Flags(u32) {
        ADMIN = 0 "admin",
        ALLOW_BUSY = 1 "allow_busy",
        ASKING = 2 "asking",
        BLOCKING = 3 "blocking",
        DENYOOM = 4 "denyoom",
        FAST = 5 "fast",
        LOADING = 6 "loading",
        MOVABLEKEYS = 7 "movablekeys",
        NO_ASYNC_LOADING = 8 "no_async_loading",
        NO_AUTH = 9 "no_auth",
        NO_MANDATORY_KEYS = 10 "no_mandatory_keys",
        NO_MULTI = 11 "no_multi",
        NOSCRIPT = 12 "noscript",
        PUBSUB = 13 "pubsub",
        READONLY = 14 "readonly",
        SKIP_COMMANDLOG = 15 "skip_commandlog",
        SKIP_MONITOR = 16 "skip_monitor",
        SKIP_SLOWLOG = 17 "skip_slowlog",
        STALE = 18 "stale",
        WRITE = 19 "write",
    }
}

flag_set! {
    /// What a command does with the keys of a key spec.
    KeyFlags(u16) {
        RO = 0 "RO",
        RW = 1 "RW",
        OW = 2 "OW",
        RM = 3 "RM",
        ACCESS = 4 "access",
        UPDATE = 5 "update",
        INSERT = 6 "insert",
        DELETE = 7 "delete",
        NOT_KEY = 8 "not_key",
        INCOMPLETE = 9 "incomplete",
        VARIABLE_FLAGS = 10 "variable_flags",
    }
}
