//! The operator's own connections on a node whose hooks would take them for an app's.
//!
//! Where the managed root is that of all cgroups, the operator's shell lies below it, and a
//! connection of `flect` to the Valkey would be handed to the agent and refused. The agent's cgroup is
//! exempt; root may enter it, and does so for this one process.

use std::path::Path;

use flect_agent::cgroup::{CgroupMount, is_within};
use flect_agent::config::{Config, DEFAULT_PATH};
use serde_json::json;

use crate::node::Node;

/// Enters the agent's cgroup if this process is intercepted and may. Where it cannot, the connection
/// fails and says so; there is nothing better to do here.
pub fn step(socket: &Path) {
    if rustix::process::geteuid().is_root() {
        // Without a readable configuration, agent or cgroup nothing is intercepted here.
        let _ = enter(socket);
    }
}

fn enter(socket: &Path) -> Option<()> {
    let config = Config::load(Path::new(DEFAULT_PATH)).ok()?;
    let mount = CgroupMount::find().ok()?;
    let own = mount.current().ok()?;
    if !is_within(&own, &config.intercept.cgroup.0) {
        return None;
    }
    let status = Node::connect(socket)
        .ok()?
        .ask(&json!({ "op": "status" }))
        .ok()?;
    let table = std::fs::read_to_string(format!("/proc/{}/cgroup", status["pid"])).ok()?;
    let agent = table.lines().find_map(|line| line.strip_prefix("0::"))?;
    mount.join(agent).ok()
}
