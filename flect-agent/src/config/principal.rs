//! Who may do something: users and groups of the machine, as the configuration names them.

use serde::Deserialize;

/// A user or a group, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Principal {
    /// `ada`
    User(String),
    /// `1000`
    Uid(u32),
    /// `@developers`
    Group(String),
    /// `@100`
    Gid(u32),
}

impl TryFrom<String> for Principal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, is_group) = match text.strip_prefix('@') {
            Some(name) => (name, true),
            None => (text.as_str(), false),
        };
        let plain = |c: char| !c.is_control() && !matches!(c, ':' | ',' | '@' | '/' | ' ');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!(
                "'{text}' is no user or group: expected a user's name such as 'ada', a group's with '@' in front such as '@developers', or a number in their place"
            ));
        }
        // A name that is a number would be ambiguous: useradd(8) refuses it as well.
        if name.bytes().all(|b| b.is_ascii_digit()) {
            let number = name
                .parse()
                .map_err(|_| format!("'{text}': the number is too large"))?;
            return Ok(if is_group {
                Self::Gid(number)
            } else {
                Self::Uid(number)
            });
        }
        let name = name.to_owned();
        Ok(if is_group {
            Self::Group(name)
        } else {
            Self::User(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_and_number() {
        for (text, expect) in [
            ("ada", Principal::User("ada".into())),
            ("1000", Principal::Uid(1000)),
            ("@developers", Principal::Group("developers".into())),
            ("@100", Principal::Gid(100)),
            ("svc-1", Principal::User("svc-1".into())),
        ] {
            assert_eq!(Principal::try_from(text.to_owned()), Ok(expect));
        }
        for bad in ["", "@", "a b", "a:b", "@@a", "4294967296", "a\n"] {
            assert!(Principal::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
