//! An example of a reply that carries names: made up, then read by the rewriter that reads real ones.

use redis_protocol::resp2::types::OwnedFrame;
use serde::Serialize;

use crate::commands::{Command, ReplyShape};
use crate::resp::encode;
use crate::resp::request::{Request, RequestScanner, Scanned};
use crate::rewrite::{self, ReplyPlan, ReplyRewriter};
use crate::store::Namespace;

/// A reply before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplyExample {
    /// What Valkey says.
    pub server: String,
    /// What the app gets.
    pub app: String,
}

/// An example for this request; `None` where replies hold no names.
pub(super) fn example(
    command: &Command,
    request: &Request<'_>,
    namespace: &Namespace,
) -> Option<ReplyExample> {
    let reply = made_up(command, request, namespace)?;
    let mut rewriter = ReplyRewriter::default();
    rewriter.start(ReplyPlan::of(command.reply));
    let mut out = Vec::new();
    let advance = rewriter.advance(&reply, namespace, &mut out).ok()?;
    (advance.done).then(|| ReplyExample {
        server: shown(&reply),
        app: shown(&out),
    })
}

fn made_up(command: &Command, request: &Request<'_>, namespace: &Namespace) -> Option<Vec<u8>> {
    let name = first_name(command, request, namespace)?;
    let mut out = Vec::new();
    match command.reply {
        ReplyShape::Verbatim
        | ReplyShape::Exec
        | ReplyShape::TrackingInfo
        // These are carried out by the agent, which makes their replies.
        | ReplyShape::Cursor
        | ReplyShape::Names
        | ReplyShape::Channels => return None,
        ReplyShape::Name => encode::bulk(&name, &mut out),
        ReplyShape::FirstName => {
            encode::array(2, &mut out);
            encode::bulk(&name, &mut out);
            encode::bulk("value", &mut out);
        }
        ReplyShape::StreamNames => {
            encode::array(1, &mut out);
            encode::array(2, &mut out);
            encode::bulk(&name, &mut out);
            encode::array(1, &mut out);
            encode::array(2, &mut out);
            encode::bulk("1-0", &mut out);
            encode::request(&["field", "value"], &mut out);
        }
        ReplyShape::PubsubNumsub => {
            encode::array(2, &mut out);
            encode::bulk(&name, &mut out);
            encode::integer(1, &mut out);
        }
        ReplyShape::Pubsub => {
            encode::array(3, &mut out);
            encode::bulk(command.name, &mut out);
            encode::bulk(&name, &mut out);
            encode::integer(1, &mut out);
        }
    }
    Some(out)
}

/// The first argument that got a prefix, with it.
fn first_name(command: &Command, request: &Request<'_>, namespace: &Namespace) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    rewrite::rewrite(command, request, namespace, &mut bytes);
    let mut scanner = RequestScanner::default();
    let Ok(Scanned::Request { .. }) = scanner.scan(&bytes) else {
        return None;
    };
    let sent = scanner.request(&bytes);
    sent.args()
        .zip(request.args())
        .find(|(new, old)| new != old)
        .map(|(new, _)| new.to_vec())
}

/// A reply in one line.
fn shown(reply: &[u8]) -> String {
    match redis_protocol::resp2::decode::decode(reply) {
        Ok(Some((frame, _))) => frame_text(&frame),
        _ => String::from_utf8_lossy(reply).into_owned(),
    }
}

fn frame_text(frame: &OwnedFrame) -> String {
    match frame {
        OwnedFrame::SimpleString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        OwnedFrame::BulkString(bytes) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
        OwnedFrame::Error(text) => text.clone(),
        OwnedFrame::Integer(number) => number.to_string(),
        OwnedFrame::Array(items) => {
            let items: Vec<String> = items.iter().map(frame_text).collect();
            format!("[{}]", items.join(", "))
        }
        OwnedFrame::Null => "(nil)".to_owned(),
    }
}
