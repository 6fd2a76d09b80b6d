//! The ledger against Valkey's own data, read by the operator's way.
//!
//! Invariant: every entry of the ledger is looked up; the agent takes no part in it. Valkey writes its
//! log before it answers (`appendfsync always`), so nothing acknowledged may be missing.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::client::Store;
use super::ledger::{Account, Ledger};
use super::work::{ACCOUNTS, BALANCE, QUEUE};
use crate::wire::{Value, Wire};

/// Compares a store's account with what is stored.
///
/// # Errors
/// When Valkey does not answer.
pub fn judge(operator: &mut Wire, ledger: &Ledger, store: &Store, prefix: &str) -> Result<()> {
    let account = ledger.account(store.number);
    let wrong = registers(operator, &account, prefix)?
        .into_iter()
        .chain(counters(operator, &account, prefix)?)
        .chain(queue(operator, &account, prefix)?)
        .chain(sum(operator, prefix)?);
    let all: Vec<_> = wrong.collect();
    drop(account);
    for what in all {
        ledger.violation(format!("{} at the end: {what}", store.name));
    }
    Ok(())
}

fn registers(operator: &mut Wire, account: &Account, prefix: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (key, register) in &account.registers {
        let stored = operator.command(&["GET", &format!("{prefix}:{key}")])?;
        let stored = match stored {
            Value::Nil => None,
            other => Some(other.text()),
        };
        let is_unknown = |value: &String| register.unknown.contains(value);
        if stored != register.acknowledged && !stored.as_ref().is_some_and(is_unknown) {
            wrong.push(format!("{key} holds {stored:?}; {register:?}"));
        }
    }
    Ok(wrong)
}

fn counters(operator: &mut Wire, account: &Account, prefix: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (key, counter) in &account.counters {
        let stored = operator.command(&["GET", &format!("{prefix}:{key}")])?;
        let number = match &stored {
            Value::Nil => 0,
            other => other
                .text()
                .parse()
                .with_context(|| format!("{key}: {other}"))?,
        };
        let range = counter.acknowledged..=counter.acknowledged + counter.unknown;
        if !range.contains(&number) {
            wrong.push(format!("{key} holds {number}; {counter:?}"));
        }
    }
    Ok(wrong)
}

fn queue(operator: &mut Wire, account: &Account, prefix: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let stored = operator.command(&["LRANGE", &format!("{prefix}:{QUEUE}"), "0", "-1"])?;
    let mut left = HashSet::new();
    for tag in stored.items().iter().map(Value::text) {
        if !account.pushed.contains(&tag) && !account.maybe_pushed.contains(&tag) {
            wrong.push(format!("the queue holds {tag}, which nobody pushed"));
        }
        if account.popped.contains(&tag) {
            wrong.push(format!("the queue holds {tag}, which was popped"));
        }
        if !left.insert(tag.clone()) {
            wrong.push(format!("the queue holds {tag} twice"));
        }
    }
    let is_gone = |tag: &&String| !left.contains(*tag) && !account.popped.contains(*tag);
    let lost: Vec<_> = account.pushed.iter().filter(is_gone).collect();
    if lost.len() > account.unknown_pops {
        let pops = account.unknown_pops;
        wrong.push(format!("the queue lost {lost:?}; {pops} pops had no reply"));
    }
    Ok(wrong)
}

fn sum(operator: &mut Wire, prefix: &str) -> Result<Vec<String>> {
    let mut sum = 0;
    for number in 0..ACCOUNTS {
        let stored = operator.command(&["GET", &format!("{prefix}:acct:{number}")])?;
        let balance = stored.text().parse::<i64>();
        sum += balance.with_context(|| format!("account {number}: {stored}"))?;
    }
    let expect = BALANCE * ACCOUNTS as i64;
    let wrong = (sum != expect).then(|| format!("the accounts hold {sum}, not {expect}"));
    Ok(wrong.into_iter().collect())
}
