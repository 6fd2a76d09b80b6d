//! `flect kv clone`, `export` and `import`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};

use flect_agent::scripts::Library;
use flect_agent::store::Prefix;

use super::stage::{Stage, ensure_equal};

/// A copy has the same keys, values and expiries, in all databases.
pub fn clone_is_equal(stage: &Stage) -> Result<()> {
    let from = stage.create("store")?;
    stage.fill(&from)?;
    stage.flect(&["kv", "set", "store", "--max-memory", "1gb"])?;
    let text = "#!lua name=lib\nserver.register_function('put', function(keys) return server.call('SET', keys[1], 'by lib') end)";
    let library = Library::parse(text.as_bytes()).map_err(anyhow::Error::msg)?;
    let prefix = Prefix::parse(&from).context("a prefix")?;
    let mut operator = stage.operator()?;
    let server_text = library.server_text(&prefix, 16);
    let words = [b"FUNCTION".as_slice(), b"LOAD", &server_text];
    let loaded = operator.command(&words)?.text();
    ensure!(!loaded.starts_with('-'), "{loaded}");
    stage.flect(&["kv", "clone", "store", "copy"])?;
    let to = stage.prefix("copy")?;
    let id = to.trim_matches(['{', '}']);
    let (function, key, namespace) = (
        format!("flect_{id}_put"),
        format!("{to}:k"),
        format!("{to}:"),
    );
    let said = operator.command(&["FCALL", &function, "1", &key, &namespace])?;
    ensure!(said.text() == "OK", "{said}");
    let said = operator.command(&["GETDEL", &key])?;
    ensure!(said.text() == "by lib", "{said}");
    ensure_equal(&stage.keys(&from)?, &stage.keys(&stage.prefix("copy")?)?)?;
    let shown = stage.json(&["kv", "show", "copy"])?;
    ensure!(shown["filling"] == false, "{shown}");
    ensure!(shown["limits"]["memory_bytes"] == 1_u64 << 30, "{shown}");
    let said = stage.fails(&["kv", "clone", "store", "copy"], 1)?;
    ensure!(said.contains("there is a store 'copy' already"), "{said}");
    stage.fails(&["kv", "clone", "stor", "copy"], 4)?;
    Ok(())
}

/// Interrupted, the copy is not for apps, and the same command completes it.
pub fn clone_goes_on_after_sigkill(stage: &Stage) -> Result<()> {
    let from = stage.create("store")?;
    stage.populate(&from, 60_000, 10)?;
    let args = ["kv", "clone", "store", "copy", "--rate", "15000"];
    stage.killed(&args, || {
        let noted = stage
            .operator()?
            .command(&["HLEN", "flect:{registry}:progress"])?;
        Ok(noted.text() == "1")
    })?;
    let to = stage.prefix("copy")?;
    ensure!(
        stage.json(&["kv", "show", "copy"])?["filling"] == true,
        "it is complete"
    );
    let done = stage.json(&["kv", "clone", "store", "copy"])?;
    ensure!(done["resumed"] == true, "{done}");
    ensure!(stage.names(&to)?.len() == 60_000, "keys are missing");
    let left = stage
        .operator()?
        .command(&["EXISTS", "flect:{registry}:progress"])?;
    ensure!(left.text() == "0", "notes are left");
    Ok(())
}

/// What comes back out of a file is what went in: every type, database, expiry and byte.
pub fn export_and_import_keep_all_types(stage: &Stage) -> Result<()> {
    let from = stage.create("store")?;
    stage.fill(&from)?;
    let before = stage.keys(&from)?;
    let done = stage.json(&["kv", "export", "store"])?;
    ensure!(done["keys"] == before.len(), "{done}");
    let file = stage.bed.folder().join("store.flectkv");
    let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "mode {mode:o}");
    ensure!(
        !stage.bed.folder().join("store.flectkv.part").exists(),
        "the part is left"
    );
    let said = stage.fails(&["kv", "export", "store"], 1)?;
    ensure!(said.contains("--force"), "{said}");
    let checked = stage.json(&["kv", "import", "any", "store.flectkv", "--check"])?;
    ensure!(
        checked["keys"] == before.len() && checked["header"]["rdb_version"] == 11,
        "{checked}"
    );

    stage.fails(&["kv", "import", "back", "store.flectkv"], 4)?;
    stage.flect(&["kv", "import", "back", "store.flectkv", "--create"])?;
    let back = stage.prefix("back")?;
    ensure_equal(&before, &stage.keys(&back)?)?;
    ensure!(
        stage.json(&["kv", "show", "back"])?["filling"] == false,
        "still filling"
    );

    // A store with keys is not written to unless it is said how.
    stage
        .operator()?
        .command(&["SET", &format!("{back}:string"), "mine"])?;
    stage
        .operator()?
        .command(&["SET", &format!("{back}:other"), "mine"])?;
    let said = stage.fails(&["kv", "import", "back", "store.flectkv"], 1)?;
    ensure!(said.contains("nothing was written"), "{said}");
    let skipped = stage.json(&[
        "kv",
        "import",
        "back",
        "store.flectkv",
        "--on-conflict",
        "skip",
    ])?;
    ensure!(
        skipped["keys_written"] == 0 && skipped["keys_skipped"] == before.len(),
        "{skipped}"
    );
    let mine = stage.flect(&["kv", "shell", "back", "--", "GET", "string"])?;
    ensure!(mine == "mine\n", "{mine}");
    stage.flect(&[
        "kv",
        "import",
        "back",
        "store.flectkv",
        "--on-conflict",
        "replace",
    ])?;
    let mut after = stage.keys(&back)?;
    ensure!(
        after.remove(&b":other"[..]).is_some(),
        "a key of its own was lost"
    );
    ensure_equal(&before, &after)?;

    // And by a pipe.
    stage.create("piped")?;
    let export = stage.command(&["kv", "export", "store", "-"]).output()?;
    ensure!(export.status.success(), "{export:?}");
    let mut import = stage.command(&["kv", "import", "piped", "-"]);
    fs::write(stage.bed.folder().join("pipe"), &export.stdout)?;
    import.stdin(fs::File::open(stage.bed.folder().join("pipe"))?);
    ensure!(import.status()?.success(), "import from stdin");
    ensure_equal(&before, &stage.keys(&stage.prefix("piped")?)?)
}

/// Killed in the middle, an export goes on, also behind half a chunk.
pub fn export_goes_on_after_sigkill(stage: &Stage) -> Result<()> {
    let from = stage.create("store")?;
    stage.populate_noise(&from, 20_000)?;
    let part = stage.bed.folder().join("store.flectkv.part");
    let length = || fs::metadata(&part).map_or(0, |metadata| metadata.len());
    stage.killed(&["kv", "export", "store", "--rate", "8mb"], || {
        Ok(length() > 4_000_000)
    })?;
    let cut = length() - 1000;
    fs::File::options().write(true).open(&part)?.set_len(cut)?;
    let done = stage.json(&["kv", "export", "store"])?;
    ensure!(done["resumed"] == true, "{done}");
    stage.flect(&["kv", "import", "back", "store.flectkv", "--create"])?;
    ensure_equal(&stage.keys(&from)?, &stage.keys(&stage.prefix("back")?)?)
}

/// Killed in the middle, an import goes on where it was.
pub fn import_goes_on_after_sigkill(stage: &Stage) -> Result<()> {
    let from = stage.create("store")?;
    stage.populate_noise(&from, 20_000)?;
    stage.flect(&["kv", "export", "store"])?;
    let to = stage.create("back")?;
    let note = format!("store.flectkv.import-{}", to.trim_matches(['{', '}']));
    let note = stage.bed.folder().join(note);
    let args = ["kv", "import", "back", "store.flectkv", "--rate", "4000"];
    stage.killed(&args, || Ok(stage.names(&to)?.len() > 2000))?;
    ensure!(note.exists(), "no note was made");
    ensure!(stage.names(&to)?.len() < 20_000, "it was complete");
    let done = stage.json(&["kv", "import", "back", "store.flectkv"])?;
    ensure!(done["resumed"] == true, "{done}");
    ensure!(!note.exists(), "the note is left");
    ensure_equal(&stage.keys(&from)?, &stage.keys(&to)?)
}

/// A changed, cut or foreign file is refused before anything is written.
pub fn damaged_files_write_nothing(stage: &Stage) -> Result<()> {
    let from = stage.create("store")?;
    for name in ["a", "b", "c"] {
        stage
            .operator()?
            .command(&["SET", &format!("{from}:{name}"), "value"])?;
    }
    stage.flect(&["kv", "export", "store"])?;
    let to = stage.create("back")?;
    let whole = fs::read(stage.bed.folder().join("store.flectkv"))?;
    // Every region of the file; the library's own tests flip every bit.
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        damaged.push(bytes);
    }
    damaged.extend([0, 7, 20, whole.len() / 2, whole.len() - 1].map(|end| whole[..end].to_vec()));
    damaged.push([&whole[..], b"x"].concat());
    damaged.push(b"REDIS0011".to_vec());
    for (number, bytes) in damaged.iter().enumerate() {
        fs::write(stage.bed.folder().join("damaged"), bytes)?;
        let said = stage.fails(&["kv", "import", "back", "damaged"], 1)?;
        ensure!(said.contains("nothing was imported"), "{number}: {said}");
    }
    ensure!(stage.names(&to)?.is_empty(), "something was written");
    Ok(())
}

/// A file with valid checksums and values that are none: the server refuses them, the rest goes on.
pub fn hostile_values_are_refused(stage: &Stage) -> Result<()> {
    use flect_agent::dump::{Chunk, Header, Record, Writer};
    let to = stage.create("back")?;
    let header = Header {
        store: "store".to_owned().try_into()?,
        prefix: "{other}".to_owned().try_into()?,
        environment: "test".to_owned(),
        created_at: 0,
        server: "nobody".to_owned(),
        rdb_version: None,
        run_id: String::new(),
    };
    let mut writer = Writer::begin(Vec::new(), &header)?;
    let record = Record {
        database: 0,
        expires_at_ms: 0,
        key: b"bad".to_vec(),
        payload: b"\x00\x05hello\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x01".to_vec(),
    };
    writer.chunk(&Chunk {
        cursor: 0,
        last: true,
        records: vec![record],
    })?;
    fs::write(stage.bed.folder().join("hostile"), writer.end()?)?;
    let said = stage.fails(&["kv", "import", "back", "hostile"], 1)?;
    ensure!(said.contains("key bad in database 0"), "{said}");
    ensure!(stage.names(&to)?.is_empty(), "something was written");
    let again = stage.fails(&["kv", "import", "back", "hostile"], 1)?;
    ensure!(again.contains("key bad"), "{again}");
    let alive = stage
        .operator()?
        .command(&["PING"])
        .context("the server is gone")?;
    ensure!(alive.text() == "PONG", "{alive:?}");
    Ok(())
}
