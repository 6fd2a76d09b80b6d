//! The differential tester: random sequences of requests, on a private Valkey and on a store beside
//! a busy neighbour, and every reply compared.
//!
//! ```text
//! seed -> generate (template, vocabulary, grammar/*.txt) -> steps
//! steps -> duel (player x 2, client, frame) -> compare, exceptions -> difference
//! difference -> minimise -> report
//! ```
//!
//! The generator is imperative code over a small seeded generator (fastrand) and not proptest's
//! strategies: what is likely next depends on the state of connections (MULTI, subscriptions), and
//! a candidate costs milliseconds of two real servers, so that shrinking whole parts of a sequence
//! matters more than shrinking values.

pub mod campaign;
pub mod client;
pub mod compare;
pub mod duel;
pub mod exceptions;
pub mod frame;
pub mod generate;
pub mod minimise;
pub mod player;
pub mod step;
pub mod template;
#[cfg(feature = "trials")]
mod trials;
pub mod unasked;
pub mod vocabulary;

#[cfg(feature = "trials")]
pub use trials::{BODIES, trials};
