//! Manifests: what is accepted, and what is said about the rest.

use super::*;

/// `text` is refused with exactly these complaints, `line:column message`.
#[track_caller]
fn refused(text: &str, expect: &[&str]) {
    let problems = Manifest::parse(text).expect_err(text);
    let said: Vec<String> = problems
        .iter()
        .map(|p| format!("{}:{} {}", p.line, p.column, p.message))
        .collect();
    assert_eq!(said, expect, "{text}");
}

/// The same for one complaint that contains a text.
#[track_caller]
fn refused_like(text: &str, expect: &str) {
    let problems = Manifest::parse(text).expect_err(text);
    let shown = problem::shown(Path::new("flect.toml"), &problems);
    assert!(shown.contains(expect), "{shown}\nlacks\n{expect}");
    assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n'),
        "{shown:?}"
    );
    assert!(shown.len() < 16_384, "{} bytes", shown.len());
}

#[test]
fn the_users_documentation_is_accepted() {
    let one = "[[kv]]\nbinding = \"CACHE\" # becomes CACHE_URL env var in the app\nname = \"my-cache\" # KV slug from flect kv list\n";
    let manifest = Manifest::parse(one).unwrap();
    assert_eq!(manifest.app, None);
    assert_eq!(manifest.kv[0].binding.variable(), "CACHE_URL");
    assert_eq!(manifest.kv[0].name.as_str(), "my-cache");
    assert_eq!(manifest.doubts, []);
    let two = "[[kv]]\nbinding = \"SESSION_STORE\"\nname = \"sessions\"\n[[kv]]\nbinding = \"RATE_LIMIT\"\nname = \"rate-limiter\"\n";
    let manifest = Manifest::parse(two).unwrap();
    let bindings: Vec<&str> = manifest.kv.iter().map(|kv| kv.binding.as_str()).collect();
    assert_eq!(bindings, ["SESSION_STORE", "RATE_LIMIT"]);
}

#[test]
fn other_writings_of_the_same_are_accepted() {
    for text in [
        "app = 'shop'\nkv = [{ binding = \"A\", name = \"a\" }]",
        "\u{feff}app = \"shop\"\r\n[[kv]]\r\nbinding = \"A\"\r\nname = \"a\"\r\n",
        "\"app\" = \"shop\"\n[['kv']]\n\"binding\"='A'\nname='''a'''",
    ] {
        let manifest = Manifest::parse(text).expect(text);
        assert_eq!(manifest.app.unwrap().as_str(), "shop", "{text}");
        assert_eq!(manifest.kv.len(), 1, "{text}");
    }
    // Two names for one store are fine.
    let twice = "kv = [{ binding = \"A\", name = \"a\" }, { binding = \"B\", name = \"a\" }]";
    assert_eq!(Manifest::parse(twice).unwrap().stores().len(), 1);
}

#[test]
fn mistakes_are_told_all_at_once_with_their_places() {
    refused(
        "ap = \"shop\"\n\n[[kv]]\nbindng = \"CACHE\"\nname = \"My_Cache\"\n",
        &[
            "1:1 flect.toml has no key 'ap'; did you mean 'app'?",
            "3:1 this [[kv]] has no binding; add it: such as binding = \"CACHE\"",
            "4:1 [[kv]] has no key 'bindng'; did you mean 'binding'?",
            "5:8 'My_Cache' is no store name: expected 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit; did you mean 'my-cache'?",
        ],
    );
    refused(
        "[[kv]]\nbinding = \"cache\"\nname = \"\"\nport = 6379\n",
        &[
            "2:11 'cache' is no binding: expected A-Z, 0-9 and '_', beginning with a letter, at most 64; did you mean 'CACHE'?",
            "3:8 '' is no store name: expected 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit; such as my-cache",
            "4:1 [[kv]] has no key 'port'; it knows binding and name",
        ],
    );
    refused(
        "[[kv]]\nbinding = \"A\"\nname = \"a\"\n[[kv]]\nbinding = \"A\"\nname = \"b\"\n",
        &["5:11 the binding A is there twice; give each store its own"],
    );
    refused(
        "app = 3\nkv = true",
        &[
            "1:7 app is a number, expected text in quotes",
            "2:6 kv is true or false, expected [[kv]] tables",
        ],
    );
    refused(
        "[kv]\nbinding = \"A\"\nname = \"a\"",
        &["1:1 kv is a list of stores: write [[kv]], with two brackets"],
    );
    refused(
        "kv = [1]",
        &["1:7 an entry of kv is a number, expected a table with binding and name"],
    );
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    refused_like(
        "app = \"shop\"\n[[kv]]\nbindng = \"CACHE\"\nname = \"a\"\nbinding = \"A\"",
        "flect.toml:3:1: [[kv]] has no key 'bindng'; did you mean 'binding'?\n  |\n3 | bindng = \"CACHE\"\n  | ^^^^^^",
    );
}

#[test]
fn hostile_files_are_refused_in_few_words() {
    refused_like("[[kv]\nbinding", "flect.toml:1:");
    refused_like("app = \"a\u{1b}[2J\"", "flect.toml:1:");
    refused_like("app = \"\\u001b[2J\"", "is no app name");
    refused_like("app = \"\u{202e}gnp.exe\" x", "flect.toml:1:");
    refused_like("\0", "flect.toml:1:");
    refused_like(&"[".repeat(100_000), "flect.toml:1:");
    refused_like(&format!("a = {}", "[".repeat(100_000)), "flect.toml:1:");
    refused_like(&format!("a{} = 1", ".a".repeat(100_000)), "flect.toml:1:");
    refused_like(
        &format!("app = \"{}\"", "a".repeat(900_000)),
        "is no app name",
    );
    refused_like(&format!("{} = 1", "k".repeat(900_000)), "has no key 'kkk");
    refused_like(&"[[kv]]\n".repeat(10_000), "and 80 more");
    refused_like("app = \"a\"\napp = \"b\"", "flect.toml:2:");
    refused_like("kv = []\n[[kv]]", "flect.toml:2:");
    refused_like("__proto__ = 1", "has no key '__proto__'");
}

#[test]
fn doubts_do_not_refuse() {
    let doubt = |text: &str| Manifest::parse(text).unwrap().doubts[0].message.clone();
    assert_eq!(doubt("app = \"shop\""), "no [[kv]]: the app gets no store");
    assert_eq!(
        doubt("[[kv]]\nbinding = \"CACHE_URL\"\nname = \"a\""),
        "the variable will be CACHE_URL_URL; for CACHE_URL write binding = \"CACHE\""
    );
}

proptest::proptest! {
    /// Nothing that is written in a manifest makes the reader fall over, and whatever is accepted is
    /// fit to be a variable and a store.
    #[test]
    fn any_text_is_read(text in "(?s)(\\[\\[kv\\]\\]|binding|name|app|kv| = |\"[A-Za-z_-]{0,4}\"|\n|.){0,40}") {
        match Manifest::parse(&text) {
            Ok(manifest) => {
                for kv in &manifest.kv {
                    proptest::prop_assert!(BindingName::parse(kv.binding.as_str()).is_ok());
                    proptest::prop_assert!(text[kv.place.start..kv.place.end].contains(kv.name.as_str()));
                }
            }
            Err(problems) => {
                proptest::prop_assert!(!problems.is_empty());
                for problem in problems {
                    let _ = problem.shown(Path::new("f"));
                }
            }
        }
    }
}
