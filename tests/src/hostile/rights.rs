//! What the agent's users may do, asked of the server itself (ACL DRYRUN): the last defence, when the
//! rewriter is wrong.
//!
//! Invariant: a store's user may do what the table forwards, on the store's own names; nothing with another
//! name in any place of a name. What the server does not check by its rights is listed in [`UNCHECKED`].

use anyhow::{Context, Result, ensure};
use flect_agent::commands::{self, Command, Lookup, Names, Policy};
use flect_agent::resp::request::RequestScanner;
use flect_agent::rewrite;
use flect_agent::store::Prefix;

use crate::bed::Builder;
use crate::differ::step::Step;
use crate::wire::{Wire, encode};

const EXAMPLES: &[&str] = &[
    include_str!("../differ/examples/data.txt"),
    include_str!("../differ/examples/server.txt"),
];

/// What the agent's other users may do, as ACL GETUSER tells it.
const PINNED: &str = include_str!("rights.txt");

/// Names in these are no matter of the server's rights: the rewriter alone holds them.
const UNCHECKED: &[&str] = &[
    // Invalidations tell names of keys; no right is asked for PREFIX (`clientCommand` in networking.c).
    "client|tracking",
    // Counts of subscribers (`pubsubCommand` in pubsub.c).
    "pubsub|numsub",
    "pubsub|shardnumsub",
    // Whoever may subscribe may end it.
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
];

/// What the store's user may do although the table does not forward it: the agent's own requests.
/// The rest is about one connection, which nobody but the agent's workers could mean.
const AGENTS_OWN: &[&str] = &["client|id", "asking", "auth", "hello", "reset", "quit"];

/// All that a server says of them.
pub fn all(builder: Builder) -> Result<()> {
    let bed = builder.start()?;
    let (own, foreign) = (bed.prefix("store1")?, bed.prefix("app2")?);
    let mut operator = bed.operator()?;
    let mut wrong = Vec::new();
    let mut asked = 0;
    for step in EXAMPLES.iter().map(|text| Step::parse_all(text)) {
        for step in step? {
            let Some(request) = step.request() else {
                continue;
            };
            let Some(command) = known(&mut operator, &request.args)? else {
                continue;
            };
            let mut dry = Dry {
                operator: &mut operator,
                own: &own,
                foreign: &foreign,
            };
            asked += 1;
            if let Some(what) = dry.judge(command, &request.args)? {
                wrong.push(format!("{step}: {what}"));
            }
        }
    }
    for line in PINNED.lines().filter(|line| !line.starts_with('#')) {
        let (user, rights) = line.split_once(": ").context("a pinned line")?;
        let id = own.trim_matches(['{', '}']);
        let got = rights_of(&mut operator, &user.replace("ID", id))?;
        let rights = &rights.replace("ID", id);
        // `script|show` came with 8.1.
        if got != *rights && got != rights.replace(" +script|show", "") {
            wrong.push(format!("{user}: {got}"));
        }
    }
    wrong.extend(beyond_database_0(&mut operator, &own)?);
    ensure!(asked > 250, "only {asked} requests were asked about");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The command that is meant, where this server has it and would look at its names.
fn known(operator: &mut Wire, args: &[Vec<u8>]) -> Result<Option<&'static Command>> {
    let [name, rest @ ..] = args else {
        return Ok(None);
    };
    let Lookup::Known(command) = commands::lookup(name, rest.first().map(Vec::as_slice)) else {
        return Ok(None);
    };
    let info = operator.command(&["COMMAND", "INFO", command.name])?;
    let has = info
        .items()
        .first()
        .is_some_and(|it| !it.items().is_empty());
    Ok((has && command.accepts(args.len())).then_some(command))
}

/// All that the agent stores is in database 0; a server that grants databases (since 9.1) grants no other.
fn beyond_database_0(operator: &mut Wire, own: &str) -> Result<Vec<String>> {
    let grants = operator.command(&["ACL", "SETUSER", "probe", "resetdbs", "db=0"])?;
    if grants.text() != "OK" {
        return Ok(Vec::new());
    }
    let id = own.trim_matches(['{', '}']);
    let mut wrong = Vec::new();
    let helpers = ["flect.housekeeper", "flect.librarian"].map(str::to_owned);
    let users = [format!("flect.{id}"), format!("flect.{id}.sort")];
    for user in helpers.iter().chain(&users) {
        let databases = field_of(operator, user, "databases")?;
        if databases != "db=0" {
            wrong.push(format!("{user}: databases {databases}"));
        }
    }
    let (from, to) = (format!("{own}:a"), format!("{own}:b"));
    // A cluster has one database unless it is told otherwise, and a right to what there is not is nobody's.
    let has_more = operator.command(&["SELECT", "1"])?.text() == "OK";
    operator.command(&["SELECT", "0"])?;
    let databases = [("0", true), ("1", false)];
    for (database, may) in &databases[..1 + usize::from(has_more)] {
        let dry = [
            "ACL", "DRYRUN", &users[0], "COPY", &from, &to, "DB", database,
        ];
        let said = operator.command(&dry)?.text();
        if (said == "OK") != *may {
            wrong.push(format!("COPY to database {database}: {said}"));
        }
    }
    Ok(wrong)
}

fn field_of(operator: &mut Wire, user: &str, name: &str) -> Result<String> {
    let reply = operator.command(&["ACL", "GETUSER", user])?;
    let mut fields = reply.items().chunks(2);
    let found = fields.find(|pair| pair[0].text() == name);
    Ok(found.map_or_else(String::new, |pair| pair[1].text()))
}

fn rights_of(operator: &mut Wire, user: &str) -> Result<String> {
    let mut field = |name| field_of(operator, user, name);
    Ok(format!(
        "{} | keys {} | channels {} | selectors {}",
        field("commands")?,
        field("keys")?,
        field("channels")?,
        field("selectors")?
    ))
}

struct Dry<'a> {
    operator: &'a mut Wire,
    own: &'a str,
    foreign: &'a str,
}

impl Dry<'_> {
    /// What the server says wrongly of a request and its variants.
    fn judge(&mut self, command: &Command, args: &[Vec<u8>]) -> Result<Option<String>> {
        let bytes = encode(args);
        let mut scanner = RequestScanner::default();
        scanner.scan(&bytes)?;
        let request = scanner.request(&bytes);
        if commands::policy(command, &request) != Policy::Rewrite {
            let may = self.may(args)?;
            let expected = AGENTS_OWN.contains(&command.name);
            return Ok((may && !expected).then(|| "may be done as it is".to_owned()));
        }
        let namespace = Prefix::parse(self.own)?.namespace(0);
        let mut out = Vec::new();
        rewrite::request::rewrite(command, &request, &namespace, &mut out);
        let mut scanner = RequestScanner::default();
        scanner.scan(&out)?;
        let rewritten: Vec<Vec<u8>> = scanner.request(&out).args().map(<[u8]>::to_vec).collect();
        // Patterns are granted one by one, when they are subscribed to.
        let granted_later = matches!(command.names, Names::ChannelPatterns(_));
        if !granted_later && !self.may(&rewritten)? {
            return Ok(Some("may not be done with own names".to_owned()));
        }
        if UNCHECKED.contains(&command.name) {
            return Ok(None);
        }
        // One foreign name among own ones is enough; and so is one without a prefix.
        for at in 1..rewritten.len() {
            let Some(name) = rewritten[at].strip_prefix(self.own.as_bytes()) else {
                continue;
            };
            let foreign = [self.foreign.as_bytes(), name].concat();
            for name in [foreign.as_slice(), name, b"flect:{registry}:meta"] {
                let mut mixed = rewritten.clone();
                mixed[at] = name.to_vec();
                if self.may(&mixed)? {
                    let name = String::from_utf8_lossy(name);
                    return Ok(Some(format!("may be done with {name}")));
                }
            }
        }
        Ok(None)
    }

    fn may(&mut self, args: &[Vec<u8>]) -> Result<bool> {
        let user = format!("flect.{}", self.own.trim_matches(['{', '}']));
        let mut dry = vec![b"ACL".to_vec(), b"DRYRUN".to_vec(), user.into_bytes()];
        dry.extend_from_slice(args);
        Ok(self.operator.command(&dry)?.text() == "OK")
    }
}
