//! A line of CLIENT LIST (`catClientInfoString` in networking.c).

use std::fmt::Write as _;

use super::{Client, MONITOR, TRACKING, letters};
use crate::commands::{self, Version};
use crate::rewrite::words::until_nul;

/// The first server that shows `capa`.
const SHOWS_CAPABILITIES: Version = Version { major: 8, minor: 1 };

/// What a client costs besides its buffers, as a private server tells it: the struct and its lists.
const CLIENT_BYTES: u64 = 1920;

/// How the server of this version would tell it.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The server's version.
    pub release: Version,
    /// The bytes of the arguments of the request that asks.
    pub argument_bytes: u64,
}

/// Appends the client's line with its end.
pub fn line(client: &Client<'_>, shown: Shown, out: &mut String) {
    let (entry, named, look) = (client.entry, client.named, client.look);
    let text = |bytes: &[u8]| String::from_utf8_lossy(until_nul(bytes)).into_owned();
    let capabilities = match named.redirect {
        _ if shown.release < SHOWS_CAPABILITIES => "",
        true => " capa=r",
        false => " capa=",
    };
    let argument_bytes = if client.asks { shown.argument_bytes } else { 0 };
    let command = look
        .command
        .and_then(|number| commands::all().get(usize::from(number)))
        .map_or("NULL", |command| command.name);
    let redirection = if look.flags & TRACKING != 0 { 0 } else { -1 };
    let total_bytes = CLIENT_BYTES
        + look.input_bytes
        + look.input_free_bytes
        + look.output_bytes_max
        + argument_bytes;
    let events =
        if look.output_bytes > WRITTEN_AT_ONCE_BYTES && look.flags & MONITOR == 0 && !client.asks {
            "rw"
        } else {
            "r"
        };
    // The number of the descriptor is the agent's, and would tell how many others it serves.
    let descriptor = entry.id.saturating_add(DESCRIPTORS_BEFORE);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "id={} addr={} laddr={} fd={descriptor} name={} age={} idle={} flags={}{capabilities} db={} sub={} psub={} ssub={} multi={} watch={} qbuf={} qbuf-free={} argv-mem={argument_bytes} multi-mem=0 rbs={} rbp={} obl={} oll=0 omem=0 tot-mem={total_bytes} events={events} cmd={command} user={} redir={redirection} resp={} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={}",
        entry.id,
        entry.peer,
        entry.asked,
        text(&named.name),
        client.age_seconds,
        client.idle_seconds,
        letters(look.flags),
        named.database,
        look.channels,
        look.patterns,
        look.shard_channels,
        look.queued,
        look.watched,
        look.input_bytes,
        look.input_free_bytes,
        look.output_bytes_max,
        look.output_bytes_max,
        look.output_bytes,
        text(&named.user),
        named.protocol,
        text(&named.lib_name),
        text(&named.lib_version),
        look.read_bytes,
        look.written_bytes,
        look.commands,
    );
}

/// A server's first client has a descriptor about so large.
const DESCRIPTORS_BEFORE: u64 = 7;

/// Replies up to here go out at once; a client that has more waiting does not read them.
const WRITTEN_AT_ONCE_BYTES: u64 = 16 * 1024;
