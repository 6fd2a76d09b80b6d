//! HELLO: which protocol a session speaks.

use super::{BAD_CLIENT_NAME, STATE_HELD, is_plain};
use crate::resp::request::Request;
use crate::resp::{Protocol, encode, number};
use crate::rewrite::words::{is, until_nul};
use crate::worker::Worker;
use crate::worker::arena::Key;
use crate::worker::session::{Gate, Lane, Session};
use crate::worker::upstream::{Recipient, Upstream};

impl Worker {
    /// `HELLO [version [AUTH user password] [SETNAME name]]` (`helloCommand` in networking.c). `None` while the
    /// session's own connection changes its protocol, after which the request is taken once more.
    pub(super) fn hello(
        &mut self,
        key: Key<Session>,
        request: &Request<'_>,
    ) -> Option<Result<Vec<u8>, Vec<u8>>> {
        match self.greet(key, request) {
            Ok(None) => None,
            Ok(Some(reply)) => Some(Ok(reply)),
            Err(error) => Some(Err(error)),
        }
    }

    fn greet(
        &mut self,
        key: Key<Session>,
        request: &Request<'_>,
    ) -> Result<Option<Vec<u8>>, Vec<u8>> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(Some(Vec::new()));
        };
        session.switched = false;
        let mut protocol = session.protocol;
        if let Some(version) = request.get(1) {
            protocol = match number::parse(version) {
                None => {
                    return Err(
                        b"-ERR Protocol version is not an integer or out of range\r\n".to_vec(),
                    );
                }
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return Err(b"-NOPROTO unsupported protocol version\r\n".to_vec()),
            };
        }
        let mut login = None;
        let mut name = None;
        let mut at = 2;
        while let Some(option) = request.get(at) {
            let more = request.argc() - at - 1;
            if is(option, b"auth") && more >= 2 {
                login = Some((request.arg(at + 1), request.arg(at + 2)));
                at += 3;
            } else if is(option, b"setname") && more >= 1 {
                name = Some(request.arg(at + 1));
                at += 2;
            } else {
                let mut error = Vec::new();
                let option = until_nul(option);
                let text = [b"ERR Syntax error in HELLO option '", option, b"'"].concat();
                encode::error(text, &mut error);
                return Err(error);
            }
        }
        if name.is_some_and(|name| !is_plain(name)) {
            return Err(BAD_CLIENT_NAME.to_vec());
        }
        let switched = protocol != session.protocol;
        if switched && session.transaction.is_some() {
            return Err(STATE_HELD.to_vec());
        }
        let own = match session.lane {
            Lane::Own(upstream) if switched => Some(upstream),
            _ => None,
        };
        if let Some((user, password)) = login {
            self.choose_store(key, user, password)?;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(Some(Vec::new()));
        };
        if let Some(upstream) = own {
            // What comes unasked until the server has read this comes in the protocol before.
            session.gate = Gate::Protocol;
            let request: &[u8] = match protocol {
                Protocol::Resp2 => b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n",
                Protocol::Resp3 => b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
            };
            self.send_own(upstream, request, Recipient::Switched(key, protocol));
            return Ok(None);
        }
        session.protocol = protocol;
        {
            let mut named = session.entry.named();
            if let Some(name) = name {
                named.name = name.to_vec();
            }
            named.protocol = if protocol == Protocol::Resp3 { 3 } else { 2 };
        }
        let id = session.entry.id;
        Ok(Some(self.greeting(protocol, id)))
    }

    /// The session's own connection speaks another protocol from here on.
    pub(in crate::worker) fn switched(
        &mut self,
        upstream: Key<Upstream>,
        key: Key<Session>,
        protocol: Protocol,
    ) {
        if let Some(upstream) = self.upstreams.get_mut(upstream) {
            upstream.protocol = protocol;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.protocol = protocol;
            session.switched = true;
        }
        self.open_gate(key, Gate::Protocol);
    }

    fn greeting(&self, protocol: Protocol, id: u64) -> Vec<u8> {
        let facts = &self.environment.facts;
        let mut out = Vec::new();
        encode::map(protocol, 7, &mut out);
        let text = |name: &str, value: &str, out: &mut Vec<u8>| {
            encode::bulk(name, out);
            encode::bulk(value, out);
        };
        text("server", &facts.server, &mut out);
        text("version", &facts.version, &mut out);
        encode::bulk("proto", &mut out);
        encode::integer(if protocol == Protocol::Resp3 { 3 } else { 2 }, &mut out);
        encode::bulk("id", &mut out);
        encode::integer(i64::try_from(id).unwrap_or(i64::MAX), &mut out);
        text("mode", "standalone", &mut out);
        text("role", "master", &mut out);
        encode::bulk("modules", &mut out);
        encode::array(facts.modules.len(), &mut out);
        for (name, version) in &facts.modules {
            encode::map(protocol, 4, &mut out);
            text("name", name, &mut out);
            encode::bulk("ver", &mut out);
            encode::integer(*version, &mut out);
            text("path", name, &mut out);
            encode::bulk("args", &mut out);
            encode::array(0, &mut out);
        }
        out
    }
}
