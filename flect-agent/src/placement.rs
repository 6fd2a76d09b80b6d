//! On which shard of a cluster a store is: moving its slot, and working out which slots should move.
//!
//! | file | holds |
//! | --- | --- |
//! | `relocation` | one slot's way to another shard, under load, to be gone on with after any interruption |
//! | `load` | what each slot asks of its shard |
//! | `plan` | which slots go where, so that no shard has much more than the others |
//!
//! Invariant: a slot is at any moment served by its old shard or its new one. Whatever is interrupted here leaves a
//! state that the servers keep, and that the next try reads from them.

mod load;
mod plan;
mod relocation;

pub use load::{Measure, loads};
pub use plan::{Load, Step, plan, sums};
pub use relocation::{Manner, Moved, Progress, Relocation, RelocationError, open_slots};
