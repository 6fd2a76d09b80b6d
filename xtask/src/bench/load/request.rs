//! A request, ready to be sent many times.

use flect_tests::wire;

/// What stands for a random number, as in valkey-benchmark; as long as what it becomes.
const NUMBER: &str = "__rand_int__";
/// What stands for the value.
const VALUE: &str = "__value__";

/// A request's bytes, and where a random number stands in them.
pub struct Request {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
    keys: u64,
}

impl Request {
    /// From its words.
    pub fn new(words: &[String], value_bytes: usize, keys: u64) -> Self {
        let words: Vec<Vec<u8>> = words
            .iter()
            .map(|word| match word.as_str() {
                VALUE => vec![b'x'; value_bytes],
                other => other.as_bytes().to_vec(),
            })
            .collect();
        let bytes = wire::encode(&words);
        let mut numbers = Vec::new();
        // The value cannot hold one, and may be long.
        if words
            .iter()
            .any(|word| word.len() < 100 && holds_number(word))
        {
            let windows = bytes.windows(NUMBER.len()).enumerate();
            numbers.extend(
                windows
                    .filter(|(_, window)| *window == NUMBER.as_bytes())
                    .map(|(at, _)| at),
            );
        }
        Self {
            bytes,
            numbers,
            keys: keys.max(1),
        }
    }

    /// The bytes, when they are the same each time: so a long one need not be copied.
    pub fn same_each_time(&self) -> Option<&[u8]> {
        self.numbers.is_empty().then_some(&self.bytes)
    }

    /// Appends one with random keys.
    pub fn append(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for at in &self.numbers {
            let mut number = fastrand::u64(..self.keys);
            let digits = &mut out[start + at..start + at + NUMBER.len()];
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

fn holds_number(word: &[u8]) -> bool {
    word.windows(NUMBER.len())
        .any(|part| part == NUMBER.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_values_are_filled_in() {
        let words = ["SET", "key:__rand_int__", "__value__"].map(str::to_owned);
        let request = Request::new(&words, 3, 1);
        let mut out = Vec::new();
        request.append(&mut out);
        assert_eq!(request.same_each_time(), None);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$3\r\nxxx\r\n"
        );
    }
}
