//! The files of the package, where Debian has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools::{self, Programs};

use super::said;

/// Folders below /usr/share for `flect completions`, and what the file is called there.
const COMPLETIONS: [(&str, &str, &str); 3] = [
    ("bash", "bash-completion/completions", "flect"),
    ("zsh", "zsh/vendor-completions", "_flect"),
    ("fish", "fish/vendor_completions.d", "flect.fish"),
];

/// Fills an empty folder.
///
/// # Errors
/// When something cannot be read or written, or a program does not do what it is asked.
pub fn make(root: &Path, programs: &Programs) -> Result<()> {
    let source = tools::workspace();
    for program in [&programs.agent, &programs.flect] {
        let name = program.file_name().context("a program has a name")?;
        put(&fs::read(program)?, &root.join("usr/bin").join(name), 0o755)?;
    }
    let unit = fs::read(source.join("config/flect-agent.service"))?;
    put(
        &unit,
        &root.join("usr/lib/systemd/system/flect-agent.service"),
        0o644,
    )?;
    let sample = fs::read_to_string(source.join("config/agent.toml"))?;
    // The agent's port and nothing else would be intercepted by what the sample says: nobody has said yet which
    // Valkey and which apps there are.
    put(
        commented(&sample).as_bytes(),
        &root.join("etc/flect/agent.toml"),
        0o644,
    )?;
    let share = root.join("usr/share");
    put(
        sample.as_bytes(),
        &share.join("doc/flect/examples/agent.toml"),
        0o644,
    )?;
    put(
        &fs::read(source.join("config/oci-hook.json"))?,
        &share.join("doc/flect/examples/oci-hook.json"),
        0o644,
    )?;
    for file in [
        "flect.schema.json",
        "prometheus/flect.rules.yml",
        "grafana/flect.json",
    ] {
        let name = Path::new(file).file_name().context("a file has a name")?;
        put(
            &fs::read(source.join("config").join(file))?,
            &share.join("flect").join(name),
            0o644,
        )?;
    }
    documentation(source, &share)?;
    for (shell, folder, name) in COMPLETIONS {
        let text = said(Command::new(&programs.flect).args(["completions", shell]))?;
        put(
            format!("{text}\n").as_bytes(),
            &share.join(folder).join(name),
            0o644,
        )?;
    }
    let manual = share.join("man/man1");
    for program in [&programs.flect, &programs.agent] {
        said(Command::new(program).args(["man", "--out"]).arg(&manual))?;
    }
    for page in fs::read_dir(&manual)? {
        compress(&page?.path())?;
    }
    Ok(())
}

fn documentation(source: &Path, share: &Path) -> Result<()> {
    let folder = share.join("doc/flect");
    for name in ["README.md", "CHANGELOG.md", "THREAT-MODEL.md"] {
        put(&fs::read(source.join(name))?, &folder.join(name), 0o644)?;
    }
    for page in fs::read_dir(source.join("docs"))? {
        let page = page?;
        put(
            &fs::read(page.path())?,
            &folder.join("docs").join(page.file_name()),
            0o644,
        )?;
    }
    let licence = fs::read_to_string(source.join("LICENSE"))?;
    put(licence.as_bytes(), &folder.join("copyright"), 0o644)
}

/// The sample with every setting commented out: each key stands there with what it means, and none is set.
fn commented(sample: &str) -> String {
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        line if line.starts_with('#') => format!("{line}\n"),
        line => format!("# {line}\n"),
    };
    sample.lines().map(line).collect()
}

/// Writes a file with its folders, whatever the umask.
pub fn put(bytes: &[u8], path: &Path, mode: u32) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(writing)?;
    fs::write(path, bytes).with_context(writing)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(writing)
}

/// As Debian wants it of manuals: with gzip, without a name and a time in it.
fn compress(page: &Path) -> Result<()> {
    said(Command::new("gzip").arg("-9n").arg(page)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_set_in_a_commented_sample() {
        let sample = "# What\n[a]\nb = 1\n\n# c = 2\n";
        assert_eq!(commented(sample), "# What\n# [a]\n# b = 1\n\n# c = 2\n");
    }
}
