//! Shapes of requests, from which the generator makes requests.
//!
//! | in a line | meaning |
//! | --- | --- |
//! | `GET` `'a b'` `"\x00"` | itself |
//! | `$str` `($score` | a word with a value from the [vocabulary](super::vocabulary) in it |
//! | `[ A \| B ]` | one of these, or nothing |
//! | `( A \| B )` | one of these |
//! | `< A >` | one to four times |
//! | `3x` at the beginning | three times as often as others |
//! | `# ...` | a comment |
//!
//! The signs stand alone, between spaces.

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;

use super::vocabulary::Vocabulary;
use crate::quoting;

/// How often `< A >` may come.
const TIMES_MAX: usize = 4;

/// All shapes of one file.
#[derive(Debug)]
pub struct Grammar {
    templates: Vec<Template>,
    weight: usize,
}

#[derive(Debug)]
struct Template {
    weight: usize,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Word(Vec<u8>),
    /// Text and names of values in turn.
    Filled(Vec<(String, String)>),
    Maybe(Vec<Vec<Part>>),
    Choice(Vec<Vec<Part>>),
    Many(Vec<Part>),
}

impl Grammar {
    /// Reads a file of shapes.
    ///
    /// # Errors
    /// With the number of the line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let mut templates = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let template =
                    Template::parse(line).with_context(|| format!("line {}", number + 1))?;
                templates.push(template);
            }
        }
        let weight = templates.iter().map(|template| template.weight).sum();
        ensure!(weight > 0, "no shapes");
        Ok(Self { templates, weight })
    }

    /// A request of any of the shapes.
    ///
    /// # Errors
    /// When a shape names a value that is not in the vocabulary.
    pub fn any(&self, rng: &mut Rng, words: &Vocabulary) -> Result<Vec<Vec<u8>>> {
        let mut chosen = rng.usize(..self.weight);
        for template in &self.templates {
            match chosen.checked_sub(template.weight) {
                Some(rest) => chosen = rest,
                None => return template.fill(rng, words),
            }
        }
        bail!("the weights do not add up")
    }

    /// A request of each shape, in order.
    ///
    /// # Errors
    /// As [`Self::any`].
    pub fn each(&self, rng: &mut Rng, words: &Vocabulary) -> Result<Vec<Vec<Vec<u8>>>> {
        self.templates
            .iter()
            .map(|template| template.fill(rng, words))
            .collect()
    }
}

impl Template {
    fn parse(line: &str) -> Result<Self> {
        let (weight, line) = match line.split_once("x ") {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                (number.parse()?, rest)
            }
            _ => (1, line),
        };
        let mut tokens = tokens(line)?.into_iter();
        let mut alternatives = alternatives(&mut tokens, None)?;
        ensure!(
            alternatives.len() == 1,
            "alternatives stand in ( ) or [ ]: {line}"
        );
        Ok(Self {
            weight,
            parts: alternatives.remove(0),
        })
    }

    fn fill(&self, rng: &mut Rng, words: &Vocabulary) -> Result<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        fill(&self.parts, rng, words, &mut out)?;
        Ok(out)
    }
}

fn fill(parts: &[Part], rng: &mut Rng, words: &Vocabulary, out: &mut Vec<Vec<u8>>) -> Result<()> {
    for part in parts {
        match part {
            Part::Word(word) => out.push(word.clone()),
            Part::Filled(pieces) => {
                let mut word = Vec::new();
                for (text, name) in pieces {
                    word.extend_from_slice(text.as_bytes());
                    if !name.is_empty() {
                        word.extend(words.value(name, rng)?);
                    }
                }
                out.push(word);
            }
            Part::Maybe(_) if !rng.bool() => {}
            Part::Maybe(alternatives) | Part::Choice(alternatives) => {
                fill(
                    &alternatives[rng.usize(..alternatives.len())],
                    rng,
                    words,
                    out,
                )?;
            }
            Part::Many(parts) => {
                for _ in 0..rng.usize(1..=TIMES_MAX) {
                    fill(parts, rng, words, out)?;
                }
            }
        }
    }
    Ok(())
}

/// Words, each with whether it was quoted.
fn tokens(line: &str) -> Result<Vec<(Vec<u8>, bool)>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let is_quoted = rest.starts_with(['"', '\'']);
        // The shortest beginning that is one whole word, up to a space.
        let mut end = 0;
        let word = loop {
            let space = rest[end..].find(' ').map(|space| end + space);
            end = space.unwrap_or(rest.len());
            match quoting::split(&rest[..end]) {
                Ok(mut words) if words.len() == 1 => break words.remove(0),
                Err(error) if end == rest.len() => return Err(error),
                Ok(_) | Err(_) => end += 1,
            }
            ensure!(end <= rest.len(), "an open quote: {line}");
        };
        tokens.push((word, is_quoted));
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

/// Parts up to `close`, in alternatives between `|`.
fn alternatives(
    tokens: &mut dyn Iterator<Item = (Vec<u8>, bool)>,
    close: Option<&[u8]>,
) -> Result<Vec<Vec<Part>>> {
    let mut all = vec![Vec::new()];
    loop {
        let Some((word, is_quoted)) = tokens.next() else {
            ensure!(close.is_none(), "an open bracket");
            return Ok(all);
        };
        if !is_quoted && Some(word.as_slice()) == close {
            return Ok(all);
        }
        let part = match word.as_slice() {
            _ if is_quoted => Part::Word(word),
            b"|" => {
                all.push(Vec::new());
                continue;
            }
            b"[" => Part::Maybe(alternatives(tokens, Some(b"]"))?),
            b"(" => Part::Choice(alternatives(tokens, Some(b")"))?),
            b"<" => {
                let mut inner = alternatives(tokens, Some(b">"))?;
                ensure!(inner.len() == 1, "no alternatives between < and >");
                Part::Many(inner.remove(0))
            }
            b"]" | b")" | b">" => bail!("a bracket closes that was not opened"),
            word if word.contains(&b'$') && word.len() > 1 => {
                Part::Filled(pieces(std::str::from_utf8(word)?))
            }
            _ => Part::Word(word),
        };
        if let Some(last) = all.last_mut() {
            last.push(part);
        }
    }
}

/// `a$b:$c` is a, b, `:`, c.
fn pieces(word: &str) -> Vec<(String, String)> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some((text, after)) = rest.split_once('$') {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
        pieces.push((text.to_owned(), after[..end].to_owned()));
        rest = &after[end..];
    }
    if !rest.is_empty() {
        pieces.push((rest.to_owned(), String::new()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &[&str]) {
        let grammar = Grammar::parse(line).unwrap();
        let words = Vocabulary::new();
        let mut rng = Rng::with_seed(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let args = grammar.any(&mut rng, &words).unwrap();
            let args: Vec<_> = args
                .iter()
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect();
            seen.insert(args.join("."));
        }
        let seen: Vec<_> = seen.into_iter().collect();
        assert_eq!(seen, expect, "{line}");
    }

    #[test]
    fn shapes_give_what_they_say() {
        check("GET a", &["GET.a"]);
        check("A [ B | C 'd e' ]", &["A", "A.B", "A.C.d e"]);
        check("A ( B | [ C ] ) D", &["A.B.D", "A.C.D", "A.D"]);
        check("A < b >", &["A.b", "A.b.b", "A.b.b.b", "A.b.b.b.b"]);
        check("A '[' (1 \"$x\"", &["A.[.(1.$x"]);
        check("A ($one", &["A.(1"]);
    }

    #[test]
    fn mistakes_are_told() {
        for line in [
            "A [ B",
            "A ] B",
            "A < b | c >",
            "A | B",
            "A 'b",
            "# only a comment",
        ] {
            assert!(Grammar::parse(line).is_err(), "{line}");
        }
        let grammar = Grammar::parse("A $nothing_so_called").unwrap();
        assert!(
            grammar
                .any(&mut Rng::with_seed(1), &Vocabulary::new())
                .is_err()
        );
    }
}
