//! `flect kv export`: a store into a file.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use flect_agent::dump::{Header, Part, Reader, Writer};
use flect_agent::store::Slug;
use flect_agent::transfer::{Exported, Place, export, header};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::rate::{Rate, paces, rate};
use crate::Global;
use crate::operator::{Operator, block_on, slug};
use crate::output::size;
use crate::progress::{Progress, keys};

/// The arguments of `flect kv export`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The file holds every key with its value, database and expiry, and checksums;
docs/export-format.md describes it. It is written beside its final name (FILE.part, readable
by you alone) and renamed when it is complete; interrupted, the same command goes on.

It is not a copy of one instant: a key is written as it is when its turn comes. Memory is
bounded by the largest single value, which Valkey's DUMP gives whole.")]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// The file, or - for stdout [default: NAME.flectkv]
    file: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Keys per second (5000) or bytes per second (20mb), at most
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
}

/// Writes the file.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let path = args
        .file
        .clone()
        .unwrap_or_else(|| format!("{}.flectkv", args.name).into());
    let to_stdout = path.as_os_str() == "-";
    if to_stdout && std::io::stdout().is_terminal() {
        bail!("the file is not for a terminal; name one, or send stdout into one");
    }
    if !to_stdout && path.exists() && !args.force {
        bail!("{} is there already; --force replaces it", path.display());
    }
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let (name, record) = snapshot.get(&args.name)?;
        let mut connection = operator.admin.connection();
        let facts = operator.admin.facts().clone();
        let environment = &operator.environment;
        let header = header(&mut connection, &facts, environment, name, &record.prefix).await?;
        let bar = Progress::new("exporting");
        let mut paces = paces(args.rate);
        let mut last = Exported::default();
        let progress = |exported: Exported| {
            last = exported;
            let done = format!("{}, {}", keys(exported.keys), size(exported.bytes));
            bar.set(exported.fraction, done);
        };
        if to_stdout {
            let writer = Writer::begin(BufWriter::new(std::io::stdout()), &header)?;
            let place = Place::Cursor(0);
            let exporting = export(
                &mut connection,
                &record.prefix,
                place,
                writer,
                &mut paces,
                progress,
            );
            exporting.await?.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        let part = PartFile::open(&path, header)?;
        let resumed = part.resumed;
        let place = part.place;
        let exporting = export(
            &mut connection,
            &record.prefix,
            place,
            part.writer,
            &mut paces,
            progress,
        );
        let go_on = format!(
            "{} is not complete; the same command goes on",
            part.path.display()
        );
        let file = tokio::select! {
            result = exporting => result.context(go_on)?,
            // The writer is dropped here, which writes what it has buffered.
            _ = tokio::signal::ctrl_c() => bail!("interrupted; {go_on}"),
        };
        let file = file.into_inner().context("writing the last bytes")?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        std::fs::rename(&part.path, &path)
            .with_context(|| format!("renaming {}", part.path.display()))?;
        bar.finish();
        // Read again what the end of the file says: the count includes what was there before.
        let records = last.keys.max(part.records);
        let shown = json!({
            "name": name,
            "file": path,
            "keys": records,
            "file_bytes": bytes,
            "resumed": resumed,
        });
        crate::output::print(global.json, &shown, |_| {
            let written = format!("{}, {}", keys(records), size(bytes));
            format!("exported {name} to {}: {written}", path.display())
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The file while it is being written.
struct PartFile {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
    place: Place,
    resumed: bool,
    /// Records that were there already.
    records: u64,
}

impl PartFile {
    /// Goes on behind the last whole chunk of an interrupted export, or begins anew.
    fn open(path: &Path, header: Header) -> anyhow::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another export is writing {}", path.display()))?;
        let found = Found::of(&file, &header);
        let (writer, place) = match &found {
            Some(found) => {
                file.set_len(found.offset)?;
                file.seek(SeekFrom::Start(found.offset))?;
                let out = BufWriter::new(file);
                let (records, chunks, digest) = found.so_far.clone();
                (Writer::resume(out, digest, records, chunks), found.place)
            }
            None => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                (
                    Writer::begin(BufWriter::new(file), &header)?,
                    Place::Cursor(0),
                )
            }
        };
        Ok(Self {
            path,
            writer,
            place,
            resumed: found.is_some(),
            records: found.map_or(0, |found| found.so_far.0),
        })
    }
}

/// What an interrupted export has left.
struct Found {
    offset: u64,
    place: Place,
    so_far: (u64, u64, sha2::Sha256),
}

impl Found {
    /// `None` when there is nothing to go on with: no file, or another store, or another server
    /// process, in which the cursor means nothing.
    fn of(file: &File, header: &Header) -> Option<Self> {
        let mut reader = Reader::begin(std::io::BufReader::new(file)).ok()?;
        let other = reader.header();
        if other.prefix != header.prefix || other.run_id != header.run_id {
            return None;
        }
        let mut found = None;
        loop {
            match reader.part() {
                Ok(Part::Chunk(chunk)) => {
                    found = Some(Self {
                        offset: reader.offset(),
                        place: if chunk.last {
                            Place::Over
                        } else {
                            Place::Cursor(chunk.cursor)
                        },
                        so_far: reader.so_far(),
                    });
                }
                // Its end is written again: it is the same.
                Ok(Part::End(_)) | Err(_) => return found,
            }
        }
    }
}
