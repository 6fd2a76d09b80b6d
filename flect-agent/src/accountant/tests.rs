//! Against a real server where `cargo xtask setup` has installed one; nothing elsewhere.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use redis::aio::ConnectionManager;

use super::*;
use crate::registry::Limits;
use crate::store::Slug;

/// A server on a socket in a folder of its own; it ends with the test.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let program = root.join("target/tools/bin/valkey-server");
        if !program.exists() {
            eprintln!("skipped: no valkey-server; run `cargo xtask setup`");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--unixsocket", "valkey.sock"])
            .args(["--enable-debug-command", "local"])
            .arg("--dir")
            .arg(folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, folder })
    }

    async fn connect(&self) -> ConnectionManager {
        let path = self.folder.path().join("valkey.sock");
        let address = redis::ConnectionAddr::Unix(path);
        let info = redis::IntoConnectionInfo::into_connection_info(address).unwrap();
        let client = redis::Client::open(info).unwrap();
        loop {
            if let Ok(connection) = ConnectionManager::new(client.clone()).await {
                return connection;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn slug(text: &str) -> Slug {
    Slug::try_from(text.to_owned()).unwrap()
}

fn limited() -> Limits {
    Limits {
        memory_bytes: Some(1 << 20),
        ..Limits::default()
    }
}

#[tokio::test]
async fn stores_with_limits_are_measured_by_one_agent() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut connection = server.connect().await;
    let mut registry = Registry::open(connection.clone()).await.unwrap();
    let with = registry.create(&slug("with"), limited()).await.unwrap();
    let empty = registry.create(&slug("empty"), limited()).await.unwrap();
    let without = registry
        .create(&slug("without"), Limits::default())
        .await
        .unwrap();
    for (record, keys) in [(&with, 3000), (&without, 20_000)] {
        let () = redis::cmd("DEBUG")
            .arg("POPULATE")
            .arg(keys)
            .arg(record.prefix.as_str())
            .arg(100)
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    let () = connection.hset(USAGE, "{gone}", "{}").await.unwrap();

    assert_eq!(turn(&connection, "one").await.unwrap(), Some(2));
    assert_eq!(
        turn(&connection, "two").await.unwrap(),
        None,
        "it is one's turn"
    );
    assert_eq!(
        turn(&connection, "one").await.unwrap(),
        Some(2),
        "it still is"
    );

    let all: std::collections::BTreeMap<String, String> = connection.hgetall(USAGE).await.unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    let told =
        |prefix: &Prefix| -> Measurement { serde_json::from_str(&all[prefix.as_str()]).unwrap() };
    let told_with = told(&with.prefix);
    assert!((2700..3300).contains(&told_with.keys), "{told_with:?}");
    // 100 bytes each, and what Valkey adds.
    let per_key = told_with.memory_bytes / told_with.keys;
    assert!((100..300).contains(&per_key), "{told_with:?}");
    assert!(told_with.measured_at > 1_700_000_000);
    let told_empty = told(&empty.prefix);
    assert_eq!((told_empty.keys, told_empty.memory_bytes), (0, 0));

    // Whoever held the lease is gone, with its process.
    let () = connection.del(LEASE).await.unwrap();
    assert_eq!(turn(&connection, "two").await.unwrap(), Some(2));
    let mut registry = Registry::open(connection.clone()).await.unwrap();
    registry
        .change(&slug("with"), |r| r.limits = Limits::default())
        .await
        .unwrap();
    assert_eq!(
        measure_into_registry(&mut connection, None).await.unwrap(),
        Some(1)
    );
    let left: Vec<String> = connection.hkeys(USAGE).await.unwrap();
    assert_eq!(left, [empty.prefix.as_str()]);
}
