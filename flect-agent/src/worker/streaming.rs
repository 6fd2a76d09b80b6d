//! Requests that do not fit the buffer, on their way piece by piece.

use super::Worker;
use super::arena::Key;
use super::input::may_block;
use super::session::{Gate, INPUT_BYTES_MAX, Lane, Session, StreamTo};
use super::upstream::UPSTREAM_OUT_BYTES_MAX;
use crate::rewrite::StreamRewriter;

impl Worker {
    /// Rewrites more of a streamed request; answers how much was taken.
    pub(super) fn feed_stream(&mut self, key: Key<Session>, bytes: &[u8]) -> usize {
        let Some(session) = self.sessions.get_mut(key) else {
            return 0;
        };
        let Some(mut stream) = session.stream.take() else {
            return 0;
        };
        let mut none = Vec::new();
        let out = match &stream.to {
            Some(to) => match self.upstreams.get_mut(to.upstream) {
                Some(upstream) => {
                    if upstream.out.len() >= UPSTREAM_OUT_BYTES_MAX {
                        upstream.waiting.push(key);
                        session.gate = Gate::Upstream;
                        let full = to.upstream;
                        session.stream = Some(stream);
                        self.queue_flush_upstream(full);
                        return 0;
                    }
                    upstream.out.tail()
                }
                None => {
                    self.close_session(key);
                    return 0;
                }
            },
            None => &mut none,
        };
        session.input_bytes_max = INPUT_BYTES_MAX;
        let advance = match stream.rewriter.advance(bytes, &session.namespace, out) {
            Ok(advance) => advance,
            Err(error) => {
                self.broken_stream(key, stream.to.as_ref(), &error.reply());
                return bytes.len();
            }
        };
        match (&stream.to, advance.done) {
            (Some(to), true) => {
                session.mention_streamed(&stream.rewriter);
                let plan = stream.rewriter.plan();
                let blocking = may_block(to.command);
                if matches!(to.command.name, "subscribe" | "unsubscribe") {
                    session.note_channels(true, None);
                }
                self.sent(key, to.upstream, to.command, plan, to.argc, blocking);
                self.watch_stream(key, to.command, to.upstream);
            }
            (Some(to), false) => {
                let upstream = to.upstream;
                session.stream = Some(stream);
                self.queue_flush_upstream(upstream);
            }
            (None, true) => {
                let refusal = std::mem::take(&mut stream.refusal);
                self.refuse(key, &refusal);
            }
            (None, false) => session.stream = Some(stream),
        }
        advance.consumed
    }

    /// The client broke the protocol in the middle of a request whose beginning is with the server
    /// already: the connection goes, and the half request with it.
    fn broken_stream(&mut self, key: Key<Session>, to: Option<&StreamTo>, reply: &[u8]) {
        if let Some(to) = to {
            self.close_upstream(to.upstream);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.lane = Lane::None;
        }
        self.finish_with(key, reply);
    }
}

impl Session {
    /// In a transaction, commands about all keys see what a streamed request before them makes.
    fn mention_streamed(&mut self, rewriter: &StreamRewriter) {
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let own = &self.namespace.keys()[self.store.prefix.as_str().len()..];
        for key in rewriter.keys() {
            transaction.queued.mention(&[own, key].concat());
        }
    }
}
