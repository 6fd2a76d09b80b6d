//! Putting a store's names into requests and taking them out of replies.
//!
//! Invariant: no name leaves for the server without the store's prefix, and none reaches the client
//! with it. What cannot be decided gets the prefix, so that the server refuses it in its own words.

mod classify;
mod error_text;
pub mod reply;
pub mod request;
pub mod stream;
pub(crate) mod words;

pub use reply::{
    Ack, AckKind, Advance as ReplyAdvance, ReplyError, ReplyPlan, ReplyRewriter, ScriptNames,
};
pub use request::rewrite;
pub use stream::{Advance, StreamRewriter};

#[cfg(test)]
pub(crate) mod tests;
