//! Patterns of cgroup paths. A pattern is matched by path components, so that `/app1` never claims
//! `/app10`.

use std::cmp::Reverse;

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

/// How strong a pattern's claim to a cgroup is; the greatest wins.
///
/// Who may make cgroups below its own may name them as it likes. So a cgroup that a `*` has claimed keeps
/// everything below it, whatever it is called; only a path that the operator has written out is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// It ends in `**` and takes what nobody else does; with so many parts.
    Rest(usize),
    /// By a `*` or `**` inside, at this depth: the outermost wins.
    Wildcard(Reverse<usize>),
    /// Written out, at this depth: the nearest wins.
    WrittenOut(usize),
}

impl CgroupPattern {
    /// Whether and how it claims a cgroup or one of its ancestors. `path` is a path below the mount, such
    /// as `/system.slice/shop.service`.
    #[must_use]
    pub fn claim(&self, path: &str) -> Option<Claim> {
        let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty()).collect();
        let depth =
            (1..=components.len()).find(|depth| matches(&self.parts, &components[..*depth]))?;
        let is_wildcard = |part: &Part| match part {
            Part::Any => true,
            Part::One(text) => text.contains('*'),
        };
        Some(if self.parts.last() == Some(&Part::Any) {
            Claim::Rest(self.parts.len())
        } else if self.parts.iter().any(is_wildcard) {
            Claim::Wildcard(Reverse(depth))
        } else {
            Claim::WrittenOut(depth)
        })
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

    fn claim(pattern: &str, path: &str) -> Option<Claim> {
        CgroupPattern::try_from(pattern.to_owned())
            .unwrap()
            .claim(path)
    }

    /// The table of docs/operations.md, 'Containers', against paths as these runtimes make them.
    #[test]
    fn containers_of_every_runtime_are_found() {
        let id = "4f1c5e0b7a42";
        let uid = "0b1a2c3d-11ee-4f5a-9c0d-aabbccddeeff";
        let underscored = uid.replace('-', "_");
        let pod = format!("kubepods-burstable-pod{underscored}.slice");
        let kubepods = format!("/kubepods.slice/**/kubepods-*pod{underscored}.slice");
        for (pattern, path) in [
            (
                "/system.slice/shop.service",
                "/system.slice/shop.service".to_owned(),
            ),
            (
                "/system.slice/shop@*.service",
                "/system.slice/shop@2.service".to_owned(),
            ),
            ("/shop.slice", format!("/shop.slice/docker-{id}.scope")),
            (
                "/system.slice/docker-4f1c*.scope",
                format!("/system.slice/docker-{id}.scope/init"),
            ),
            ("/shop", format!("/shop/{id}")),
            (
                "/machine.slice/libpod-4f1c*.scope",
                format!("/machine.slice/libpod-{id}.scope/container"),
            ),
            (
                &kubepods,
                format!("/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{id}.scope"),
            ),
            (
                // A pod of the class Guaranteed lies one level higher.
                &kubepods,
                format!("/kubepods.slice/kubepods-pod{underscored}.slice/crio-{id}.scope"),
            ),
            (
                &format!("/kubepods/**/pod{uid}"),
                format!("/kubepods/besteffort/pod{uid}/{id}"),
            ),
            (
                &format!("/kubepods/**/pod{uid}"),
                format!("/kubepods/pod{uid}/{id}"),
            ),
        ] {
            assert!(claim(pattern, &path).is_some(), "{pattern} and {path}");
            let other = path.replace("shop", "blog").replace("4f1c", "5e2d");
            let other = other.replace("0b1a2c3d", "1c2b3a4d");
            assert_eq!(claim(pattern, &other), None, "{pattern} and {other}");
        }
    }

    #[test]
    fn patterns_match_by_component() {
        let wildcard = |depth| Some(Claim::Wildcard(Reverse(depth)));
        let written_out = |depth| Some(Claim::WrittenOut(depth));
        for (pattern, path, expect) in [
            ("/app1", "/app1", written_out(1)),
            ("/app1", "/app1/nested/deeper", written_out(1)),
            ("/app1", "/app10", None),
            ("/app1", "/other/app1", None),
            (
                "/system.slice/*.service",
                "/system.slice/a.service/x",
                wildcard(2),
            ),
            ("/system.slice/*.service", "/system.slice/a.scope", None),
            ("/kube/**/shop-*", "/kube/a/b/shop-1/init", wildcard(4)),
            ("/kube/**/shop-*", "/kube/shop-1", wildcard(2)),
            ("/kube/**/shop-*", "/kube/a/sho", None),
            ("/**", "/anything/at/all", Some(Claim::Rest(1))),
            ("/a*b*c", "/axxbyybzc", wildcard(1)),
            ("/a", "/", None),
        ] {
            assert_eq!(claim(pattern, path), expect, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_claimed_cgroup_keeps_what_is_made_below_it() {
        for (own, others, path) in [
            (
                "/kube/**/evil-*",
                "/kube/**/shop-*",
                "/kube/a/evil-1/shop-1",
            ),
            ("/kube/evil", "/kube/**/shop-*", "/kube/evil/shop-1"),
            ("/apps/*", "/apps/*/worker", "/apps/evil/worker"),
            // What the operator has written out is meant.
            ("/shop/billing", "/shop", "/shop/billing/x"),
            ("/shop/billing", "/*", "/shop/billing/x"),
            // The rest is what nobody else claims.
            ("/kube/**/shop-*", "/kube/**", "/kube/a/shop-1/x"),
            ("/kube/**", "/**", "/kube/a"),
        ] {
            assert!(
                claim(own, path) > claim(others, path),
                "{others} takes {path} from {own}"
            );
        }
    }

    #[test]
    fn what_is_no_path_is_no_pattern() {
        for bad in ["", "/", "a", "/a//b", "/a/../b", "/a/"] {
            assert!(CgroupPattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
