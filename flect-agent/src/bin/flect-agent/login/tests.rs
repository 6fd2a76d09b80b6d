use super::*;
use flect_agent::environment::{Credentials, Store};
use flect_agent::registry::{Limits, Record};
use flect_agent::store::{Prefix, Slug};

#[derive(Default)]
struct Door {
    refusal: Option<String>,
    news: Option<News>,
}

impl Doorkeeper for Door {
    fn open(&self, user: &[u8], password: &[u8]) -> Option<Admitted> {
        (user == b"shop" && password == b"token").then(|| {
            let nobody = Credentials {
                user: String::new(),
                password: String::new(),
            };
            let slug = Slug::try_from("shop".to_owned()).unwrap();
            let record = Record::new(Prefix::parse("{a}").unwrap(), Limits::default());
            let store = Store::new(0, &slug, &record, nobody.clone(), nobody);
            let app = App {
                name: "explicit".to_owned(),
                stores: vec![Arc::new(store)],
            };
            Admitted {
                app: Arc::new(app),
                user: b"default".to_vec(),
            }
        })
    }

    fn refusal(&self) -> Option<String> {
        self.refusal.clone()
    }

    fn news(&self) -> Option<&News> {
        self.news.as_ref()
    }
}

/// What is said, and what comes of it: `open` with the bytes handed on, `read` or `end`. Any cut of
/// the bytes must give the same.
fn check(said: &[u8], replies: &str, end: &str) {
    for cut in 1..=said.len() {
        let (got, outcome) = play(said, cut, &Door::default());
        assert_eq!(got, replies, "{} cut at {cut}", said.escape_ascii());
        assert_eq!(outcome, end, "{} cut at {cut}", said.escape_ascii());
    }
}

fn play(said: &[u8], cut: usize, door: &Door) -> (String, String) {
    let mut login = Login::default();
    let mut out = Vec::new();
    let mut rest = said;
    let mut asked = 0;
    let outcome = loop {
        match login.step(door, &mut out) {
            Step::Pause => {}
            Step::Ask => asked += 1,
            Step::Read if rest.is_empty() => break "read".to_owned(),
            Step::Read => {
                let count = cut.min(rest.len()).min(login.room());
                login.take(&rest[..count]);
                rest = &rest[count..];
            }
            Step::Open(_, early) => {
                let all = [&early, rest].concat();
                break format!("open {}", all.escape_ascii());
            }
            Step::End => break "end".to_owned(),
        }
    };
    let wrong = out
        .windows(10)
        .filter(|bytes| *bytes == b"-WRONGPASS")
        .count();
    assert!(door.news.is_none() || asked == wrong, "once for each");
    (String::from_utf8(out).unwrap(), outcome)
}

#[test]
fn a_wrong_password_may_have_become_right() {
    let door = Door {
        refusal: None,
        news: Some(News::default()),
    };
    let wrong = format!("-{WRONG_PASSWORD}\r\n");
    let said = b"AUTH shop no\r\nAUTH shop no\r\nAUTH shop token\r\nPING\r\n";
    for cut in 1..=said.len() {
        let (replies, outcome) = play(said, cut, &door);
        assert_eq!(replies, wrong.repeat(2));
        assert_eq!(outcome, r"open AUTH shop token\r\nPING\r\n");
    }
}

#[test]
fn only_a_login_leads_in() {
    let no_auth = format!("-{NO_AUTH}\r\n");
    let wrong = format!("-{WRONG_PASSWORD}\r\n");
    let hello = format!("-{NO_AUTH_HELLO}\r\n");
    check(b"PING\r\n", &no_auth, "read");
    check(b"GET a\r\nSET a b\r\n", &no_auth.repeat(2), "read");
    check(b"MULTI\r\n", &no_auth, "read");
    check(b"HELLO 3\r\n", &hello, "read");
    check(b"HELLO\r\n", &hello, "read");
    check(b"HELLO 3 SETNAME auth\r\n", &hello, "read");
    check(b"AUTH token\r\n", &wrong, "read");
    check(b"AUTH shop no\r\n", &wrong, "read");
    check(b"AUTH default token\r\n", &wrong, "read");
    check(b"AUTH other token\r\nPING\r\n", &(wrong + &no_auth), "read");
    check(
        b"AUTH\r\n",
        "-ERR wrong number of arguments for 'auth' command\r\n",
        "read",
    );
    check(b"AUTH a b c\r\n", "-ERR syntax error\r\n", "read");
    check(b"RESET\r\nQUIT\r\nPING\r\n", "+RESET\r\n+OK\r\n", "end");
}

#[test]
fn the_login_and_what_follows_is_the_sessions() {
    check(
        b"AUTH shop token\r\nGET a\r\n",
        "",
        r"open AUTH shop token\r\nGET a\r\n",
    );
    check(
        b"PING\r\nHELLO 3 SETNAME me AUTH shop token\r\n",
        &format!("-{NO_AUTH}\r\n"),
        r"open HELLO 3 SETNAME me AUTH shop token\r\n",
    );
}

#[test]
fn much_is_refused_before_a_login() {
    let said = [b"AUTH ".as_slice(), &[b'x'; 2 * LOGIN_BYTES_MAX]].concat();
    let (replies, outcome) = play(&said, 1000, &Door::default());
    assert_eq!(
        (replies.as_str(), outcome.as_str()),
        (
            "-ERR Protocol error: unauthenticated bulk length\r\n",
            "end"
        )
    );
    let (replies, outcome) = play(b"*1\r\nPING\r\n", 100, &Door::default());
    assert!(replies.starts_with("-ERR Protocol error"), "{replies}");
    assert_eq!(outcome, "end");
}

#[test]
fn a_refusal_answers_the_first_request_and_ends() {
    let door = Door {
        refusal: Some("no\r\n+OK".to_owned()),
        news: None,
    };
    for said in [b"PING\r\nPING\r\n".as_slice(), b"AUTH a b\r\n", b"QUIT\r\n"] {
        let (replies, outcome) = play(said, 100, &door);
        assert_eq!(
            (replies.as_str(), outcome.as_str()),
            ("-DENIED no  +OK\r\n", "end")
        );
    }
    let (_, outcome) = play(b"AUTH shop token\r\n", 100, &door);
    assert!(outcome.starts_with("open"));
}
