//! What a script or function says of itself: the flags of its first line or of its registration.

/// Flags that tell what it will not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// It changes nothing.
    pub no_writes: bool,
    /// It may run when there is no memory left.
    pub allow_oom: bool,
}

impl Declared {
    /// By the flags' names.
    pub fn of_flags<'a>(flags: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut declared = Self::default();
        for flag in flags {
            declared.no_writes |= flag == b"no-writes";
            declared.allow_oom |= flag == b"allow-oom";
        }
        declared
    }

    /// By a script's first line: `#!lua flags=no-writes,allow-oom`.
    #[must_use]
    pub fn of_script(text: &[u8]) -> Self {
        let line = text
            .split(|byte| *byte == b'\n')
            .next()
            .filter(|line| line.starts_with(b"#!"))
            .unwrap_or_default();
        let flags = line
            .split(u8::is_ascii_whitespace)
            .filter_map(|word| word.strip_prefix(b"flags="))
            .flat_map(|flags| flags.split(|byte| *byte == b','));
        Self::of_flags(flags)
    }

    /// Whether it cannot make a store larger (`scriptFlagsToCmdFlags` in script.c).
    #[must_use]
    pub fn needs_no_memory(self) -> bool {
        self.no_writes || self.allow_oom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_declares() {
        let check = |text: &str, no_writes, allow_oom| {
            let expect = Declared {
                no_writes,
                allow_oom,
            };
            assert_eq!(Declared::of_script(text.as_bytes()), expect, "{text}");
        };
        check("return 1", false, false);
        check("#!lua\nreturn 1", false, false);
        check("#!lua flags=no-cluster\nflags=no-writes", false, false);
        check("#!lua flags=no-cluster,no-writes\nreturn 1", true, false);
        check("#!lua name=x flags=allow-oom", false, true);
    }
}
