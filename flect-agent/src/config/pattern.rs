//! Patterns of cgroup paths. A pattern is matched by path components, so that `/app1` never claims
//! `/app10`.

use serde::Deserialize;

/// A pattern such as `/kubepods.slice/**/shop-*`: `*` stands for anything within one component,
/// `**` for any number of components.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CgroupPattern {
    parts: Vec<Part>,
}

/// The text is no pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is no cgroup pattern: expected a path below the cgroup v2 mount such as /system.slice/shop.service; '*' matches within a component, '**' any components"
)]
pub struct InvalidPattern(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// One component, with `*` inside.
    One(String),
    /// Any number of components, none included.
    Any,
}

impl TryFrom<String> for CgroupPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(InvalidPattern(text));
        };
        let mut parts = Vec::new();
        for part in rest.split('/') {
            match part {
                "" | "." | ".." => return Err(InvalidPattern(text)),
                "**" => parts.push(Part::Any),
                _ => parts.push(Part::One(part.to_owned())),
            }
        }
        Ok(Self { parts })
    }
}

impl CgroupPattern {
    /// The most components that a matching ancestor-or-self of `path` has; `None` when none
    /// matches. `path` is a path below the mount, such as `/system.slice/shop.service`.
    #[must_use]
    pub fn match_depth(&self, path: &str) -> Option<usize> {
        let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty()).collect();
        (1..=components.len())
            .rev()
            .find(|depth| matches(&self.parts, &components[..*depth]))
    }
}

fn matches(parts: &[Part], components: &[&str]) -> bool {
    match parts.split_first() {
        None => components.is_empty(),
        Some((Part::Any, rest)) => {
            (0..=components.len()).any(|skipped| matches(rest, &components[skipped..]))
        }
        Some((Part::One(pattern), rest)) => {
            components.split_first().is_some_and(|(first, others)| {
                component_matches(pattern, first) && matches(rest, others)
            })
        }
    }
}

/// `*` matches any text; everything else itself. Greedy with one remembered star: linear in
/// practice, quadratic at worst.
fn component_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_at, taken)) = star {
            p = star_at + 1;
            t = taken + 1;
            star = Some((star_at, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_component() {
        let depth = |pattern: &str, path: &str| {
            CgroupPattern::try_from(pattern.to_owned())
                .unwrap()
                .match_depth(path)
        };
        for (pattern, path, expect) in [
            ("/app1", "/app1", Some(1)),
            ("/app1", "/app1/nested/deeper", Some(1)),
            ("/app1", "/app10", None),
            ("/app1", "/other/app1", None),
            (
                "/system.slice/*.service",
                "/system.slice/a.service/x",
                Some(2),
            ),
            ("/system.slice/*.service", "/system.slice/a.scope", None),
            ("/kube/**/shop-*", "/kube/a/b/shop-1/init", Some(4)),
            ("/kube/**/shop-*", "/kube/shop-1", Some(2)),
            ("/kube/**/shop-*", "/kube/a/sho", None),
            ("/**", "/anything/at/all", Some(3)),
            ("/a*b*c", "/axxbyybzc", Some(1)),
            ("/a", "/", None),
        ] {
            assert_eq!(depth(pattern, path), expect, "{pattern} on {path}");
        }
    }

    #[test]
    fn what_is_no_path_is_no_pattern() {
        for bad in ["", "/", "a", "/a//b", "/a/../b", "/a/"] {
            assert!(CgroupPattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
