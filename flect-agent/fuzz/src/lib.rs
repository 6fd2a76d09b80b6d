//! What must hold of any bytes, one function for each part of the agent that reads bytes of others.
//!
//! | module | what is fed | what must hold, besides that nothing panics |
//! | --- | --- | --- |
//! | [`requests`] | a client's bytes | cut anywhere they are the same requests; what is handed on is plain RESP |
//! | [`rewriter`] | a client's bytes | what leaves is one request whose names bear the prefix, whole or streamed |
//! | [`replies`] | a server's bytes | cut anywhere they give the same; no name keeps its prefix or is another's |
//! | [`values`] | a server's bytes | cut anywhere they are the same values |
//! | [`scripts`] | Lua | the app's text is in the server's, on its lines; the text comes back |
//! | [`scoped`] | a server's answers to store-wide commands | questions name the store alone, answers only its names |
//! | [`files`] | configuration, manifests, exports, registry records | what is understood is understood again when written |
//!
//! Invariant: a function here takes any bytes, keeps nothing between calls and reads no clock, so an input
//! that fails once fails always. The engine (`--features engine`) and the test that replays the corpus call
//! the same [`TARGETS`].

pub mod corpus;
pub mod files;
pub mod input;
// The same second opinion on where names stand that the rewriter's own tests use: it shares no code with
// the classifier.
#[path = "../../src/rewrite/tests/model.rs"]
mod model;
pub mod naive;
pub mod replies;
pub mod requests;
pub mod rewriter;
pub mod scoped;
pub mod scripts;
pub mod values;

// The model asks for it by this path.
use flect_agent::commands;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As it is named on the command line, and its corpus's folder.
    pub name: &'static str,
    /// What is fed to what.
    pub about: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All of them, in the order in which data meets them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "requests",
        about: "a client's bytes to the request scanner",
        run: requests::run,
    },
    Target {
        name: "inline",
        about: "a line to the reader of inline requests",
        run: requests::run_inline,
    },
    Target {
        name: "rewriter",
        about: "a client's requests to the rewriters",
        run: rewriter::run,
    },
    Target {
        name: "words",
        about: "requests of known commands with any arguments to the rewriters",
        run: rewriter::run_words,
    },
    Target {
        name: "replies",
        about: "a server's bytes to the reply rewriter",
        run: replies::run,
    },
    Target {
        name: "exec",
        about: "a server's answer to EXEC to the reply rewriter",
        run: replies::run_exec,
    },
    Target {
        name: "values",
        about: "a server's bytes to the reader of values",
        run: values::run,
    },
    Target {
        name: "scripts",
        about: "Lua to what prepares scripts and libraries",
        run: scripts::run,
    },
    Target {
        name: "functions",
        about: "a server's texts and payloads to what recovers libraries",
        run: scripts::run_functions,
    },
    Target {
        name: "scoped",
        about: "a server's answers to store-wide commands",
        run: scoped::run,
    },
    Target {
        name: "config",
        about: "text to the reader of agent.toml",
        run: files::run_config,
    },
    Target {
        name: "manifest",
        about: "text to the readers of flect.toml and .env.local",
        run: files::run_manifest,
    },
    Target {
        name: "dump",
        about: "bytes to the reader of exports",
        run: files::run_dump,
    },
    Target {
        name: "registry",
        about: "text to the readers of registry records and control requests",
        run: files::run_registry,
    },
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
