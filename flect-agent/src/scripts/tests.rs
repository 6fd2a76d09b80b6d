use super::*;
use crate::store::Prefix;

fn shim() -> Shim {
    Shim::new(&Prefix::parse("{abc}").unwrap(), 16)
}

#[test]
fn lines_keep_their_numbers() {
    let shim = shim();
    let text = String::from_utf8(shim.transform(b"a\nb\n")).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.ends_with(";a\nb\n"), "{text}");
    let text = String::from_utf8(shim.transform(b"#!lua flags=no-writes\nreturn 1")).unwrap();
    assert!(text.starts_with("#!lua flags=no-writes\nlocal redis"));
    assert!(text.ends_with(";return 1"));
    assert_eq!(
        shim.transform(b"#!lua"),
        [b"#!lua".as_slice(), &shim.transform(b"")].concat()
    );
}

#[test]
fn no_placeholder_is_left() {
    let text = String::from_utf8(shim().transform(b"")).unwrap();
    for placeholder in ["STORE", "COMMANDS", "DATABASES", "KNOWN", "--", "\n"] {
        assert!(!text.contains(placeholder), "{placeholder}");
    }
    assert!(text.contains("'{abc}'"));
}

#[test]
fn names_are_those_of_the_text() {
    let sha = Sha::of(b"return 1");
    assert_eq!(sha.as_bytes(), b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    assert_eq!(
        Sha::parse(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"),
        Some(sha)
    );
    for bad in [
        &b"e0e1"[..],
        b"g0e1f9fabfc9d4800c877a703b823ac0578ff8db",
        b"",
    ] {
        assert_eq!(Sha::parse(bad), None);
    }
}

#[test]
fn a_scripts_own_commands_are_at_hand() {
    let text =
        shim().transform(b"redis.call('GET', k) redis.call(\"xgroup\", 'CREATE', 'x;y', 'no')");
    let text = String::from_utf8(text).unwrap();
    let known = "{['GET']=1,['xgroup']='container',['xgroup|CREATE']='2.0.1',}";
    assert!(text.contains(known), "{text}");
}
