//! MOVE and COPY to another database: databases are part of names, so they are renames.

use super::{Reply, Step, Target, error};
use crate::resp::encode;

/// A RENAMENX or COPY whose reply is read as MOVE's or COPY's.
#[derive(Debug)]
pub struct Rename {
    request: Vec<u8>,
}

impl Rename {
    /// `MOVE key db`: both names as stored.
    #[must_use]
    pub fn move_key(source: &[u8], destination: &[u8]) -> Self {
        let mut request = Vec::new();
        encode::request(&[b"RENAMENX", source, destination], &mut request);
        Self { request }
    }

    /// `COPY source destination DB n [REPLACE]`: both names as stored.
    #[must_use]
    pub fn copy(source: &[u8], destination: &[u8], replace: bool) -> Self {
        let mut words: Vec<&[u8]> = vec![b"COPY", source, destination];
        if replace {
            words.push(b"REPLACE");
        }
        let mut request = Vec::new();
        encode::request(&words, &mut request);
        Self { request }
    }

    pub(super) fn ask(&mut self) -> Step {
        Step::Ask {
            target: Target::Store,
            request: std::mem::take(&mut self.request),
        }
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Step {
        Step::Done(match reply {
            Reply::Integer(number) => format!(":{number}\r\n").into_bytes(),
            // RENAMENX refuses a missing key where MOVE answers that nothing was moved.
            Reply::Error(text) if text == "ERR no such key" => b":0\r\n".to_vec(),
            Reply::Error(text) => error(&super::without_user(text)),
            _ => error("ERR the server's answer was not understood"),
        })
    }
}
