use super::*;

/// A certificate that signs itself, and its key.
fn made() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn mistakes_name_their_key_and_file() {
    let files = Files(tempfile::tempdir().unwrap());
    let (certificate, key) = made();
    let (_, other_key) = made();
    let ca = files.write("ca", &certificate, 0o644);
    let own = files.write("key", &key, 0o640);
    let check = |config: config::Tls, words: &[&str]| {
        let error = Trust::load(&config).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "no '{word}' in: {error}");
        }
        assert!(!error.contains("PRIVATE"), "{error}");
    };
    let with_ca = |path: PathBuf| config::Tls {
        ca: Some(path),
        ..config::Tls::default()
    };
    check(
        with_ca(files.0.path().join("none")),
        &["valkey.tls.ca", "none", "No such file"],
    );
    check(
        with_ca(files.write("empty", "", 0o644)),
        &["valkey.tls.ca", "empty", "no certificate"],
    );
    check(with_ca(own.clone()), &["valkey.tls.ca", "no certificate"]);
    let client = |key: PathBuf| config::Tls {
        ca: Some(ca.clone()),
        certificate: Some(ca.clone()),
        key: Some(key),
        server_name: None,
    };
    let open = files.write("open", &key, 0o644);
    check(
        client(open),
        &[
            "valkey.tls.key",
            "everybody may use it (mode 644)",
            "chmod o=",
        ],
    );
    check(
        client(files.write("other", &other_key, 0o600)),
        &["valkey.tls.certificate", "key"],
    );
    check(client(files.write("text", "x", 0o600)), &["valkey.tls.key"]);
    let named = config::Tls {
        server_name: Some("a b".to_owned()),
        ..with_ca(ca.clone())
    };
    check(named, &["valkey.tls.server_name", "'a b'"]);
    assert!(Trust::load(&client(own)).is_ok());
}

#[test]
fn files_of_the_same_contents_are_the_same_trust() {
    let files = Files(tempfile::tempdir().unwrap());
    let config = config::Tls {
        ca: Some(files.write("ca", &made().0, 0o644)),
        ..config::Tls::default()
    };
    let first = Trust::load(&config).unwrap();
    assert_eq!(first, Trust::load(&config).unwrap());
    files.write("ca", &made().0, 0o644);
    assert_ne!(first, Trust::load(&config).unwrap());
}

#[test]
fn the_servers_name_is_the_hosts_unless_it_is_given() {
    let files = Files(tempfile::tempdir().unwrap());
    let ca = files.write("ca", &made().0, 0o644);
    let name = |server_name: Option<&str>, host: &str| {
        let config = config::Tls {
            ca: Some(ca.clone()),
            server_name: server_name.map(str::to_owned),
            ..config::Tls::default()
        };
        let tls = Trust::load(&config).unwrap().of_host(host);
        tls.map(|tls| tls.name.to_str().into_owned()).ok()
    };
    assert_eq!(name(None, "a.example").unwrap(), "a.example");
    assert_eq!(name(None, "10.0.0.5").unwrap(), "10.0.0.5");
    assert_eq!(name(Some("b.example"), "10.0.0.5").unwrap(), "b.example");
    assert_eq!(name(None, "a b"), None);
}
