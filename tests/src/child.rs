//! This executable as a child process, for code that must run inside an app's cgroup.
//!
//! A cgroup is a property of a process, so Rust code that plays an app cannot be a thread of the
//! test. Each executable that makes beds (`flect-integration`, `xtask`) calls [`dispatch`] first;
//! [`command`] then starts the same executable again, in the role named.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::bed::{connector, neighbour, supervisor};
use crate::chaos::crowd;
use crate::tools;

/// What a role does with its arguments.
pub type Role = fn(&[String]) -> Result<()>;

/// The first argument that says 'this is a child'; no COMMAND of a person begins so.
const MARK: &str = "--flect-child";

/// A command that starts this executable again in a role; give it to
/// [`Bed::place`](crate::bed::Bed::place) or run it as it is.
///
/// # Errors
/// When the path of the running executable cannot be told.
pub fn command(role: &str, args: &[&str]) -> Result<Command> {
    let own = tools::own_program()?;
    let mut command = Command::new(own);
    command.arg(MARK).arg(role).args(args);
    Ok(command)
}

/// The roles that the bed and chaos need.
const ROLES: [(&str, Role); 4] = [
    (neighbour::ROLE, neighbour::role),
    (connector::ROLE, connector::role),
    (supervisor::ROLE, supervisor::role),
    (crowd::ROLE, crowd::role),
];

/// Plays the role when this process is such a child; `None` for an ordinary start. `more` are roles
/// beside the bed's own.
#[must_use]
pub fn dispatch(more: &[(&str, Role)]) -> Option<ExitCode> {
    let mut args = env::args().skip(1);
    if args.next()? != MARK {
        return None;
    }
    let name = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let mut roles = ROLES.iter().chain(more);
    let Some((_, role)) = roles.find(|(role, _)| *role == name) else {
        eprintln!("no such role: {name:?}");
        return Some(ExitCode::from(2));
    };
    Some(match role(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    })
}
