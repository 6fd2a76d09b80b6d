//! What stores hold: keys, bytes, types, the biggest keys, when they expire; told from a sample,
//! with the error stated.
//!
//! Walking a random part of the server's names (see [`position`](crate::keyspace::position)) gives a
//! random sample of every store's keys; `MEMORY USAGE` of some of those gives their sizes. Both
//! errors are part of the interval. The walk goes on until every store asked for is told well
//! enough, which for a small store on a large server is the end of the walk: then its keys are
//! counted, not estimated.
//!
//! What a sample cannot tell: one key that is bigger than all others together, and was not met. An
//! exact survey asks for every key.

mod estimate;
mod survey;
mod tally;

pub use estimate::{Estimate, Z_95};
pub use survey::{Effort, Progress, Survey, survey};
pub use tally::{Big, TTL_BOUNDS, TypeUsage, Usage};
