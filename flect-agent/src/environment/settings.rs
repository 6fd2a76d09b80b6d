//! Settings that a store has for itself: what its apps change with CONFIG SET and see in CONFIG GET.
//!
//! Invariant: what is not set has Valkey's own default, whatever the server's configuration says, since
//! that is what a private server would have. A worker reads a setting without waiting for anybody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::resp::number;

/// Classes of keyspace events, as `server.h` numbers them.
pub mod events {
    /// `K`: messages on `__keyspace@n__:key`.
    pub const KEYSPACE: u32 = 1;
    /// `E`: messages on `__keyevent@n__:event`.
    pub const KEYEVENT: u32 = 1 << 1;
    /// `n`: a key that was not there.
    pub const NEW: u32 = 1 << 14;
    /// What `A` stands for: everything but key misses (`m`) and new keys (`n`).
    pub const ALL: u32 = 0b10_0111_1111_1100;

    /// Letters and bits, in the order in which Valkey writes them.
    pub(super) const CLASSES: &[(u8, u32)] = &[
        (b'g', 1 << 2),
        (b'$', 1 << 3),
        (b'l', 1 << 4),
        (b's', 1 << 5),
        (b'h', 1 << 6),
        (b'z', 1 << 7),
        (b'x', 1 << 8),
        (b'e', 1 << 9),
        (b't', 1 << 10),
        (b'd', 1 << 13),
        (b'n', 1 << 14),
        (b'K', KEYSPACE),
        (b'E', KEYEVENT),
        (b'm', 1 << 11),
    ];

    /// The flags that letters name (`keyspaceEventsStringToFlags` in notify.c).
    #[must_use]
    pub fn parse(letters: &[u8]) -> Option<u32> {
        letters.iter().try_fold(0, |flags, letter| match letter {
            b'A' => Some(flags | ALL),
            _ => CLASSES
                .iter()
                .find(|(known, _)| known == letter)
                .map(|(_, bit)| flags | bit),
        })
    }

    /// The letters of flags (`keyspaceEventsFlagsToString` in notify.c).
    #[must_use]
    pub fn letters(flags: u32) -> String {
        let all = flags & ALL == ALL;
        let mut letters = String::from(if all { "A" } else { "" });
        for (letter, bit) in CLASSES {
            // Valkey leaves `n` out where `A` stands.
            let in_all = bit & !(KEYSPACE | KEYEVENT | 1 << 11) != 0;
            if flags & bit != 0 && !(all && in_all) {
                letters.push(char::from(*letter));
            }
        }
        letters
    }
}

/// A setting that each store has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Which keyspace events are published.
    NotifyKeyspaceEvents,
    /// From how many microseconds a command is logged; negative: never.
    SlowerThan,
    /// How many slow commands are kept.
    SlowMaxLen,
    /// From how many bytes a request is logged; negative: never.
    RequestLargerThan,
    /// How many large requests are kept.
    LargeRequestMaxLen,
    /// From how many bytes a reply is logged; negative: never.
    ReplyLargerThan,
    /// How many commands with large replies are kept.
    LargeReplyMaxLen,
    /// From how many milliseconds a command is an event of LATENCY; 0: never.
    LatencyMonitorThreshold,
    /// Whether INFO and LATENCY tell how long each command takes.
    LatencyTracking,
}

/// How a setting's text is read.
enum Kind {
    Events,
    Number { least: i64 },
    Switch,
}

use Setting::{
    LargeReplyMaxLen, LargeRequestMaxLen, LatencyMonitorThreshold, LatencyTracking,
    NotifyKeyspaceEvents, ReplyLargerThan, RequestLargerThan, SlowMaxLen, SlowerThan,
};

/// Every setting with its name, a second name it has, how it is read, and Valkey's default.
#[rustfmt::skip]
const SETTINGS: [(Setting, &str, Option<&str>, Kind, i64); 9] = [
    (NotifyKeyspaceEvents, "notify-keyspace-events", None, Kind::Events, 0),
    (SlowerThan, "slowlog-log-slower-than", Some("commandlog-execution-slower-than"),
        Kind::Number { least: -1 }, 10_000),
    (SlowMaxLen, "slowlog-max-len", Some("commandlog-slow-execution-max-len"),
        Kind::Number { least: 0 }, 128),
    (RequestLargerThan, "commandlog-request-larger-than", None, Kind::Number { least: -1 }, 1 << 20),
    (LargeRequestMaxLen, "commandlog-large-request-max-len", None, Kind::Number { least: 0 }, 128),
    (ReplyLargerThan, "commandlog-reply-larger-than", None, Kind::Number { least: -1 }, 1 << 20),
    (LargeReplyMaxLen, "commandlog-large-reply-max-len", None, Kind::Number { least: 0 }, 128),
    (LatencyMonitorThreshold, "latency-monitor-threshold", None, Kind::Number { least: 0 }, 0),
    (LatencyTracking, "latency-tracking", None, Kind::Switch, 1),
];

impl Setting {
    /// The setting of this name, whatever its case.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        SETTINGS
            .iter()
            .find(|(_, known, alias, ..)| is(known) || alias.is_some_and(is))
            .map(|(setting, ..)| *setting)
    }

    /// What it is called in the registry, on every version of the server.
    #[must_use]
    pub fn name(self) -> &'static str {
        SETTINGS[self as usize].1
    }

    /// What a text means for it.
    ///
    /// # Errors
    /// Valkey's words for what is wrong with it.
    pub fn parse(self, text: &[u8]) -> Result<i64, String> {
        match SETTINGS[self as usize].3 {
            Kind::Events => events::parse(text)
                .map(i64::from)
                .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
            Kind::Number { least } => match number::parse(text) {
                None => Err("argument couldn't be parsed into an integer".to_owned()),
                Some(value) if value < least => Err(format!(
                    "argument must be between {least} and {} inclusive",
                    i64::MAX
                )),
                Some(value) => Ok(value),
            },
            Kind::Switch if text.eq_ignore_ascii_case(b"yes") => Ok(1),
            Kind::Switch if text.eq_ignore_ascii_case(b"no") => Ok(0),
            Kind::Switch => Err("argument must be 'yes' or 'no'".to_owned()),
        }
    }

    /// The text of a value, as CONFIG GET shows it.
    #[must_use]
    pub fn text(self, value: i64) -> String {
        match SETTINGS[self as usize].3 {
            Kind::Events => events::letters(u32::try_from(value).unwrap_or(0)),
            Kind::Number { .. } => value.to_string(),
            Kind::Switch => if value == 0 { "no" } else { "yes" }.to_owned(),
        }
    }

    fn default(self) -> i64 {
        SETTINGS[self as usize].4
    }
}

/// A store's own settings.
#[derive(Debug)]
pub struct Settings {
    values: [AtomicI64; SETTINGS.len()],
    /// From how many microseconds a reply is looked at more closely.
    watched_us: AtomicU32,
}

/// What is slow or large for a store, to be compared with every reply: `u32::MAX` where nothing is.
fn watched_us(values: impl Fn(Setting) -> i64) -> u32 {
    let never = i64::from(u32::MAX);
    let slower_than_us = match values(SlowerThan) {
        us if us < 0 || values(SlowMaxLen) == 0 => never,
        us => us,
    };
    let spike_us = match values(LatencyMonitorThreshold) {
        0 => never,
        ms => ms.saturating_mul(1000),
    };
    u32::try_from(slower_than_us.min(spike_us).min(never)).unwrap_or(u32::MAX)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            values: std::array::from_fn(|at| AtomicI64::new(SETTINGS[at].4)),
            watched_us: AtomicU32::new(watched_us(Setting::default)),
        }
    }
}

impl Settings {
    /// Takes over what the registry says. What this release does not know or understand is left to
    /// those that do.
    pub fn set(&self, kept: &BTreeMap<String, String>) {
        for (setting, name, ..) in &SETTINGS {
            let value = kept
                .get(*name)
                .and_then(|text| setting.parse(text.as_bytes()).ok());
            let value = value.unwrap_or(setting.default());
            self.values[*setting as usize].store(value, Ordering::Relaxed);
        }
        let watched = watched_us(|setting| self.get(setting));
        self.watched_us.store(watched, Ordering::Relaxed);
    }

    /// Every setting and its value.
    pub fn all(&self) -> impl Iterator<Item = (Setting, i64)> {
        let settings = SETTINGS.iter().map(|(setting, ..)| *setting);
        settings.map(|setting| (setting, self.get(setting)))
    }

    /// The value of a setting; see [`Setting::text`].
    #[inline]
    #[must_use]
    pub fn get(&self, setting: Setting) -> i64 {
        self.values[setting as usize].load(Ordering::Relaxed)
    }

    /// Which keyspace events the store's apps want: bits as in [`events`].
    #[inline]
    #[must_use]
    pub fn notify_keyspace_events(&self) -> u32 {
        u32::try_from(self.get(NotifyKeyspaceEvents)).unwrap_or(0)
    }

    /// From how many microseconds a reply is slow or a spike.
    #[inline]
    #[must_use]
    pub fn watched_us(&self) -> u32 {
        self.watched_us.load(Ordering::Relaxed)
    }

    /// From how many bytes a request is large.
    #[inline]
    #[must_use]
    pub fn large_request_bytes(&self) -> usize {
        usize::try_from(self.get(RequestLargerThan)).unwrap_or(usize::MAX)
    }

    /// From how many bytes a reply is large.
    #[inline]
    #[must_use]
    pub fn large_reply_bytes(&self) -> usize {
        usize::try_from(self.get(ReplyLargerThan)).unwrap_or(usize::MAX)
    }

    /// From how many milliseconds a command is an event of LATENCY; 0: never.
    #[inline]
    #[must_use]
    pub fn latency_monitor_threshold_ms(&self) -> i64 {
        self.get(LatencyMonitorThreshold)
    }

    /// Whether INFO and LATENCY tell how long each command takes.
    #[inline]
    #[must_use]
    pub fn latency_tracking(&self) -> bool {
        self.get(LatencyTracking) != 0
    }
}

/// Writes a change down among what the registry keeps of a store; a default is kept by leaving it out.
pub fn keep(kept: &mut BTreeMap<String, String>, setting: Setting, value: i64) {
    if value == setting.default() {
        kept.remove(setting.name());
    } else {
        let mut text = setting.text(value);
        if matches!(setting, NotifyKeyspaceEvents) && value & i64::from(events::NEW) != 0 {
            // What is shown leaves it out where `A` stands.
            text.push('n');
        }
        kept.insert(setting.name().to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_in_the_table_in_their_order() {
        for (at, (setting, name, alias, ..)) in SETTINGS.iter().enumerate() {
            assert_eq!(*setting as usize, at);
            assert_eq!(
                Setting::find(name.to_uppercase().as_bytes()),
                Some(*setting)
            );
            if let Some(alias) = alias {
                assert_eq!(Setting::find(alias.as_bytes()), Some(*setting));
            }
        }
        assert_eq!(Setting::find(b"maxmemory"), None);
    }

    #[test]
    fn event_classes_read_and_write_as_valkeys() {
        for (text, written) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Kg$lshzxetd", "AK"),
            ("xE", "xE"),
            ("mnK", "nKm"),
            ("AnEm", "AEm"),
        ] {
            let flags = events::parse(text.as_bytes()).unwrap();
            assert_eq!(events::letters(flags), written, "{text}");
        }
        assert_eq!(events::parse(b"KEy"), None);
        assert_eq!(events::parse(b"Ex"), Some(2 | 256));
    }

    #[test]
    fn values_are_refused_in_valkeys_words() {
        for (name, text, expected) in [
            ("slowlog-max-len", "12", Ok(12)),
            (
                "slowlog-max-len",
                "-1",
                Err("argument must be between 0 and 9223372036854775807 inclusive"),
            ),
            ("slowlog-log-slower-than", "-1", Ok(-1)),
            (
                "slowlog-log-slower-than",
                "abc",
                Err("argument couldn't be parsed into an integer"),
            ),
            ("latency-tracking", "No", Ok(0)),
            (
                "latency-tracking",
                "off",
                Err("argument must be 'yes' or 'no'"),
            ),
        ] {
            let setting = Setting::find(name.as_bytes()).unwrap();
            let parsed = setting.parse(text.as_bytes());
            assert_eq!(parsed, expected.map_err(str::to_owned), "{name} {text}");
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_defaults_are_left_out() {
        let settings = Settings::default();
        let mut kept = BTreeMap::new();
        keep(&mut kept, NotifyKeyspaceEvents, 3 | 256);
        keep(&mut kept, SlowerThan, 0);
        settings.set(&kept);
        assert_eq!(settings.notify_keyspace_events(), 3 | 256);
        assert_eq!(settings.get(SlowerThan), 0);
        let all_and_new = i64::from(events::KEYSPACE | events::ALL | events::NEW);
        keep(&mut kept, NotifyKeyspaceEvents, all_and_new);
        settings.set(&kept);
        assert_eq!(settings.get(NotifyKeyspaceEvents), all_and_new);
        keep(&mut kept, SlowerThan, 10_000);
        keep(&mut kept, NotifyKeyspaceEvents, 0);
        assert!(kept.is_empty());
        kept.insert("slowlog-max-len".to_owned(), "many".to_owned());
        kept.insert("of-a-newer-release".to_owned(), "1".to_owned());
        settings.set(&kept);
        assert_eq!(settings.get(SlowMaxLen), 128);
        assert_eq!(settings.notify_keyspace_events(), 0);
    }
}
