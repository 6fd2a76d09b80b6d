//! `flect kv import`: a file, or another server's database, into a store.

mod input;
mod live;
mod place;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use flect_agent::config::Tls;
use flect_agent::dump::{Header, Part, Reader, Summary};
use flect_agent::reach::Link;
use flect_agent::registry::{Limits, Record};
use flect_agent::store::Slug;
use flect_agent::transfer::{Conflict, Restored, Restorer, connect_as, is_empty};
use serde_json::json;

use super::rate::{Rate, paces, rate};
use crate::Global;
use crate::failure::Failure;
use crate::operator::{Operator, block_on, slug};
use crate::output::size;
use crate::progress::{Progress, keys};
use input::Input;
use place::Place;

/// The arguments of `flect kv import`.
#[derive(clap::Args)]
#[command(after_long_help = "\
A file is read twice: first all its checksums are verified, then it is written into the store.
An interrupted import of a file goes on with the same command.

With --from, the keys of an ordinary Redis or Valkey database are copied while it is in use,
each with its expiry. It is not a copy of one instant and nothing follows later changes: stop
the app, import, start the app with its store. Values of a newer server are written anew type
by type; expiries of single hash fields and unacknowledged entries of streams are lost then.
An interrupted import goes on with --on-conflict skip or replace.

The other server's password is taken from FLECT_FROM_PASSWORD or --from-password-file. One in
the URL works, and can be seen in the list of processes.")]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// The file, or - for stdin
    #[arg(required_unless_present = "from")]
    file: Option<PathBuf>,
    /// Copy another server's database instead: redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// with TLS
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    from: Option<String>,
    /// A file that holds the other server's password and nothing else
    #[arg(long, value_name = "FILE", requires = "from")]
    from_password_file: Option<PathBuf>,
    #[command(flatten)]
    tls: FromTls,
    /// Copy only keys that match, such as 'session:*'
    #[arg(long = "match", value_name = "PATTERN", requires = "from")]
    pattern: Option<String>,
    /// The store's database that keys are copied into
    #[arg(long, value_name = "N", requires = "from", default_value_t = 0)]
    to_database: u32,
    /// Write every value anew type by type, as is done for values of a newer server
    #[arg(long, requires = "from")]
    by_type: bool,
    /// Only verify the file; nothing is written, no Valkey is needed
    #[arg(long, conflicts_with = "from")]
    check: bool,
    /// What happens when the store has keys already: fail before anything is written, skip keys that
    /// are there, or replace them
    #[arg(long, value_enum, default_value_t = OnConflict::Fail, value_name = "POLICY")]
    on_conflict: OnConflict,
    /// Make the store if it is not there; apps can use it when it is complete
    #[arg(long)]
    create: bool,
    /// Keys per second (5000) or bytes per second (20mb), at most
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
}

/// How the other server is told from others, with `rediss://`.
#[derive(clap::Args)]
struct FromTls {
    /// The authorities that may have signed its certificate, a PEM file [default: the system's]
    #[arg(long, value_name = "FILE", requires = "from")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show it, a PEM file
    #[arg(long, value_name = "FILE", requires = "from", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// That certificate's key, a PEM file that not everybody may read
    #[arg(
        long,
        value_name = "FILE",
        requires = "from",
        requires = "tls_certificate"
    )]
    tls_key: Option<PathBuf>,
    /// The name that its certificate must have [default: the host of the URL]
    #[arg(long, value_name = "NAME", requires = "from")]
    tls_server_name: Option<String>,
}

impl FromTls {
    fn to_config(&self) -> Tls {
        Tls {
            ca: self.tls_ca.clone(),
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
            server_name: self.tls_server_name.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnConflict {
    Fail,
    Skip,
    Replace,
}

/// Where the record of a store that is being filled says what with.
const FILLED_BY: &str = "filled_by";

/// Verifies and writes.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    match (&args.file, &args.from) {
        (Some(path), _) => from_file(global, args, Input::open(path)?),
        (None, Some(from)) => live::run(global, args, from),
        (None, None) => bail!("name a file, or another server with --from"),
    }
}

fn from_file(global: &Global, args: &Args, input: Input) -> anyhow::Result<ExitCode> {
    let bar = Progress::new("verifying");
    let (header, summary) = input
        .verify(|fraction| bar.set(fraction, String::new()))
        .with_context(|| format!("{}: nothing was imported", input.name()))?;
    bar.finish();
    if args.check {
        return checked(global, &input, &header, &summary);
    }
    block_on(async {
        let mut target = Target::open(global, args).await?;
        let place = Place::find(&input, &summary, target.record.prefix.as_str());
        let begun = place.as_ref().is_some_and(Place::begun);
        if !begun {
            target.refuse_conflicts(args).await?;
        }
        let mut restorer = target.restorer(args).await?;
        let writing = write(&input, &summary, place, &mut restorer, args.rate);
        let written = tokio::select! {
            result = writing => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        let restored = restorer.restored();
        written.with_context(|| {
            let again = if input.can_go_on() {
                "the same command goes on"
            } else {
                "--on-conflict replace goes over it again"
            };
            format!("{} written so far; {again}", keys(restored.keys))
        })?;
        target.complete().await?;
        report(global, args, &restored, begun, &input.name())
    })
}

async fn write(
    input: &Input,
    summary: &Summary,
    mut place: Option<Place>,
    restorer: &mut Restorer<Link>,
    rate: Option<Rate>,
) -> anyhow::Result<()> {
    let bar = Progress::new("importing");
    let mut paces = paces(rate);
    let mut reader = Reader::begin(input.rewound()?)?;
    let mut number = 0;
    if let Some(place) = &mut place {
        // Before the first key: half a chunk that is written belongs to this import as well.
        place.keep(place.chunks())?;
    }
    while let Part::Chunk(chunk) = reader.part()? {
        number += 1;
        if place.as_ref().is_some_and(|place| number <= place.chunks()) {
            continue;
        }
        let before = restorer.restored();
        restorer.write(&chunk.records).await?;
        let after = restorer.restored();
        if let Some(place) = &mut place {
            place.keep(number)?;
        }
        let done = format!("{}, {}", keys(after.keys), size(after.bytes));
        bar.set(number as f64 / summary.chunks.max(1) as f64, done);
        let written = after.keys + after.skipped - before.keys - before.skipped;
        paces.keys.done(written).await;
        paces.bytes.done(after.bytes - before.bytes).await;
    }
    if let Some(place) = place {
        place.forget();
    }
    Ok(())
}

fn checked(
    global: &Global,
    input: &Input,
    header: &Header,
    summary: &Summary,
) -> anyhow::Result<ExitCode> {
    let shown = json!({
        "file": input.name(),
        "header": header,
        "keys": summary.records,
        "valid": true,
    });
    crate::output::print(global.json, &shown, |_| {
        format!(
            "{} is whole: {} of store {} of environment {}, from {}",
            input.name(),
            keys(summary.records),
            header.store,
            header.environment,
            header.server
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn report(
    global: &Global,
    args: &Args,
    restored: &Restored,
    resumed: bool,
    from: &str,
) -> anyhow::Result<ExitCode> {
    let shown = json!({
        "name": args.name,
        "from": from,
        "keys_written": restored.keys,
        "keys_skipped": restored.skipped,
        "value_bytes": restored.bytes,
        "resumed": resumed,
    });
    crate::output::print(global.json, &shown, |_| {
        let skipped = match restored.skipped {
            0 => String::new(),
            skipped => format!(", {} were there already", keys(skipped)),
        };
        let again = if resumed { " (the rest)" } else { "" };
        format!(
            "imported {from} into {}{again}: {}{skipped}",
            args.name,
            keys(restored.keys)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The store that is written.
struct Target {
    operator: Operator,
    name: Slug,
    record: Record,
}

impl Target {
    async fn open(global: &Global, args: &Args) -> anyhow::Result<Self> {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let (name, record) = match snapshot.get(&args.name) {
            Ok((name, record)) => (name.clone(), record.clone()),
            Err(_) if args.create => {
                let made = |prefix| {
                    let mut record = Record::new(prefix, Limits::default());
                    record.filling = true;
                    record.other.insert(FILLED_BY.to_owned(), json!("import"));
                    record
                };
                let registry = operator.admin.registry();
                (
                    args.name.clone(),
                    registry.create_as(&args.name, made).await?,
                )
            }
            Err(error) => {
                let error = anyhow::anyhow!(
                    "{error}; make it with: flect kv create {}, or add --create",
                    args.name
                );
                return Err(error.context(Failure::NotFound));
            }
        };
        if record.filling && !(args.create && record.other.contains_key(FILLED_BY)) {
            bail!("store {name} is being filled by another command");
        }
        Ok(Self {
            operator,
            name,
            record,
        })
    }

    /// The default policy: a store with keys in it is not written to.
    async fn refuse_conflicts(&self, args: &Args) -> anyhow::Result<()> {
        let mut connection = self.operator.admin.connection();
        if args.on_conflict == OnConflict::Fail
            && !is_empty(&mut connection, &self.record.prefix).await?
        {
            bail!(
                "store {} has keys; nothing was written; --on-conflict skip keeps them, --on-conflict replace overwrites those of the same names",
                self.name
            );
        }
        Ok(())
    }

    /// Writes as the store's own user.
    async fn restorer(&mut self, args: &Args) -> anyhow::Result<Restorer<Link>> {
        let admin = &mut self.operator.admin;
        let store = admin.store(0, &self.name, &self.record).await?;
        let connection = connect_as(&self.operator.valkey, &store.credentials).await?;
        let conflict = match args.on_conflict {
            OnConflict::Skip => Conflict::Skip,
            // The store was empty: what is there now is this import's own.
            OnConflict::Fail | OnConflict::Replace => Conflict::Replace,
        };
        Ok(Restorer::new(
            connection,
            self.record.prefix.clone(),
            conflict,
        ))
    }

    /// Apps may use it from now on.
    async fn complete(&mut self) -> anyhow::Result<()> {
        if self.record.filling {
            let complete = |record: &mut Record| {
                record.filling = false;
                record.other.remove(FILLED_BY);
            };
            let registry = self.operator.admin.registry();
            registry.change(&self.name, complete).await?;
        }
        Ok(())
    }
}
