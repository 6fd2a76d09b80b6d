//! What a peer of the control socket may ask for.
//!
//! The rule, strictest first:
//! 1. A process in another user or process namespace than the agent's (a container) is a *tenant*: its
//!    uid 0 is not this machine's root.
//! 2. A process that lives where apps live is a tenant, whatever its user: its cgroup is claimed by an
//!    app, or lies below a managed root that is not the root of all cgroups. The agent's own cgroup is
//!    exempt, as everywhere.
//! 3. A process in a cgroup of `flect run` is a *runner*: it came there as a permitted user, but it is
//!    that app's code now.
//! 4. Anybody else is judged by its user: root, the agent's own user and `[agent] operators` are
//!    *operators*, the rest are *users*.
//!
//! An operator may do everything. A user may enter the apps whose `users` name it. A runner may enter
//! another app only if its user is named there: being an operator does not help it. A tenant may
//! enter none. Whoever is in an app may see that app, and to enter it once more changes nothing: it is
//! not moved, so nobody leaves the limits of its own cgroup this way.

use flect_agent::cgroup;

use super::People;
use super::peer::Peer;
use crate::serving::{Places, Serving};

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// May do everything.
    Operator,
    /// May enter apps that name it.
    User,
    /// Came into an app by `flect run`.
    Runner,
    /// Lives in an app, or in a container.
    Tenant,
}

impl Kind {
    /// What it is called.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "an operator",
            Self::User => "a user",
            Self::Runner => "a runner",
            Self::Tenant => "a tenant",
        }
    }
}

/// A peer's kind, and the app that it is in.
#[derive(Debug)]
pub struct Standing {
    /// What it is.
    pub kind: Kind,
    /// The app that claims its cgroup.
    pub app: Option<String>,
}

impl Standing {
    /// Judges by the rule above; `places` are missing where nothing is intercepted.
    pub fn of(peer: &Peer, serving: &Serving, places: Option<&Places>, operators: &People) -> Self {
        let cgroup = peer.cgroup().ok();
        let app = match (places, &cgroup) {
            (Some(places), Some(cgroup)) if !is_agents_own(places, cgroup) => {
                let claimant = serving.claimant(places, cgroup);
                claimant.map(|workload| workload.name.clone())
            }
            _ => None,
        };
        let by_user = || {
            let own = rustix::process::geteuid().as_raw();
            if peer.uid == 0 || peer.uid == own || operators.include(peer) {
                Kind::Operator
            } else {
                Kind::User
            }
        };
        let kind = if !peer.is_at_home() {
            Kind::Tenant
        } else {
            match (places, cgroup) {
                (None, _) => by_user(),
                // What cannot be told apart from a tenant is one.
                (Some(_), None) => Kind::Tenant,
                (Some(places), Some(cgroup)) => match place(places, &cgroup, app.is_some()) {
                    Place::Run => Kind::Runner,
                    Place::Workloads => Kind::Tenant,
                    Place::Elsewhere => by_user(),
                },
            }
        };
        Self { kind, app }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Run,
    Workloads,
    Elsewhere,
}

fn is_agents_own(places: &Places, cgroup: &str) -> bool {
    cgroup::is_within(cgroup, &places.agent)
}

fn place(places: &Places, cgroup: &str, claimed: bool) -> Place {
    if is_agents_own(places, cgroup) {
        Place::Elsewhere
    } else if places.run_app(cgroup).is_some() {
        Place::Run
    } else if claimed || (places.managed != "/" && cgroup::is_within(cgroup, &places.managed)) {
        Place::Workloads
    } else {
        Place::Elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_apps_live_nobody_is_judged_by_its_user() {
        let check = |root: &str, cgroup: &str, claimed: bool, expect: Place| {
            let places = Places::new(root, "/agent");
            assert_eq!(place(&places, cgroup, claimed), expect, "{root} {cgroup}");
        };
        check("/", "/system.slice/shop.service", true, Place::Workloads);
        check("/", "/user.slice/session-1.scope", false, Place::Elsewhere);
        check("/", "/flect.run/shop/1", true, Place::Run);
        check("/", "/flect.run/gone/1", false, Place::Run);
        check("/", "/agent", false, Place::Elsewhere);
        check("/apps", "/apps/unclaimed", false, Place::Workloads);
        check("/apps", "/apps/flect.run/shop/1", true, Place::Run);
        check("/apps", "/user.slice", false, Place::Elsewhere);
        check("/apps", "/", false, Place::Elsewhere);
    }
}
