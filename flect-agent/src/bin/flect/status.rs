//! `flect status`: whether the agent of this node serves, with what, and whom.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::Global;
use crate::failure::Failure;
use crate::node::Node;

/// Exit code 0 when the agent is ready, 1 when it is not, 3 when there is none.
#[derive(clap::Args)]
pub struct Args {
    /// Print the address of the agent's status page and nothing else; it opens the page for
    /// whoever has it, until the agent is started again
    #[arg(long)]
    page: bool,
}

/// Shows the agent's report.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let report = Node::connect(&global.socket)?.ask(&json!({ "op": "status" }))?;
    if args.page {
        return page(global, &report);
    }
    crate::output::print(global.json, &report, shown)?;
    Ok(if report["ready"] == true {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Failure::Failed.code())
    })
}

/// The page's address, alone on its line for scripts and for copying.
fn page(global: &Global, report: &Value) -> anyhow::Result<ExitCode> {
    let Some(url) = report["status_page"].as_str() else {
        match report["status_page_error"].as_str() {
            Some(why) => anyhow::bail!("{why}"),
            None => anyhow::bail!(
                "this agent has no status page; give [agent] status_page in agent.toml an address \
                 such as 127.0.0.1:15380 and start the agent again"
            ),
        }
    };
    crate::output::print(global.json, &json!({ "status_page": url }), |_| {
        url.to_owned()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The report for people.
fn shown(report: &Value) -> String {
    use std::fmt::Write;
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let mut out = String::new();
    let state = if report["ready"] == true {
        "ready"
    } else {
        "not ready"
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "agent         {state}, version {}, pid {}",
        text(&report["version"]),
        report["pid"]
    );
    if let Some(why) = report["not_ready"].as_str() {
        let _ = writeln!(out, "              {why}");
    }
    let _ = writeln!(
        out,
        "environment   {}, registry version {}",
        text(&report["environment"]),
        report["registry"]["version"]
    );
    if let Some(why) = report["config"]["error"].as_str() {
        let why = why.replace('\n', "\n              ");
        let _ = writeln!(out, "config        NOT TAKEN, the one before holds: {why}");
    }
    let ignored = report["config"]["ignored"].as_array().into_iter().flatten();
    let ignored: Vec<_> = ignored.map(text).collect();
    if !ignored.is_empty() {
        let _ = writeln!(
            out,
            "config        from the agent's next start on: {}",
            ignored.join(", ")
        );
    }
    let reachable = if report["valkey"]["reachable"] == true {
        "reachable"
    } else {
        "not reachable"
    };
    let _ = writeln!(
        out,
        "valkey        {}, {reachable}",
        text(&report["valkey"]["address"])
    );
    if report["acceleration"].is_object() {
        let direction = |name: &str| {
            if report["acceleration"][name] == true {
                "on"
            } else {
                "off"
            }
        };
        let _ = writeln!(
            out,
            "acceleration  app to agent {}, agent to app {} (flect doctor tells why)",
            direction("client_to_agent"),
            direction("agent_to_client"),
        );
    } else {
        let _ = writeln!(
            out,
            "interception  off: only the explicit listeners are served"
        );
    }
    let explicit = report["explicit"]["listen"].as_array();
    for address in explicit.into_iter().flatten() {
        let tls = if report["explicit"]["tls"] == true {
            "TLS"
        } else {
            "no TLS"
        };
        let _ = writeln!(out, "explicit      {}, {tls}", text(address));
    }
    if let Some(page) = report["status_page"].as_str() {
        let _ = writeln!(out, "status page   {page}");
    } else if let Some(why) = report["status_page_error"].as_str() {
        let _ = writeln!(out, "status page   none: {why}");
    }
    let mib = report["rss_bytes"].as_f64().unwrap_or(0.0) / 1_048_576.0;
    let _ = write!(
        out,
        "load          {} sessions, {} workers, {mib:.1} MiB",
        report["sessions"], report["workers"]
    );
    for (title, key) in [("learnt", "learnt"), ("refused", "refused")] {
        let names = report["commands"][key].as_array().into_iter().flatten();
        let names = names.map(|it| text(if it.is_string() { it } else { &it["name"] }));
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            let _ = write!(
                out,
                "\n{title:<13} {} (commands that only the server knows)",
                names.join(", ")
            );
        }
    }
    for app in report["apps"].as_array().into_iter().flatten() {
        let names = |key: &str| {
            let names = app[key].as_array().into_iter().flatten();
            names.map(text).collect::<Vec<_>>().join(", ")
        };
        let _ = write!(
            out,
            "\napp           {}: {}",
            text(&app["name"]),
            names("stores")
        );
        let remedy = match app["state"].as_str() {
            Some("missing") => "; REFUSED: its default store does not exist: flect kv create ",
            Some("filling") => "; REFUSED: its default store is being filled: ",
            _ if names("missing").is_empty() => continue,
            _ => "; not there: ",
        };
        let _ = write!(out, "{remedy}{}", names("missing"));
    }
    for store in report["stores"].as_array().into_iter().flatten() {
        let _ = write!(
            out,
            "\nstore         {} {} ({} sessions)",
            text(&store["name"]),
            text(&store["prefix"]),
            store["sessions"]
        );
        if let Some(count) = store["integrity_violations"].as_u64().filter(|it| *it > 0) {
            let _ = write!(
                out,
                "\n              INTEGRITY: {count} replies withheld (flect doctor tells more)"
            );
        }
    }
    out
}
