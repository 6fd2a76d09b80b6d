//! This machine: kernel, cgroups, bpffs, rights, other programs, the agent.

use std::path::Path;

use flect_agent::cgroup::CgroupMount;
use flect_agent::config::{Config, DEFAULT_PATH};
use flect_agent::interception;
use serde_json::{Value, json};

use super::{Finding, Verdict};
use crate::Global;
use crate::node::Node;

const AREA: &str = "node";

/// Bits of `CapEff` (linux/capability.h) that the hooks need: NET_ADMIN, SYS_ADMIN (setns into
/// workloads' namespaces), BPF.
const CAPABILITIES: [(u32, &str); 3] = [(12, "NET_ADMIN"), (21, "SYS_ADMIN"), (39, "BPF")];

/// The oldest kernel with everything the hooks use, and the one from which there are no gaps.
const KERNEL_MIN: (u32, u32) = (5, 15);
const KERNEL_RECOMMENDED: (u32, u32) = (6, 1);

/// How the names of flect's own programs on these hooks begin.
const OWN_PROGRAMS: [&str; 3] = ["redirect_conne", "guard_bind", "answer_getpeer"];

/// Looks at the machine.
pub fn look(global: &Global) -> Vec<Finding> {
    let mut findings = vec![kernel(), cgroups(), bpffs(), btf(), rights(), socket_diag()];
    findings.extend(other_programs());
    findings.extend(config());
    findings.extend(agent(global));
    findings
}

fn kernel() -> Finding {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = KERNEL_RECOMMENDED;
    if version < KERNEL_MIN {
        let remedy = format!("boot Linux {major}.{minor} or newer, or use explicit mode");
        Finding::bad(AREA, "kernel", Verdict::Broken, release, remedy)
    } else if version < KERNEL_RECOMMENDED {
        let remedy = format!("Linux {major}.{minor} is what flect is tested with");
        Finding::bad(AREA, "kernel", Verdict::Warning, release, remedy)
    } else {
        Finding::good(AREA, "kernel", release)
    }
}

fn cgroups() -> Finding {
    match CgroupMount::find() {
        Ok(mount) => Finding::good(AREA, "cgroup v2", mount.path().display().to_string()),
        Err(error) => Finding::bad(
            AREA,
            "cgroup v2",
            Verdict::Broken,
            error.to_string(),
            "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn bpffs() -> Finding {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1).zip(line.split(' ').nth(2)))
        .find(|(_, kind)| *kind == "bpf");
    match mounted {
        Some((path, _)) => Finding::good(AREA, "bpffs", path),
        None => Finding::good(
            AREA,
            "bpffs",
            "not mounted; the agent mounts it when it starts",
        ),
    }
}

fn btf() -> Finding {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Finding::good(AREA, "BTF", "the kernel describes its types");
    }
    Finding::bad(
        AREA,
        "BTF",
        Verdict::Broken,
        "/sys/kernel/btf/vmlinux is missing",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels have",
    )
}

fn rights() -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Finding::good(AREA, "rights", "enough to load the hooks");
    }
    Finding::bad(
        AREA,
        "rights",
        Verdict::Unknown,
        format!("this user lacks {}", missing.join(", ")),
        "the agent runs as root; to see what root sees: sudo flect doctor",
    )
}

/// The agent ends connections that are older than itself through sock_diag's SOCK_DESTROY.
fn socket_diag() -> Finding {
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let loaded = modules.lines().any(|line| line.starts_with("tcp_diag "));
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let folder = Path::new("/lib/modules").join(&release);
    let builtin = std::fs::read_to_string(folder.join("modules.builtin"))
        .is_ok_and(|text| text.contains("tcp_diag.ko"));
    if loaded || builtin || !folder.exists() {
        return Finding::good(
            AREA,
            "tcp_diag",
            "connections older than the agent can be ended",
        );
    }
    Finding::bad(
        AREA,
        "tcp_diag",
        Verdict::Warning,
        "the module is not loaded (the kernel may load it by itself when it is asked)",
        "modprobe tcp_diag, and name it in /etc/modules-load.d",
    )
}

/// Programs of others on the same hooks: they all run, in the order of attachment.
fn other_programs() -> Vec<Finding> {
    match interception::socket_programs() {
        Ok(programs) => {
            let foreign: Vec<String> = programs
                .into_iter()
                .filter(|name| !OWN_PROGRAMS.iter().any(|own| name.starts_with(own)))
                .collect();
            if foreign.is_empty() {
                return vec![Finding::good(
                    AREA,
                    "other BPF programs",
                    "none on connect and bind",
                )];
            }
            vec![Finding::bad(
                AREA,
                "other BPF programs",
                Verdict::Warning,
                foreign.join(", "),
                "programs that rewrite connect() too (Cilium's socket load balancer) must not \
                 translate Valkey's address before flect sees it: give agent.toml the address that is left",
            )]
        }
        Err(error) => vec![Finding::bad(
            AREA,
            "other BPF programs",
            Verdict::Unknown,
            error.to_string(),
            "run as root: sudo flect doctor",
        )],
    }
}

fn config() -> Vec<Finding> {
    let path = std::env::var_os("FLECT_CONFIG_DIR").map_or_else(
        || DEFAULT_PATH.into(),
        |folder| Path::new(&folder).join("agent.toml"),
    );
    if !path.exists() {
        return Vec::new();
    }
    let finding = match Config::load(&path) {
        Ok(config) => Finding::good(
            AREA,
            "agent.toml",
            format!("{}: valid, {} apps", path.display(), config.apps.len()),
        ),
        Err(error) if std::fs::File::open(&path).is_err() => Finding::bad(
            AREA,
            "agent.toml",
            Verdict::Unknown,
            error.to_string(),
            "sudo flect doctor",
        ),
        Err(error) => Finding::bad(
            AREA,
            "agent.toml",
            Verdict::Broken,
            error.to_string(),
            format!("mend it, then: flect-agent check {}", path.display()),
        ),
    };
    vec![finding]
}

fn agent(global: &Global) -> Vec<Finding> {
    let report =
        Node::connect(&global.socket).and_then(|mut node| node.ask(&json!({ "op": "status" })));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            return vec![Finding::bad(
                AREA,
                "agent",
                Verdict::Warning,
                crate::failure::text(&error),
                "start it: systemctl start flect-agent, or flect-agent run; logs: journalctl -u flect-agent",
            )];
        }
    };
    let version = report["version"].as_str().unwrap_or("unknown");
    let mut findings = vec![if report["ready"] == true {
        Finding::good(AREA, "agent", format!("ready, version {version}"))
    } else {
        Finding::bad(
            AREA,
            "agent",
            Verdict::Broken,
            format!("version {version}, not ready"),
            "flect status tells whether Valkey answers; the agent's log says why not",
        )
    }];
    findings.extend(acceleration(&report["acceleration"]));
    findings.extend(integrity(&report));
    findings
}

/// What integrity mode withheld since the agent's start.
fn integrity(report: &Value) -> Option<Finding> {
    if !report["integrity"].as_bool()? {
        return Some(Finding::bad(
            AREA,
            "integrity",
            Verdict::Warning,
            "replies are not searched for names of the server's own",
            "take `integrity = false` out of [agent] in agent.toml",
        ));
    }
    let stores = report["stores"].as_array()?.iter();
    let withheld: Vec<String> = stores
        .filter_map(|store| {
            let count = store["integrity_violations"]
                .as_u64()
                .filter(|it| *it > 0)?;
            Some(format!("{count} of {}", store["name"].as_str()?))
        })
        .collect();
    if withheld.is_empty() {
        return Some(Finding::good(AREA, "integrity", "no reply was withheld"));
    }
    Some(Finding::bad(
        AREA,
        "integrity",
        Verdict::Warning,
        format!("replies were withheld: {}", withheld.join(", ")),
        "a rule of flect's lets a name through, or the app stores its own prefix: report it with the \
         command; the agent's log says when",
    ))
}

fn acceleration(verdict: &Value) -> Option<Finding> {
    let reason = verdict["reason"].as_str()?;
    let on = verdict["client_to_agent"] == true || verdict["agent_to_client"] == true;
    let state = if on { "on" } else { "off" };
    Some(Finding::good(
        AREA,
        "acceleration",
        format!("{state}: {reason}"),
    ))
}
