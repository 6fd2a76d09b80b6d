//! Debian packages without installing them: downloaded by apt with a configuration of its own, and
//! unpacked below the target folder.
//!
//! Invariant: nothing of the system changes, and nothing is trusted that the system does not
//! trust: mirrors, keys and proxies are the machine's own; only further suites of the same mirror
//! are added. Root is not needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flect_tests::tools;

use super::progress::Step;

/// One entry of the machine's package sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    uris: String,
    suites: Vec<String>,
    components: String,
    /// Further fields in deb822 form, such as `Signed-By` with a path or a whole key.
    others: String,
}

impl Source {
    fn has(&self, suite: &str) -> bool {
        self.suites.iter().any(|own| own == suite)
    }
}

/// A private apt.
pub struct Apt<'a> {
    folder: PathBuf,
    step: &'a Step,
}

impl<'a> Apt<'a> {
    /// Sets up a private apt with the machine's own release, its backports and the suites named,
    /// and fetches their package lists.
    ///
    /// # Errors
    /// When this is no Debian, or the mirror cannot be reached.
    pub fn open(step: &'a Step, suites: &[&str]) -> Result<Self> {
        Self::open_for(step, suites, "deb")
    }

    /// The same for source packages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn sources(step: &'a Step) -> Result<Self> {
        Self::open_for(step, &[], "deb-src")
    }

    fn open_for(step: &'a Step, suites: &[&str], kind: &str) -> Result<Self> {
        let name = suites.first().copied().unwrap_or("own");
        let text = sources_text(&read_sources()?, &codename()?, suites, kind)?;
        Self::with_sources(step, name, &text, "")
    }

    /// A private apt of one suite alone, which takes no package for installed: what it unpacks comes with
    /// all it needs, down to the C library, and runs where that of the machine is older.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_one_suite(step: &'a Step, suite: &str) -> Result<Self> {
        let sources = read_sources()?;
        let text = stanza(base(&sources, &codename()?)?, suite, "deb");
        Self::with_sources(step, suite, &text, "Dir::State::status \"/dev/null\";\n")
    }

    fn with_sources(step: &'a Step, name: &str, text: &str, further: &str) -> Result<Self> {
        ensure!(
            Path::new("/usr/bin/apt-get").exists(),
            "there is no apt-get on this machine"
        );
        let apt = Self {
            folder: tools::tools().join("apt").join(name),
            step,
        };
        for part in ["lists/partial", "archives/partial", "parts", "preferences"] {
            let folder = apt.folder.join(part);
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        apt.write_configuration(further)?;
        fs::write(apt.folder.join("private.sources"), text)?;
        // apt takes only a folder of deb822 files.
        let parts = apt.folder.join("parts/private.sources");
        fs::rename(apt.folder.join("private.sources"), parts)?;
        step.say("fetching package lists");
        step.run(apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    /// Downloads packages and whatever of their dependencies this machine lacks, and unpacks all
    /// into `root`. From the release where it has them, from its backports otherwise.
    ///
    /// # Errors
    /// When a package cannot be had.
    pub fn unpack_with_dependencies(&self, packages: &[&str], root: &Path) -> Result<()> {
        let fetch = |release: Option<String>| {
            let mut command = self.command("apt-get");
            command.args(["-q", "-y", "--download-only"]);
            if let Some(release) = release {
                command.args(["-t", &release]);
            }
            self.step.run(command.arg("install").args(packages))
        };
        if let Err(first) = fetch(None) {
            // Packages that are installed from backports may need the others from there as well.
            let backports = format!("{}-backports", codename()?);
            fetch(Some(backports)).map_err(|_| first)?;
        }
        self.unpack_archives(root)
    }

    /// Downloads packages alone, without dependencies, and unpacks them into `root`.
    ///
    /// # Errors
    /// When a package cannot be had.
    pub fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        command.current_dir(self.folder.join("archives"));
        self.step
            .run(command.args(["-q", "download"]).args(packages))?;
        self.unpack_archives(root)
    }

    /// Downloads the source package of an upstream release and unpacks one folder of it into `root`.
    ///
    /// # Errors
    /// When there is no such source package, or tar fails.
    pub fn unpack_source(
        &self,
        package: &str,
        upstream: &str,
        folder: &str,
        root: &Path,
    ) -> Result<()> {
        let all = self
            .step
            .run(self.command("apt-cache").args(["madison", package]))?;
        let version = all
            .lines()
            .filter_map(|line| line.split('|').nth(1).map(str::trim))
            .find(|version| version.starts_with(upstream))
            .with_context(|| format!("the mirror has no source of {package} {upstream}"))?;
        let archives = self.folder.join("archives");
        let mut command = self.command("apt-get");
        command.current_dir(&archives);
        self.step.run(
            command
                .args(["-q", "source", "--download-only"])
                .arg(format!("{package}={version}")),
        )?;
        let archive = fs::read_dir(&archives)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains(".orig.tar"))
            .context("the source package has no .orig.tar")?;
        fs::create_dir_all(root)?;
        // The folder's name stands behind one of the release's own.
        self.step.run(
            Command::new("tar")
                .arg("-xf")
                .arg(&archive)
                .arg("-C")
                .arg(root)
                .args(["--strip-components=1", "--wildcards"])
                .arg(format!("*/{folder}")),
        )?;
        Ok(())
    }

    /// The names of packages that match a regular expression.
    ///
    /// # Errors
    /// When apt-cache fails.
    pub fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        let found = self
            .step
            .run(command.args(["search", "--names-only", pattern]))?;
        let names = found.lines().filter_map(|line| line.split_once(" - "));
        Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn write_configuration(&self, further: &str) -> Result<()> {
        // Proxies and the like: what the machine's own apt uses to reach its mirror.
        let acquire = Command::new("apt-config").args(["dump"]).output()?;
        let acquire = String::from_utf8_lossy(&acquire.stdout).into_owned();
        let acquire: Vec<_> = acquire
            .lines()
            .filter(|line| line.starts_with("Acquire::"))
            .collect();
        let at = self.folder.display();
        let text = format!(
            "Dir::Etc::parts \"{at}/none\";\n\
             Dir::Etc::main \"{at}/none\";\n\
             Dir::Etc::sourcelist \"{at}/none\";\n\
             Dir::Etc::sourceparts \"{at}/parts\";\n\
             Dir::Etc::preferences \"{at}/none\";\n\
             Dir::Etc::preferencesparts \"{at}/preferences\";\n\
             Dir::State::lists \"{at}/lists\";\n\
             Dir::State::extended_states \"{at}/extended_states\";\n\
             Dir::Cache \"{at}\";\n\
             Dir::Cache::archives \"{at}/archives\";\n\
             Dir::Log \"{at}\";\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\n\
             Debug::NoLocking \"true\";\n\
             Acquire::Languages \"none\";\n\
             {further}{}\n",
            acquire.join("\n")
        );
        fs::write(self.folder.join("apt.conf"), text)?;
        fs::create_dir_all(self.folder.join("none"))?;
        Ok(())
    }

    fn unpack_archives(&self, root: &Path) -> Result<()> {
        fs::create_dir_all(root)?;
        let archives = self.folder.join("archives");
        let mut count = 0_usize;
        for entry in fs::read_dir(&archives)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                self.step.say(format!("unpacking {}", path.display()));
                self.step
                    .run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(root))?;
                fs::remove_file(&path)?;
                count += 1;
            }
        }
        ensure!(count > 0, "apt-get downloaded nothing");
        Ok(())
    }
}

impl Drop for Apt<'_> {
    fn drop(&mut self) {
        // Package lists are large and soon out of date.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The release's name, such as `bookworm`.
///
/// # Errors
/// When the machine does not tell.
pub fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME")
}

fn read_sources() -> Result<Vec<Source>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => all.extend(parse_deb822(&text)),
            Some("list") => all.extend(text.lines().filter_map(parse_line)),
            _ => {}
        }
    }
    Ok(all)
}

/// sources.list(5), 'deb822-style format'.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut all = Vec::new();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let mut source = Source::default();
        let mut binary = false;
        let mut enabled = true;
        let mut other = false;
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                if other {
                    source.others.push_str(line);
                    source.others.push('\n');
                }
                continue;
            }
            let Some((field, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            other = false;
            match field.to_ascii_lowercase().as_str() {
                "types" => binary = value.split_whitespace().any(|kind| kind == "deb"),
                "uris" => source.uris = value.to_owned(),
                "suites" => source.suites = value.split_whitespace().map(str::to_owned).collect(),
                "components" => source.components = value.to_owned(),
                "enabled" => enabled = !value.eq_ignore_ascii_case("no"),
                _ => {
                    other = true;
                    source.others.push_str(line);
                    source.others.push('\n');
                }
            }
        }
        if binary && enabled {
            all.push(source);
        }
    }
    all
}

/// sources.list(5), 'one-line-style format'.
fn parse_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uris, suite) = (words.next()?, words.next()?);
    let mut source = Source {
        uris: uris.to_owned(),
        suites: vec![suite.to_owned()],
        components: words.collect::<Vec<_>>().join(" "),
        others: String::new(),
    };
    for (name, value) in options.split_whitespace().filter_map(|o| o.split_once('=')) {
        let field = match name {
            "signed-by" => "Signed-By",
            "trusted" => "Trusted",
            "arch" => "Architectures",
            _ => continue,
        };
        source
            .others
            .push_str(&format!("{field}: {}\n", value.replace(',', " ")));
    }
    Some(source)
}

/// The private sources: the machine's own of this release, its backports, and the further suites
/// from the same mirror (security suites from the machine's mirror for those).
fn sources_text(
    sources: &[Source],
    codename: &str,
    further: &[&str],
    kind: &str,
) -> Result<String> {
    let security = format!("{codename}-security");
    let base = base(sources, codename)?;
    let mut wanted = Vec::new();
    let own = [codename, "stable", "testing", "unstable", "sid"];
    for source in sources {
        for suite in &source.suites {
            let of_release = suite.starts_with(codename) || own.contains(&suite.as_str());
            if of_release && !wanted.iter().any(|(_, s)| s == suite) {
                wanted.push((source, suite.clone()));
            }
        }
    }
    let backports = format!("{codename}-backports");
    for suite in further.iter().copied().chain([backports.as_str()]) {
        if wanted.iter().any(|(_, s)| s == suite) {
            continue;
        }
        if suite.ends_with("-security") {
            if let Some(source) = sources.iter().find(|source| source.has(&security)) {
                wanted.push((source, suite.to_owned()));
            }
        } else {
            wanted.push((base, suite.to_owned()));
        }
    }
    let stanzas = wanted
        .iter()
        .map(|(source, suite)| stanza(source, suite, kind));
    Ok(stanzas.collect::<Vec<_>>().join("\n"))
}

/// The machine's own source of its release.
fn base<'a>(sources: &'a [Source], codename: &str) -> Result<&'a Source> {
    let names = [codename, "stable", "testing", "unstable", "sid"];
    let is_base = |source: &&Source| {
        let mut components = source.components.split(' ');
        names.iter().any(|name| source.has(name)) && components.any(|one| one == "main")
    };
    sources.iter().find(is_base).with_context(|| {
        format!("the package sources in /etc/apt name no {codename} with the component main")
    })
}

/// A suite of a source's mirror.
fn stanza(source: &Source, suite: &str, kind: &str) -> String {
    format!(
        "Types: {kind}\nURIs: {}\nSuites: {suite}\nComponents: {}\n{}",
        source.uris, source.components, source.others
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_the_same_source() {
        let deb822 = parse_deb822(
            "# a comment\nTypes: deb deb-src\nURIs: mirror://m/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\nSigned-By: /k.gpg\n\nEnabled: no\nTypes: deb\nURIs: x\nSuites: y\n",
        );
        let line = parse_line("deb [signed-by=/k.gpg] mirror://m/debian bookworm main").unwrap();
        assert_eq!(deb822.len(), 1);
        assert_eq!(deb822[0].uris, line.uris);
        assert_eq!(deb822[0].components, line.components);
        assert_eq!(deb822[0].others, line.others);
        assert_eq!(deb822[0].suites, ["bookworm", "bookworm-updates"]);
        for other in ["# deb a b c", "deb-src a b c", "", "deb"] {
            assert_eq!(parse_line(other), None, "{other}");
        }
    }

    #[test]
    fn a_key_in_the_stanza_stays_whole() {
        let text =
            "Types: deb\nURIs: u\nSuites: s\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n";
        assert_eq!(
            parse_deb822(text)[0].others,
            "Signed-By:\n -----BEGIN\n .\n abc\n"
        );
    }

    #[test]
    fn further_suites_come_from_the_machines_own_mirrors() {
        let sources = [
            parse_line("deb a bookworm main").unwrap(),
            parse_line("deb b bookworm-security main").unwrap(),
            parse_line("deb c nodistro main").unwrap(),
        ];
        let text = sources_text(
            &sources,
            "bookworm",
            &["trixie-backports", "bookworm-security"],
            "deb",
        )
        .unwrap();
        let pairs: Vec<_> = text
            .split("\n\n")
            .flat_map(|stanza| stanza.split("Types: deb\n"))
            .filter(|stanza| !stanza.is_empty())
            .map(|stanza| stanza.lines().take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            pairs,
            [
                "URIs: a Suites: bookworm",
                "URIs: b Suites: bookworm-security",
                "URIs: a Suites: trixie-backports",
                "URIs: a Suites: bookworm-backports",
            ]
        );
        assert!(sources_text(&sources, "trixie", &[], "deb").is_err());
    }
}
