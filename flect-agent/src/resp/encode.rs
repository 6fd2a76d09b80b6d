//! Small replies and requests that the agent writes itself.
//!
//! Invariant: every function appends whole RESP values; a text that could hold a line break is
//! never written as a line.

use super::{Protocol, number};

/// Appends `+text`; a line break in it becomes a blank.
pub fn simple(text: &str, out: &mut Vec<u8>) {
    out.push(b'+');
    line(text.as_bytes(), out);
}

/// Appends `-text`, as [`simple`] does; `text` begins with the error's code, such as `ERR`.
pub fn error(text: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    out.push(b'-');
    line(text.as_ref(), out);
}

/// Appends `+OK`.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// Appends an integer.
pub fn integer(value: i64, out: &mut Vec<u8>) {
    out.push(b':');
    if value < 0 {
        out.push(b'-');
    }
    number::append(value.unsigned_abs(), out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string.
pub fn bulk(bytes: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    let bytes = bytes.as_ref();
    header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends text for people, which RESP3 marks as such: a verbatim string there, a bulk string in RESP2.
pub fn text(protocol: Protocol, text: &str, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp2 => bulk(text, out),
        Protocol::Resp3 => {
            header(b'=', text.len() + 4, out);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the null that stands for a missing value.
pub fn null(protocol: Protocol, out: &mut Vec<u8>) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Appends the null that stands for a missing array.
pub fn null_array(protocol: Protocol, out: &mut Vec<u8>) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Appends the header of an array; its elements follow.
pub fn array(len: usize, out: &mut Vec<u8>) {
    header(b'*', len, out);
}

/// Appends the header of a map of `pairs` pairs; a flat array in RESP2.
pub fn map(protocol: Protocol, pairs: usize, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp2 => header(b'*', pairs * 2, out),
        Protocol::Resp3 => header(b'%', pairs, out),
    }
}

/// Appends the header of a set; an array in RESP2.
pub fn set(protocol: Protocol, len: usize, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp2 => header(b'*', len, out),
        Protocol::Resp3 => header(b'~', len, out),
    }
}

/// Appends the header of a push; an array in RESP2, where subscribers' messages are arrays.
pub fn push(protocol: Protocol, len: usize, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp2 => header(b'*', len, out),
        Protocol::Resp3 => header(b'>', len, out),
    }
}

/// Appends a request.
pub fn request<T: AsRef<[u8]>>(args: &[T], out: &mut Vec<u8>) {
    array(args.len(), out);
    for arg in args {
        bulk(arg, out);
    }
}

/// Appends the type byte, a length and CR LF.
#[inline]
pub fn header(kind: u8, len: usize, out: &mut Vec<u8>) {
    match len {
        // Most names and values; at one go, since each append asks for room.
        0..=9 => out.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']),
        10..=99 => {
            let (tens, ones) = (len as u8 / 10, len as u8 % 10);
            out.extend_from_slice(&[kind, b'0' + tens, b'0' + ones, b'\r', b'\n']);
        }
        _ => long_header(kind, len, out),
    }
}

fn long_header(kind: u8, len: usize, out: &mut Vec<u8>) {
    out.push(kind);
    number::append(len as u64, out);
    out.extend_from_slice(b"\r\n");
}

fn line(text: &[u8], out: &mut Vec<u8>) {
    out.extend(text.iter().map(|&byte| match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_lengths_of_any_size() {
        for len in [0, 1, 9, 10, 11, 99, 100, 12_345, usize::MAX] {
            let mut out = b"before".to_vec();
            header(b'$', len, &mut out);
            assert_eq!(out, format!("before${len}\r\n").into_bytes());
        }
    }

    #[test]
    fn values_are_written_as_each_protocol_has_them() {
        let check = |write: &dyn Fn(Protocol, &mut Vec<u8>), resp2: &str, resp3: &str| {
            for (protocol, expect) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut out = Vec::new();
                write(protocol, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), expect);
            }
        };
        check(&|p, o| null(p, o), "$-1\r\n", "_\r\n");
        check(&|p, o| null_array(p, o), "*-1\r\n", "_\r\n");
        check(&|p, o| map(p, 2, o), "*4\r\n", "%2\r\n");
        check(&|p, o| set(p, 2, o), "*2\r\n", "~2\r\n");
        check(&|p, o| push(p, 3, o), "*3\r\n", ">3\r\n");
        check(&|p, o| text(p, "hi", o), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(
            &|_, o| integer(i64::MIN, o),
            ":-9223372036854775808\r\n",
            ":-9223372036854775808\r\n",
        );
        check(
            &|_, o| error("ERR a\r\nb", o),
            "-ERR a  b\r\n",
            "-ERR a  b\r\n",
        );
        check(
            &|_, o| request(&["GET", "a"], o),
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        );
    }
}
