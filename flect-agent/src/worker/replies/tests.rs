use super::first_word;

#[test]
fn the_first_word_needs_its_bytes() {
    let frame = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n";
    for length in 0..15 {
        assert_eq!(first_word(&frame[..length]), None, "{length}");
    }
    assert_eq!(first_word(frame), Some(b"message".as_slice()));
    let beyond = format!("*3\r\n${}\r\nmessage\r\n", u64::MAX);
    assert_eq!(first_word(beyond.as_bytes()), None);
}
