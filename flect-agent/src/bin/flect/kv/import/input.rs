//! The file that is imported. It is read twice, so what comes from stdin is kept aside first.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flect_agent::dump::{Header, Summary, verify};
use rustix::fs::{Mode, OFlags};

/// Where bytes come from.
pub struct Input {
    file: File,
    bytes: u64,
    /// `None` for stdin.
    path: Option<PathBuf>,
}

impl Input {
    /// Opens the file, or takes all of stdin.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let (file, path) = if path.as_os_str() == "-" {
            (spooled().context("keeping stdin aside")?, None)
        } else {
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            (file, Some(path.to_owned()))
        };
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, path })
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "stdin".to_owned(),
        }
    }

    /// The file's path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether an interrupted import goes on: not with stdin, which is gone.
    pub fn can_go_on(&self) -> bool {
        self.path.is_some()
    }

    /// Reads all of it and checks everything that can be checked without a server.
    pub fn verify(&self, progress: impl Fn(f64)) -> anyhow::Result<(Header, Summary)> {
        let all = self.bytes.max(1) as f64;
        let read = |offset| progress(offset as f64 / all);
        Ok(verify(self.rewound()?, read)?)
    }

    /// From its beginning.
    pub fn rewound(&self) -> anyhow::Result<impl Read + use<'_>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        Ok(BufReader::with_capacity(1 << 20, file))
    }
}

/// Stdin in a file without a name, which goes when this process does.
fn spooled() -> anyhow::Result<File> {
    let folder = std::env::temp_dir();
    let file = rustix::fs::open(
        &folder,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .with_context(|| format!("no file can be made in {}; set TMPDIR", folder.display()))?;
    let mut file = File::from(file);
    std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
    Ok(file)
}
