//! Scripts: what stands in front of an app's Lua so that it sees its store as a Valkey of its own.
//!
//! Invariant: the script that the server runs is made of the store's prefix and the app's text alone,
//! so every agent makes the same one; and no two stores share one, since a script can leave things
//! behind for its next run. What a script may touch, the store's ACL user says, not this.

mod askers;
mod cache;
mod data;
mod declared;
mod functions;
mod lexer;
pub mod payload;
mod sha;
mod tail_calls;
mod text;
mod wide;

pub use askers::{Asks, described};
pub use cache::{Known, Scripts};
pub use data::of_release;
pub use declared::Declared;
pub use functions::{FunctionNames, Library, NAMES as FUNCTION_NAMES, load_error};
pub use sha::{SHA_BYTES, Sha};
pub use text::Shim;
pub use wide::{GENERIC, Walks, is_about_all_keys};

#[cfg(test)]
mod tests;
