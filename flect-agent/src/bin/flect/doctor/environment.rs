//! The environment: can its Valkey be reached, is it new enough, may the operator do its work.

use std::collections::HashMap;

use flect_agent::admin::{Admin, info_field};
use flect_agent::config::environments::Folders;

use super::{Finding, Verdict};
use crate::Global;
use crate::operator::block_on;

const AREA: &str = "environment";

/// Commands that the agent and `flect` send as the operator, with arguments that stand for all.
const OPERATOR_COMMANDS: &[&[&str]] = &[
    &["ROLE"],
    &["ACL", "SETUSER", "flect.x"],
    &["ACL", "GETUSER", "flect.x"],
    &["ACL", "DELUSER", "flect.x"],
    &["COMMAND", "LIST"],
    &["CONFIG", "GET", "databases"],
    &["CONFIG", "SET", "maxmemory", "0"],
    &["EVAL", "return 1", "1", "flect:{registry}:meta"],
    &["HGETALL", "flect:{registry}:stores"],
    &["HMGET", "flect:{registry}:usage", "{x}"],
    &["INFO"],
    &["PUBLISH", "flect:{registry}:changes", "1"],
    &["SUBSCRIBE", "flect:{registry}:changes"],
    &["SCAN", "0"],
    &["UNLINK", "{x}:y"],
    &["MEMORY", "USAGE", "{x}:y"],
];

/// Looks at the chosen environment, if there is one.
pub fn look(global: &Global) -> Vec<Finding> {
    let (name, known) = match Folders::from_env().choose(global.env.as_deref()) {
        Ok(chosen) => chosen,
        Err(error) => {
            return vec![Finding::bad(
                AREA,
                "chosen",
                Verdict::Unknown,
                error.to_string(),
                "flect env list shows what is known here",
            )];
        }
    };
    let mut findings = vec![Finding::good(
        AREA,
        "chosen",
        format!("{name}, Valkey at {}", known.valkey.address),
    )];
    let looked = block_on(async {
        let mut admin = Admin::connect(&known.valkey).await?;
        findings.push(version(&mut admin).await?);
        findings.push(operator_rights(&mut admin).await?);
        let snapshot = admin.registry().snapshot().await?;
        findings.push(Finding::good(
            AREA,
            "registry",
            format!(
                "{} stores, version {}",
                snapshot.stores.len(),
                snapshot.version
            ),
        ));
        findings.push(default_user(&mut admin).await?);
        if !snapshot.removed.is_empty() {
            let names: Vec<String> = snapshot
                .removed
                .iter()
                .map(|r| r.slug.to_string())
                .collect();
            findings.push(Finding::bad(
                AREA,
                "removals",
                Verdict::Warning,
                format!("not all keys are deleted of {}", names.join(", ")),
                "flect kv rm --resume",
            ));
        }
        Ok(())
    });
    if let Err(error) = looked {
        findings.push(Finding::bad(
            AREA,
            "Valkey",
            Verdict::Broken,
            format!("{error:#}"),
            format!(
                "check address, user and password_file in {}",
                known.file.display()
            ),
        ));
    }
    findings
}

async fn version(admin: &mut Admin) -> anyhow::Result<Finding> {
    let info: String = redis::cmd("INFO")
        .arg("server")
        .query_async(&mut admin.connection())
        .await?;
    let Some(version) = info_field(&info, "valkey_version") else {
        let redis = info_field(&info, "redis_version").unwrap_or_default();
        return Ok(Finding::bad(
            AREA,
            "server",
            Verdict::Warning,
            format!("no Valkey, calls itself Redis {redis}"),
            "flect is tested with Valkey 8.0, 8.1 and 9.1",
        ));
    };
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    Ok(if major >= 8 {
        Finding::good(AREA, "server", format!("Valkey {version}"))
    } else {
        Finding::bad(
            AREA,
            "server",
            Verdict::Warning,
            format!("Valkey {version}"),
            "flect is tested with Valkey 8.0, 8.1 and 9.1",
        )
    })
}

/// Whoever reaches Valkey around the hooks, from another machine say, must not find it open.
async fn default_user(admin: &mut Admin) -> anyhow::Result<Finding> {
    const WHAT: &str = "default user";
    let mut connection = admin.connection();
    let mut ask = redis::cmd("ACL");
    ask.arg("GETUSER").arg("default");
    let answer: redis::RedisResult<HashMap<String, redis::Value>> =
        ask.query_async(&mut connection).await;
    let flags: Vec<String> = match answer {
        Ok(mut user) => user
            .remove("flags")
            .and_then(|flags| redis::from_redis_value(flags).ok())
            .unwrap_or_default(),
        Err(error) => {
            return Ok(Finding::bad(
                AREA,
                WHAT,
                Verdict::Unknown,
                error.to_string(),
                "ask Valkey's operator whether ACL GETUSER default says 'off' or has a password",
            ));
        }
    };
    let has = |flag: &str| flags.iter().any(|own| own == flag);
    Ok(if has("on") && has("nopass") {
        Finding::bad(
            AREA,
            WHAT,
            Verdict::Warning,
            "needs no password: whoever reaches Valkey around the hooks, from another machine say, gets every store",
            "docs/install.md shows how to turn it off, or let the network admit nodes only",
        )
    } else {
        Finding::good(AREA, WHAT, "is off or has a password")
    })
}

/// `ACL DRYRUN` of everything the operator sends.
async fn operator_rights(admin: &mut Admin) -> anyhow::Result<Finding> {
    let mut connection = admin.connection();
    let user: String = redis::cmd("ACL")
        .arg("WHOAMI")
        .query_async(&mut connection)
        .await?;
    let mut refused = Vec::new();
    for command in OPERATOR_COMMANDS {
        let mut dryrun = redis::cmd("ACL");
        dryrun.arg("DRYRUN").arg(&user).arg(*command);
        let answer: redis::RedisResult<String> = dryrun.query_async(&mut connection).await;
        match answer {
            Ok(answer) if answer == "OK" => {}
            Ok(_) => refused.push(command[..command.len().min(2)].join(" ")),
            Err(error) => {
                return Ok(Finding::bad(
                    AREA,
                    "operator's rights",
                    Verdict::Unknown,
                    format!("user {user} may not use ACL DRYRUN: {error}"),
                    "grant +acl|dryrun to see the rest",
                ));
            }
        }
    }
    if refused.is_empty() {
        return Ok(Finding::good(
            AREA,
            "operator's rights",
            format!("user {user} may do all that flect needs"),
        ));
    }
    Ok(Finding::bad(
        AREA,
        "operator's rights",
        Verdict::Broken,
        format!("user {user} may not: {}", refused.join(", ")),
        format!("ACL SETUSER {user} ~* &* +@all, or the list in docs/install.md"),
    ))
}
