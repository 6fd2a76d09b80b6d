//! Learning the commands of this server that the table has not.
//!
//! Invariant: whoever makes stores' users has learnt first, since users may run what is forwarded: an agent
//! and a `flect` that knew less would take each other's rights away.

use std::sync::Arc;

use redis::Value;
use redis_protocol::resp2::types::OwnedFrame;

use super::{Admin, AdminError, Outfit};
use crate::commands::{self, Learnt};

impl Admin {
    /// Asks the server for its commands and learns those that the table has not; again after modules or
    /// the server have changed. Users are to be made anew then.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn learn(&mut self) -> Result<(), AdminError> {
        let names = super::facts::commands(&mut self.connection).await;
        let names = names.map_err(|cause| self.server(cause))?;
        let unknown = commands::unknown(names.iter().map(String::as_str));
        let described = if unknown.is_empty() {
            Value::Array(Vec::new())
        } else {
            let reply = redis::cmd("COMMAND")
                .arg("INFO")
                .arg(&unknown)
                .query_async(&mut self.connection)
                .await;
            reply.map_err(|cause| self.server(cause))?
        };
        // Whoever has other commands may be another server, which has been told nothing.
        self.new_keys_told = false;
        self.learnt = commands::learn(&unknown, &frame(described));
        let outfit = Outfit::new(&self.key, names, &self.learnt, self.facts.release);
        self.outfit = Arc::new(outfit);
        Ok(())
    }

    /// What has been learnt, and what is refused.
    #[must_use]
    pub fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    /// How many commands the server has, to see that modules have come or gone.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn command_count(&mut self) -> Result<u64, AdminError> {
        let count = redis::cmd("COMMAND")
            .arg("COUNT")
            .query_async(&mut self.connection)
            .await;
        count.map_err(|cause| self.server(cause))
    }
}

/// A reply of the client library as the command table reads it.
fn frame(value: Value) -> OwnedFrame {
    let frames = |values: Vec<Value>| OwnedFrame::Array(values.into_iter().map(frame).collect());
    match value {
        Value::Int(number) => OwnedFrame::Integer(number),
        Value::BulkString(bytes) => OwnedFrame::BulkString(bytes),
        Value::SimpleString(text) => OwnedFrame::SimpleString(text.into_bytes()),
        Value::Okay => OwnedFrame::SimpleString(b"OK".to_vec()),
        Value::Array(values) | Value::Set(values) => frames(values),
        Value::Map(pairs) => frames(
            pairs
                .into_iter()
                .flat_map(|(key, value)| [key, value])
                .collect(),
        ),
        _ => OwnedFrame::Null,
    }
}
