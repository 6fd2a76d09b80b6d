//! `flect kv import --from`: a database without prefixes, as apps had it before.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::stage::{Stage, ensure_equal};
use crate::bed::ports::{self, Reserved};
use crate::bed::{Bed, Builder};
use crate::upstream::certificates::{Authority, Pair};

/// Copies a plain server's database: by the values' encoding, and type by type.
pub fn plain_server(stage: &Stage) -> Result<()> {
    let secured = Secured::new()?;
    let plain = secured
        .options(Bed::builder())
        .direct(true)
        .valkey_option("--requirepass", "sesame")
        .start()?;
    let mut operator = plain.operator()?;
    operator.command(&["AUTH", "sesame"])?;
    operator.command(&["SELECT", "2"])?;
    let lines = "SET string value PXAT 4102444800123\nSET session:1 a\nRPUSH list a b c\nSADD set a b c\n\
        HSET hash f v g w\nZADD zset 1.5 a -inf b 3 c\nXADD stream 1-1 f v\nXADD stream 2-1 f w\n\
        XDEL stream 1-1\nXGROUP CREATE stream g 0\nPFADD hll a b\nXADD gone 5-1 a b\nXDEL gone 5-1";
    for line in lines.lines() {
        operator.command(&line.split(' ').collect::<Vec<_>>())?;
    }
    let url = format!("redis://{}/2", plain.address());
    let said = stage.fails(&["kv", "import", "legacy", "--from", &url, "--create"], 3)?;
    ensure!(!said.contains("sesame"), "{said}");
    let password = stage.bed.folder().join("password");
    std::fs::write(&password, "sesame\n")?;
    let import = |store: &str, more: &[&str]| -> Result<()> {
        let mut args = vec!["kv", "import", store, "--from", &url, "--create"];
        let path = password.to_string_lossy();
        args.extend(["--from-password-file", &path]);
        args.extend(more);
        stage.flect(&args).map(drop)
    };
    import("legacy", &[])?;
    import("anew", &["--by-type"])?;
    import("some", &["--match", "session:*", "--to-database", "4"])?;
    // The same over TLS, where the server has to prove itself.
    let encrypted = secured.url();
    let over_tls = |more: &[&str]| -> Vec<String> {
        let words = ["kv", "import", "secured", "--from", &encrypted, "--create"];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.push("--from-password-file".to_owned());
        words.push(password.display().to_string());
        words.extend(secured.own());
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    };
    let said = stage.fails(&borrowed(&over_tls(&[])), 3)?;
    ensure!(said.contains("UnknownIssuer"), "{said}");
    let ca = secured.ca();
    let said = stage.fails(
        &borrowed(&over_tls(&["--tls-ca", &ca, "--tls-server-name", "other"])),
        3,
    )?;
    ensure!(said.contains("not valid for name"), "{said}");
    stage.flect(&borrowed(&over_tls(&["--tls-ca", &ca])))?;
    ensure_equal(
        &stage.keys(&stage.prefix("legacy")?)?,
        &stage.keys(&stage.prefix("secured")?)?,
    )?;
    let legacy = stage.keys(&stage.prefix("legacy")?)?;
    ensure!(legacy.len() == 9, "{} keys", legacy.len());
    let (legacy_prefix, anew_prefix) = (stage.prefix("legacy")?, stage.prefix("anew")?);
    // A stream that is written anew has no holes where entries were deleted: what it says is the same.
    let mut anew = stage.keys(&anew_prefix)?;
    for (name, value) in &legacy {
        if value.0 == "stream" {
            let name = String::from_utf8_lossy(name);
            for question in ["XRANGE KEY - +", "XINFO GROUPS KEY", "XLEN KEY"] {
                let ask = |prefix: &str| -> Result<String> {
                    let line = question.replace("KEY", &format!("{prefix}{name}"));
                    let words: Vec<&str> = line.split(' ').collect();
                    Ok(stage.operator()?.command(&words)?.to_string())
                };
                let (left, right) = (ask(&legacy_prefix)?, ask(&anew_prefix)?);
                ensure!(left == right, "{name}: {question}: {left} or {right}");
            }
            let other = anew
                .get_mut(name.as_bytes())
                .context("a stream is missing")?;
            other.1.clone_from(&value.1);
        }
    }
    ensure_equal(&legacy, &anew)?;
    let some = stage.names(&stage.prefix("some")?)?;
    ensure!(some == [b"/4:session:1".to_vec()], "{some:?}");

    // The variable does as well, and a wrong password says so without repeating it.
    let mut command = stage.command(&["kv", "import", "more", "--from", &url, "--create"]);
    ensure!(
        command
            .env("FLECT_FROM_PASSWORD", "sesame")
            .status()?
            .success(),
        "the variable"
    );
    let again = ["kv", "import", "legacy", "--from", &url, "--on-conflict"];
    let mut command = stage.command(&again);
    let output = command
        .args(["skip", "--json"])
        .env("FLECT_FROM_PASSWORD", "sesame")
        .output()?;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        shown["keys_skipped"] == 9 && shown["keys_written"] == 0,
        "{shown}"
    );
    Ok(())
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Certificates of an authority that the system does not know, for a server's second port.
struct Secured {
    files: TempDir,
    port: Reserved,
    server: Pair,
    own: Pair,
}

impl Secured {
    fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let authority = Authority::new("a trial's")?;
        authority.write(&files.path().join("ca.crt"))?;
        Ok(Self {
            server: authority.sign(files.path(), "server", &["127.0.0.1"])?,
            own: authority.sign(files.path(), "client", &["flect"])?,
            port: ports::reserve()?,
            files,
        })
    }

    fn ca(&self) -> String {
        self.files.path().join("ca.crt").display().to_string()
    }

    fn options(&self, builder: Builder) -> Builder {
        let shown = |path: &Path| path.display().to_string();
        builder
            .valkey_option("--tls-port", &self.port.number().to_string())
            .valkey_option("--tls-cert-file", &shown(&self.server.certificate))
            .valkey_option("--tls-key-file", &shown(&self.server.key))
            .valkey_option("--tls-ca-cert-file", &self.ca())
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}/2", self.port.number())
    }

    /// What a client shows of itself.
    fn own(&self) -> [String; 4] {
        [
            "--tls-certificate".to_owned(),
            self.own.certificate.display().to_string(),
            "--tls-key".to_owned(),
            self.own.key.display().to_string(),
        ]
    }
}
