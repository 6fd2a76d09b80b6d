//! What Valkey says about commands that it does not run, word for word, and what the agent says about
//! those that it does not forward.
//!
//! Invariant: the texts are made of the client's own bytes, never of rewritten ones, and are whole
//! RESP replies. Facts from `commandCheckExistence` and `commandCheckArity` in Valkey 8.0
//! `src/server.c`.

use super::Command;
use crate::resp::request::Request;

/// How many bytes of the name and of the arguments Valkey repeats.
const ECHOED_BYTES_MAX: usize = 128;

/// `-ERR unknown command 'x', with args beginning with: 'a' 'b' `.
pub fn unknown_command_error<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    let mut shown = Vec::new();
    for arg in args {
        if shown.len() >= ECHOED_BYTES_MAX {
            break;
        }
        let room = ECHOED_BYTES_MAX - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(echoed(arg, room));
        shown.extend_from_slice(b"' ");
    }
    let mut text = b"-ERR unknown command '".to_vec();
    text.extend_from_slice(echoed(name, ECHOED_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    text.extend_from_slice(&shown);
    one_line(text)
}

/// `-ERR unknown subcommand 'x'. Try CONFIG HELP.`, with the container as the client spelt it, in
/// upper case.
#[must_use]
pub fn unknown_subcommand_error(container: &[u8], subcommand: &[u8]) -> Vec<u8> {
    let mut text = b"-ERR unknown subcommand '".to_vec();
    text.extend_from_slice(echoed(subcommand, ECHOED_BYTES_MAX));
    text.extend_from_slice(b"'. Try ");
    text.extend(container.iter().map(u8::to_ascii_uppercase));
    text.extend_from_slice(b" HELP.");
    one_line(text)
}

/// `-ERR unknown subcommand or wrong number of arguments for 'x'. Try PUBSUB HELP.`
/// (`addReplySubcommandSyntaxError` in networking.c).
#[must_use]
pub fn subcommand_syntax_error(request: &Request<'_>) -> Vec<u8> {
    let mut text = b"-ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(echoed(request.arg(1), ECHOED_BYTES_MAX));
    text.extend_from_slice(b"'. Try ");
    text.extend(request.arg(0).iter().map(u8::to_ascii_uppercase));
    text.extend_from_slice(b" HELP.");
    one_line(text)
}

/// `-ERR wrong number of arguments for 'get' command`.
#[must_use]
pub fn arity_error(command: &Command) -> Vec<u8> {
    one_line(
        format!(
            "-ERR wrong number of arguments for '{}' command",
            command.name
        )
        .into_bytes(),
    )
}

/// `-ERR No scripting engine found with name 'x' to enable debug` (`scriptCommand` in eval.c).
#[must_use]
pub fn engine_error(name: &[u8]) -> Vec<u8> {
    let mut text = b"-ERR No scripting engine found with name '".to_vec();
    text.extend_from_slice(echoed(name, usize::MAX));
    text.extend_from_slice(b"' to enable debug");
    one_line(text)
}

/// `-ERR unknown type name 'x'` (`scanGenericCommand` in db.c).
#[must_use]
pub fn type_error(name: &[u8]) -> Vec<u8> {
    let mut text = b"-ERR unknown type name '".to_vec();
    text.extend_from_slice(echoed(name, usize::MAX));
    text.push(b'\'');
    one_line(text)
}

/// The refusal of a command whose policy is `Operator(why)`.
#[must_use]
pub fn refusal(command: &Command, why: &str) -> Vec<u8> {
    let name = command.name.replace('|', " ").to_ascii_uppercase();
    one_line(
        format!(
            "-NOPERM {name} is not available in a store: {why}; ask the operator of this Valkey"
        )
        .into_bytes(),
    )
}

/// Whether the first word is one that a browser sends: Valkey closes the connection without a reply.
#[must_use]
pub fn is_cross_protocol(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Valkey prints arguments as C strings: up to the first NUL, and no more than `bytes_max`.
fn echoed(arg: &[u8], bytes_max: usize) -> &[u8] {
    let arg = &arg[..arg.len().min(bytes_max)];
    &arg[..memchr::memchr(0, arg).unwrap_or(arg.len())]
}

fn one_line(mut text: Vec<u8>) -> Vec<u8> {
    for byte in &mut text {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}
