//! From the words of FUNCTION and SCRIPT KILL to the task.
//!
//! Invariant: arguments are read as Valkey reads them, and refused in its words (functions.c).

use super::begin::Asker;
use super::error;
use super::functions::{Command, Functions, Restore};
use crate::commands::subcommand_syntax_error;
use crate::resp::request::Request;
use crate::rewrite::words::{is, until_nul};
use crate::scripts::{Library, payload};

impl Functions {
    /// The task for FUNCTION and its subcommand.
    ///
    /// # Errors
    /// The reply, where none is needed.
    pub(super) fn for_request(request: &Request<'_>, asker: &Asker<'_>) -> Result<Self, Vec<u8>> {
        let word = request.arg(1).to_ascii_lowercase();
        let command = match word.as_slice() {
            b"load" => load(request)?,
            b"list" => list(request)?,
            b"delete" => Command::Delete(request.arg(2).to_vec()),
            b"flush" => flush(request)?,
            b"dump" => Command::Dump,
            b"restore" => restore(request)?,
            b"stats" => Command::Stats,
            _ => Command::KillFunction,
        };
        Ok(Self::of(command, asker))
    }

    /// SCRIPT KILL.
    pub(super) fn kill_script(asker: &Asker<'_>) -> Self {
        Self::of(Command::KillScript, asker)
    }

    fn of(command: Command, asker: &Asker<'_>) -> Self {
        Self::new(command, asker.prefix, asker.databases, asker.scripts_run)
    }
}

fn load(request: &Request<'_>) -> Result<Command, Vec<u8>> {
    let last = request.argc() - 1;
    let mut replace = false;
    for at in 2..last {
        let word = request.arg(at);
        if !is(word, b"replace") {
            return Err(said(b"ERR Unknown option given: ", word));
        }
        replace = true;
    }
    let library = Library::parse(request.arg(last)).map_err(|text| plain(&text))?;
    Ok(Command::Load { library, replace })
}

fn list(request: &Request<'_>) -> Result<Command, Vec<u8>> {
    let (mut code, mut pattern) = (false, None);
    let mut at = 2;
    while let Some(word) = request.get(at) {
        if !code && is(word, b"withcode") {
            code = true;
        } else if pattern.is_none() && is(word, b"libraryname") {
            at += 1;
            let given = request
                .get(at)
                .ok_or_else(|| plain("library name argument was not given"))?;
            pattern = Some(given.to_vec());
        } else {
            return Err(said(b"ERR Unknown argument ", word));
        }
        at += 1;
    }
    Ok(Command::List { pattern, code })
}

fn flush(request: &Request<'_>) -> Result<Command, Vec<u8>> {
    if request.argc() > 3 {
        return Err(subcommand_syntax_error(request));
    }
    let known = |mode: &[u8]| is(mode, b"sync") || is(mode, b"async");
    if !request.get(2).is_none_or(known) {
        return Err(plain("FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    Ok(Command::Flush)
}

fn restore(request: &Request<'_>) -> Result<Command, Vec<u8>> {
    if request.argc() > 4 {
        return Err(subcommand_syntax_error(request));
    }
    let policy = match request.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"append") => Restore::Append,
        Some(b"replace") => Restore::Replace,
        Some(b"flush") => Restore::Flush,
        Some(_) => {
            return Err(plain(
                "Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let texts = payload::unpack(request.arg(2)).map_err(plain)?;
    let libraries = texts.iter().map(|text| Library::parse(text));
    let libraries = libraries.collect::<Result<_, _>>();
    Ok(Command::Restore {
        libraries: libraries.map_err(|text| plain(&text))?,
        policy,
    })
}

fn plain(text: &str) -> Vec<u8> {
    error(&format!("ERR {text}"))
}

fn said(text: &[u8], word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::resp::encode::error([text, until_nul(word)].concat(), &mut out);
    out
}
