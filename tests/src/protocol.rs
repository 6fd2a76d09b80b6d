//! The protocol's edges: malformed input, long pipelines, large values, slow readers, the ends of
//! connections, and many clients at once.

mod endings;
mod large;
mod malformed;
mod many;
mod pipeline;
mod short;

use libtest_mimic::Trial;

use crate::pair;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    pair::trials(
        "protocol",
        &[
            ("malformed_input_is_answered_alike", malformed::alike),
            ("any_split_gives_the_same_replies", pipeline::any_split),
            ("a_long_pipeline_passes", pipeline::long),
            (
                "a_pipeline_is_written_before_any_reply_is_read",
                pipeline::unread,
            ),
            ("large_values_pass", large::values),
            ("a_slow_reader_harms_nobody", large::slow_reader),
            ("half_closed_clients_get_their_replies", endings::half_close),
            ("clients_leave_without_reading", endings::unread),
            ("every_client_gets_its_own_replies", many::own_replies),
        ],
    )
}

/// The trials that every kernel would answer alike.
#[must_use]
pub fn of_the_host() -> Vec<Trial> {
    pair::trials(
        "protocol",
        &[("short_requests_end_no_worker", short::harmless)],
    )
}
