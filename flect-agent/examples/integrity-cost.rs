//! Passes replies on as a worker does, with integrity mode or without it, for instructions to be counted:
//!
//! ```text
//! valgrind --tool=callgrind target/release/examples/integrity-cost on get 100000
//! ```
//!
//! The difference between `on` and `off` is what the mode costs; BENCHMARKS.md has the numbers.

use anyhow::{Context, Result, bail, ensure};
use flect_agent::integrity::{Guard, Integrity, OwnNames, Verdict};
use flect_agent::rewrite::{ReplyPlan, ReplyRewriter};
use flect_agent::store::Prefix;

/// What a worker has read of a reply at most.
const READ_BYTES: usize = 64 * 1024;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, reply, times] = args.as_slice() else {
        bail!("integrity-cost (on|off) (ok|get|list|large) TIMES");
    };
    let guarded = mode == "on";
    let bulk = |bytes: usize| {
        [
            format!("${bytes}\r\n").as_bytes(),
            &vec![b'x'; bytes],
            b"\r\n",
        ]
        .concat()
    };
    let reply = match reply.as_str() {
        "ok" => b"+OK\r\n".to_vec(),
        "get" => bulk(100),
        "list" => [b"*100\r\n".to_vec(), bulk(20).repeat(100)].concat(),
        "large" => bulk(1024 * 1024),
        _ => bail!("no such reply: {reply}"),
    };
    let times: u64 = times.parse().context("TIMES")?;
    let prefix = Prefix::parse("{k7m2x}").context("a prefix")?;
    let namespace = prefix.namespace(0);
    let own = OwnNames::new(&prefix);
    let integrity = Integrity::new(true, ["10.0.0.1:6379".to_owned()]);
    let (mut rewriter, mut guard) = (ReplyRewriter::default(), Guard::default());
    let mut out = Vec::with_capacity(2 * READ_BYTES);
    let mut passed = 0;
    for _ in 0..times {
        rewriter.start(ReplyPlan::Verbatim);
        let mut rest = reply.as_slice();
        while !rest.is_empty() {
            let read = &rest[..rest.len().min(READ_BYTES)];
            let before = out.len();
            if guarded {
                guard.open(&mut out);
            }
            let advance = rewriter.advance(read, &namespace, &mut out)?;
            if guarded {
                let error = rewriter.met_error();
                let verdict = guard.look(&own, &integrity, &mut out, before, error, advance.done);
                ensure!(
                    verdict == Verdict::Clean,
                    "a reply without names was withheld"
                );
            }
            rest = &rest[advance.consumed..];
            passed += out.len();
            // As if the client had read it.
            out.clear();
        }
        guard.end();
    }
    ensure!(
        passed as u64 == times * reply.len() as u64,
        "something is missing"
    );
    Ok(())
}
