//! MONITOR's lines: a command as its app sent it.

use std::net::SocketAddr;
use std::time::Duration;

/// Appends an argument as `sdscatrepr` writes it (sds.c). Valkey 8.1 forgets the backslash before quotes
/// and backslashes, which nobody could read back.
pub fn quoted(argument: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in argument {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend([
                b'\\',
                b'x',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
    out.push(b'"');
}

/// Appends the whole line of a command, as `replicationFeedMonitors` writes it (replication.c): when it
/// was (since 1970), the database, who sent it, its arguments as they are quoted already.
pub fn command_line(
    time: Duration,
    database: u32,
    peer: SocketAddr,
    arguments: &[u8],
    out: &mut Vec<u8>,
) {
    let (seconds, microseconds) = (time.as_secs(), time.subsec_micros());
    out.extend(format!("+{seconds}.{microseconds:06} [{database} {peer}] ").as_bytes());
    out.extend(arguments);
    out.extend(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_valkey_quotes_them() {
        let check = |argument: &[u8], expect: &str| {
            let mut out = Vec::new();
            quoted(argument, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        };
        check(b"", r#""""#);
        check(b"plain text", r#""plain text""#);
        check(b"a\"b\\c", r#""a\"b\\c""#);
        check(b"\n\r\t\x07\x08", r#""\n\r\t\a\b""#);
        check(b"\0\x1f\x7f\xff", r#""\x00\x1f\x7f\xff""#);
        check("é".as_bytes(), r#""\xc3\xa9""#);
    }

    #[test]
    fn a_line_breaks_nowhere() {
        let mut arguments = Vec::new();
        quoted(b"SET", &mut arguments);
        arguments.push(b' ');
        quoted(b"a\r\n+b", &mut arguments);
        let mut out = Vec::new();
        let peer = "127.0.0.1:4000".parse().unwrap();
        command_line(
            Duration::from_micros(1_000_002),
            3,
            peer,
            &arguments,
            &mut out,
        );
        let expect = "+1.000002 [3 127.0.0.1:4000] \"SET\" \"a\\r\\n+b\"\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}
