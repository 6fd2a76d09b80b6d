//! What of a configuration may change while the agent runs.
//!
//! Invariant: every key is named here, in one list or the other: a new one does not compile before somebody
//! has decided.

use super::{Agent, Config, Explicit, Intercept, Log, Valkey};
use crate::environment::Defaults;

impl Config {
    /// This configuration with everything of a newer one that may change at run time, and the keys that
    /// changed and may not.
    #[must_use]
    pub fn followed_by(&self, newer: Self) -> (Self, Vec<&'static str>) {
        let mut ignored = Vec::new();
        let mut keep = |key: &'static str, same: bool| {
            if !same {
                ignored.push(key);
            }
        };
        let Valkey {
            environment,
            address,
            socket,
            user,
            password_file,
            tls,
            nodes,
            sentinel,
            cluster,
        } = newer.valkey;
        let old = &self.valkey;
        keep("valkey.environment", old.environment == environment);
        keep("valkey.address", old.address == address);
        keep("valkey.socket", old.socket == socket);
        keep("valkey.nodes", old.nodes == nodes);
        keep("valkey.sentinel", old.sentinel == sentinel);
        keep("valkey.cluster", old.cluster == cluster);
        let valkey = Valkey {
            user,
            password_file,
            tls,
            ..old.clone()
        };
        let old = &self.intercept;
        let Intercept {
            enabled,
            cgroup,
            addresses,
            ports,
            closed_ports,
            listen_port,
            acceleration,
            pin,
        } = newer.intercept;
        keep("intercept.enabled", old.enabled == enabled);
        keep("intercept.cgroup", old.cgroup == cgroup);
        keep("intercept.addresses", old.addresses == addresses);
        keep("intercept.ports", old.ports == ports);
        keep("intercept.closed_ports", old.closed_ports == closed_ports);
        keep("intercept.listen_port", old.listen_port == listen_port);
        keep("intercept.acceleration", old.acceleration == acceleration);
        keep("intercept.pin", old.pin == pin);
        let old = &self.explicit;
        let Explicit {
            listen,
            tls_certificate,
            tls_key,
        } = newer.explicit;
        keep("explicit.listen", old.listen == listen);
        // Another certificate may come at any time; to speak TLS or not is decided at the start.
        let speaks_tls = tls_certificate.is_some() && tls_key.is_some();
        let spoke_tls = old.tls_certificate.is_some() && old.tls_key.is_some();
        keep("explicit.tls_certificate", spoke_tls == speaks_tls);
        let (tls_certificate, tls_key) = match spoke_tls == speaks_tls {
            true => (tls_certificate, tls_key),
            false => (old.tls_certificate.clone(), old.tls_key.clone()),
        };
        let explicit = Explicit {
            tls_certificate,
            tls_key,
            ..old.clone()
        };
        let old = &self.agent;
        let Agent {
            cgroup,
            workers,
            socket,
            create_stores,
            operators,
            drain_seconds,
            status_page,
            integrity,
            audit,
            log,
            metrics,
        } = newer.agent;
        keep("agent.cgroup", old.cgroup == cgroup);
        keep("agent.workers", old.workers == workers);
        keep("agent.socket", old.socket == socket);
        keep("agent.status_page", old.status_page == status_page);
        keep("agent.integrity", old.integrity == integrity);
        keep("agent.audit", old.audit == audit);
        let Log { format, levels } = log;
        keep("agent.log.format", old.log.format == format);
        keep("agent.metrics", old.metrics == metrics);
        let agent = Agent {
            create_stores,
            operators,
            drain_seconds,
            log: Log {
                format: old.log.format,
                levels,
            },
            ..old.clone()
        };
        let Defaults {
            connections,
            upstreams,
            buffer_bytes,
            busy_seconds,
            namespaces,
        } = newer.limits;
        keep("limits.namespaces", self.limits.namespaces == namespaces);
        let limits = Defaults {
            connections,
            upstreams,
            buffer_bytes,
            busy_seconds,
            namespaces: self.limits.namespaces,
        };
        let merged = Self {
            valkey,
            intercept: self.intercept.clone(),
            explicit,
            agent,
            limits,
            apps: newer.apps,
        };
        (merged, ignored)
    }

    /// The apps that may do less by a newer configuration: they are gone, or lost a store or a cgroup.
    pub fn restricted<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a str> {
        let restricted = |name: &str, app: &super::App| {
            let now = newer.apps.iter().find(|now| now.name == name);
            now.is_none_or(|now| {
                let has_stores = app.stores.iter().all(|store| now.stores.contains(store));
                let has_cgroups = app.cgroups.iter().all(|it| now.cgroups.contains(it));
                !has_stores || !has_cgroups
            })
        };
        let names = self
            .apps
            .iter()
            .filter(move |app| restricted(&app.name, app));
        names.map(|app| app.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        Config::parse(&format!("[valkey]\naddress = \"127.0.0.1:6379\"\n{more}")).unwrap()
    }

    const APPS: &str = "[[app]]\nname = 'a'\ncgroups = ['/a', '/aa']\nstores = ['s', 't']\n\
        [[app]]\nname = 'b'\ncgroups = ['/b']\nstores = ['s']\n";

    #[test]
    fn what_may_change_does_and_what_may_not_is_named() {
        let old = config(APPS);
        let (same, ignored) = old.followed_by(config(APPS));
        assert!(ignored.is_empty());
        assert_eq!(same.apps.len(), 2);
        let newer = Config::parse(
            "[valkey]\naddress = '127.0.0.1:6380'\nuser = 'flect'\n\
             [intercept]\nports = [1, 2]\nlisten_port = 9\n\
             [agent]\nworkers = 7\noperators = ['ada']\n[agent.audit]\nfile = '/x'\n\
             [limits]\nconnections = 5\nnamespaces = 5\n",
        );
        let (now, ignored) = old.followed_by(newer.unwrap());
        assert_eq!(
            ignored,
            [
                "valkey.address",
                "intercept.ports",
                "intercept.listen_port",
                "agent.workers",
                "agent.audit",
                "limits.namespaces"
            ]
        );
        assert_eq!(
            (now.valkey.address.port, now.valkey.user.as_str()),
            (6379, "flect")
        );
        assert_eq!((now.agent.workers, now.agent.operators.len()), (0, 1));
        assert_eq!((now.limits.connections, now.limits.namespaces), (5, 256));
        assert!(now.apps.is_empty());
    }

    #[test]
    fn apps_that_lose_something_are_found() {
        let old = config(APPS);
        let check = |newer: &str, expect: &[&str]| {
            let newer = config(newer);
            let found: Vec<_> = old.restricted(&newer).collect();
            assert_eq!(found, expect, "{newer:?}");
        };
        check(APPS, &[]);
        check("", &["a", "b"]);
        check(&APPS.replace("['s', 't']", "['t', 's', 'u']"), &[]);
        check(&APPS.replace("['s', 't']", "['s']"), &["a"]);
        check(&APPS.replace("'/a', '/aa'", "'/aa'"), &["a"]);
        check(&APPS.replace("['/b']", "['/b', '/c']"), &[]);
    }
}
