use super::*;
use crate::resp::request::{RequestScanner, Scanned};

fn asked(words: &str) -> Result<Asked, String> {
    let mut bytes = Vec::new();
    let words: Vec<&str> = words
        .split(' ')
        .map(|word| if word == "''" { "" } else { word })
        .collect();
    encode::request(&words, &mut bytes);
    let mut scanner = RequestScanner::default();
    assert!(matches!(scanner.scan(&bytes), Ok(Scanned::Request { .. })));
    let asked = Asked::read(&scanner.request(&bytes), |id| id < 10);
    asked.map_err(|error| String::from_utf8(error).unwrap())
}

/// What a session that has said all this has, and what the server got.
fn check(lines: &[&str], expect: Result<&str, &str>) {
    let mut tracking = Tracking::default();
    let mut last = Ok(String::new());
    for line in lines {
        let change = asked(&format!("CLIENT TRACKING {line}")).and_then(|asked| {
            let prefix = Prefix::parse("{s}").unwrap();
            let change = tracking.change(asked, &prefix, 2);
            change.map_err(|error| String::from_utf8(error).unwrap())
        });
        last = change.map(|change| {
            change.map_or_else(String::new, |change| {
                let request = change.request(77);
                let text = String::from_utf8(request).unwrap();
                let words: Vec<&str> = text.split("\r\n").skip(2).step_by(2).collect();
                let again = if change.anew { "anew " } else { "" };
                tracking = change.after;
                format!("{again}{}", words.join(" "))
            })
        });
    }
    assert_eq!(last.as_deref().map_err(String::as_str), expect, "{lines:?}");
}

#[test]
fn prefixes_are_those_of_the_stores_databases() {
    check(
        &["on bcast"],
        Ok("CLIENT TRACKING ON BCAST PREFIX {s}: PREFIX {s}/1:"),
    );
    check(
        &["on bcast prefix ''"],
        Ok("CLIENT TRACKING ON BCAST PREFIX {s}: PREFIX {s}/1:"),
    );
    check(
        &["on noloop bcast prefix a prefix b"],
        Ok(
            "CLIENT TRACKING ON BCAST NOLOOP PREFIX {s}:a PREFIX {s}/1:a PREFIX {s}:b PREFIX {s}/1:b",
        ),
    );
    check(
        &["on bcast prefix a", "on bcast prefix b"],
        Ok("CLIENT TRACKING ON BCAST PREFIX {s}:b PREFIX {s}/1:b"),
    );
}

#[test]
fn what_is_on_already_is_not_asked_for_again() {
    check(&["on bcast", "on bcast"], Ok(""));
    check(
        &["on bcast", "on bcast noloop"],
        Ok("anew CLIENT TRACKING ON BCAST NOLOOP PREFIX {s}: PREFIX {s}/1:"),
    );
    check(
        &["on bcast prefix a", "on bcast"],
        Ok("anew CLIENT TRACKING ON BCAST PREFIX {s}: PREFIX {s}/1:"),
    );
    check(
        &["on", "on redirect 3"],
        Ok("CLIENT TRACKING ON REDIRECT 77"),
    );
    check(&["on", "off"], Ok("CLIENT TRACKING OFF"));
}

#[test]
fn overlaps_get_no_further() {
    let existing = |a: &str, b: &str| {
        format!(
            "ERR Prefix '{a}' overlaps with an existing prefix '{b}'. Prefixes for a single client must not overlap."
        )
    };
    check(
        &["on bcast prefix a", "on bcast prefix ab"],
        Err(&existing("ab", "a")),
    );
    check(
        &["on bcast", "on bcast prefix ab"],
        Err(&existing("ab", "")),
    );
    // The pair of which Valkey says both that it overlaps and OK.
    check(
        &["on bcast prefix x prefix ab prefix a"],
        Err(
            "ERR Prefix 'ab' overlaps with another provided prefix 'a'. Prefixes for a single client must not overlap.",
        ),
    );
}

#[test]
fn options_are_refused_as_valkey_does() {
    for (lines, text) in [
        (
            &["on redirect 11"][..],
            "ERR The client ID you want redirect to does not exist",
        ),
        (
            &["on redirect 0"],
            "ERR The client ID you want redirect to does not exist",
        ),
        (
            &["on redirect x"],
            "ERR value is not an integer or out of range",
        ),
        (
            &["on redirect 1 redirect 2"],
            "ERR A client can only redirect to a single other client",
        ),
        (&["on redirect"], "ERR syntax error"),
        (&["maybe"], "ERR syntax error"),
        (
            &["on prefix a"],
            "ERR PREFIX option requires BCAST mode to be enabled",
        ),
        (
            &["on bcast optin"],
            "ERR OPTIN and OPTOUT are not compatible with BCAST",
        ),
        (
            &["on optout optin"],
            "ERR You can't specify both OPTIN mode and OPTOUT mode",
        ),
        (
            &["off redirect 11"],
            "ERR The client ID you want redirect to does not exist",
        ),
    ] {
        check(lines, Err(text));
    }
}
