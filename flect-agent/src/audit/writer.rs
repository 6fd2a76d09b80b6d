//! The thread that writes the audit log.
//!
//! Invariant: whoever has a line gives it away without waiting; when the disk is slower than the events,
//! lines are dropped, and how many is told.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use super::Line;

/// Lines that may wait for the disk, with some hundred bytes each.
const WAITING_MAX: usize = 4096;

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("agent.audit.file: cannot open {path}: {cause}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others may read or write it.
    #[error(
        "agent.audit.file: {path}: others than its owner may use it (mode {mode:o}); run: chmod 600 {path}"
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No thread.
    #[error("no thread for the audit log: {0}")]
    Thread(std::io::Error),
}

/// Where lines go.
#[derive(Debug)]
pub enum Target {
    /// The agent's log, with the target `audit`.
    Log,
    /// A file of its own.
    File(File),
}

impl Target {
    /// A file, made if it is missing; only its owner may use it.
    ///
    /// # Errors
    /// When it cannot be opened, or others may use it.
    pub fn file(path: &Path) -> Result<Self, AuditError> {
        let open = |cause| AuditError::Open {
            path: path.to_owned(),
            cause,
        };
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            // A link could lead the agent, which may be root, to any file.
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)
            .map_err(open)?;
        let mode = file.metadata().map_err(open)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AuditError::Readable {
                path: path.to_owned(),
                mode,
            });
        }
        Ok(Self::File(file))
    }
}

/// What the thread is told.
pub(super) enum Job {
    /// Write this.
    Line(Line),
    /// Say when everything before is written.
    Flush(mpsc::SyncSender<()>),
}

/// The way to the thread.
pub(super) struct Writer {
    jobs: mpsc::SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(target: Target) -> Result<Self, AuditError> {
        let (jobs, due) = mpsc::sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write(target, &due, &counted))
            .map_err(AuditError::Thread)?;
        Ok(Self { jobs, dropped })
    }

    pub(super) fn send(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn flush(&self, within: Duration) {
        let (done, waited) = mpsc::sync_channel(1);
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            // Either way the process goes on ending.
            let _ = waited.recv_timeout(within);
        }
    }
}

fn write(mut target: Target, due: &mpsc::Receiver<Job>, dropped: &AtomicU64) {
    let mut broken = false;
    while let Ok(job) = due.recv() {
        let line = match job {
            Job::Line(line) => line,
            Job::Flush(done) => {
                // Nobody waits any more where the time was up.
                let _ = done.send(());
                continue;
            }
        };
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::error!(target: "audit", count, "lines of the audit log were dropped: they could not be written as fast as they came");
        }
        let Ok(mut text) = serde_json::to_string(&line) else {
            continue;
        };
        match &mut target {
            Target::Log => tracing::info!(target: "audit", "{text}"),
            Target::File(file) => {
                text.push('\n');
                match file.write_all(text.as_bytes()) {
                    Ok(()) => broken = false,
                    // Told once, or the log would fill with it; the lines are not lost.
                    Err(error) => {
                        if !broken {
                            tracing::error!(%error, "the audit log cannot be written; its lines are here meanwhile");
                        }
                        broken = true;
                        tracing::warn!(target: "audit", "{}", text.trim_end());
                    }
                }
            }
        }
    }
}

/// The time now: RFC 3339, UTC, with milliseconds.
pub(super) fn now() -> String {
    // A clock before 1970 shows as 1970.
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    text(since)
}

/// Days become dates by the proleptic Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`).
fn text(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
            (1_795_488_435, "2026-11-24T02:47:15.007Z"),
        ] {
            let since = Duration::from_secs(seconds) + Duration::from_millis(7);
            assert_eq!(text(since), expected);
        }
    }

    #[test]
    fn a_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        Target::file(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Target::file(&path),
            Err(AuditError::Readable { mode: 0o640, .. })
        ));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Target::file(&link), Err(AuditError::Open { .. })));
    }
}
