use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use super::*;

struct Fixed;

impl Source for Fixed {
    fn metrics(&self) -> Value {
        json!({ "stores": [{ "name": "secret-store" }] })
    }

    fn status(&self) -> Value {
        json!({ "ready": true, "status_page": "http://x/#token=abc" })
    }
}

/// A page on a free port, and its token.
fn page() -> (SocketAddr, String) {
    let page = Page::new().unwrap();
    page.serve(
        (Ipv4Addr::LOCALHOST, 0).into(),
        Arc::new(Fixed),
        Closing::never(),
    );
    let start = Instant::now();
    loop {
        if let (Some(url), None) = page.report() {
            let (address, token) = url.split_once("/#token=").unwrap();
            let address = address.strip_prefix("http://").unwrap();
            return (address.parse().unwrap(), token.to_owned());
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no page");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    // A connection that was reset has said what it had to say.
    let _ = stream.read_to_string(&mut reply);
    reply
}

#[test]
fn only_the_right_request_gets_data() {
    let (address, token) = page();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let port = address.port();
    let own = format!("127.0.0.1:{port}");
    for (line, host, more, expect) in [
        ("GET /metrics.json", &*own, &*bearer, 200),
        ("GET /status.json", &own, &bearer, 200),
        (
            "GET /metrics.json",
            &*format!("LOCALHOST:{port}"),
            &bearer,
            200,
        ),
        ("GET /", &own, "", 200),
        ("GET /metrics.json", &own, "", 401),
        ("GET /status.json", &own, "", 401),
        (
            "GET /metrics.json",
            &own,
            "Authorization: Bearer x\r\n",
            401,
        ),
        ("GET /metrics.json", &own, "Authorization: Bearer \r\n", 401),
        ("GET /metrics.json?token=x", &own, "", 401),
        ("GET /metrics.json", "evil.example", &bearer, 421),
        ("GET /metrics.json", "127.0.0.1", &bearer, 421),
        ("GET /metrics.json", "127.0.0.1:1", &bearer, 421),
        ("GET /", "evil.example", "", 421),
        ("GET /other", &own, &bearer, 404),
        ("POST /metrics.json", &own, &bearer, 405),
        ("HEAD /metrics.json", &own, &bearer, 405),
        ("OPTIONS /metrics.json", &own, "Origin: http://a\r\n", 405),
    ] {
        let reply = talk(
            address,
            &format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"),
        );
        let head = reply.lines().next().unwrap_or_default();
        assert!(
            head.contains(&format!(" {expect} ")),
            "{line} {host} {more}: {head}"
        );
        assert_eq!(
            reply.contains("secret-store"),
            expect == 200 && line.contains("metrics")
        );
        let lower = reply.to_lowercase();
        assert!(!lower.contains("access-control"), "{reply}");
        assert!(lower.contains("connection: close"), "{reply}");
        assert!(!reply.contains("token=abc"), "{reply}");
    }
}

#[test]
fn two_hosts_or_none_are_not_ours() {
    let (address, token) = page();
    for hosts in [String::new(), format!("Host: {address}\r\nHost: evil\r\n")] {
        let request =
            format!("GET /metrics.json HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\n\r\n");
        assert!(!talk(address, &request).contains("secret-store"), "{hosts}");
    }
}

#[test]
fn the_shell_allows_nothing_from_elsewhere() {
    let (address, _) = page();
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (one, two) = (talk(address, &request), talk(address, &request));
    let policy = |reply: &str| {
        let line = reply
            .lines()
            .find_map(|line| line.strip_prefix("content-security-policy: "));
        line.unwrap().to_owned()
    };
    assert!(policy(&one).starts_with("default-src 'none'; script-src 'nonce-"));
    assert_ne!(policy(&one), policy(&two), "a nonce is used once");
    assert!(!one.contains("{{"), "a place was not filled");
    let nonce = policy(&one).split('\'').nth(3).unwrap().to_owned();
    let nonce = nonce.strip_prefix("nonce-").unwrap();
    assert_eq!(
        one.matches(&format!("<script nonce=\"{nonce}\">")).count(),
        1
    );
    assert_eq!(
        one.matches(&format!("<style nonce=\"{nonce}\">")).count(),
        1
    );
}

#[test]
fn a_request_has_an_end() {
    let (address, _) = page();
    // Too long.
    let long = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n",
        "a".repeat(9_000)
    );
    assert!(!talk(address, &long).contains(" 200 "));
    // Too slow, on as many connections as there are places; the next one still gets its turn.
    let slow: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    let reply = talk(
        address,
        &format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    );
    assert!(reply.contains(" 200 "), "{reply}");
    drop(slow);
}

#[test]
fn a_port_in_use_is_told_and_tried_again() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let page = Page::new().unwrap();
    assert_eq!(page.report(), (None, None));
    page.serve(
        taken.local_addr().unwrap(),
        Arc::new(Fixed),
        Closing::never(),
    );
    let start = Instant::now();
    let failed = loop {
        if let (None, Some(why)) = page.report() {
            break why;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no complaint");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(failed.contains("cannot listen at 127.0.0.1"), "{failed}");
    drop(taken);
    while page.report().0.is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "not tried again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn tokens_are_not_used_twice() {
    let (_, one) = page();
    let (_, two) = page();
    assert_eq!(one.len(), 2 * TOKEN_BYTES);
    assert_ne!(one, two);
}
