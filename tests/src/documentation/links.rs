//! Links between documents lead somewhere, headings included.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tools;

/// Fails with every relative link whose file or heading is not there.
///
/// # Errors
/// When there is one.
pub fn check(documents: &[String]) -> Result<()> {
    let mut broken = Vec::new();
    for name in documents {
        let text = read(name)?;
        let folder = Path::new(name).parent().unwrap_or(Path::new(""));
        for link in targets(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = match file {
                "" => name.clone(),
                file => folder.join(file).to_string_lossy().into_owned(),
            };
            let found = tools::workspace().join(&path).exists()
                && (heading.is_empty() || headings(&read(&path)?).contains(&heading.to_owned()));
            if !found {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    ensure!(
        broken.is_empty(),
        "links to nothing:\n{}",
        broken.join("\n")
    );
    Ok(())
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(tools::workspace().join(name)).with_context(|| format!("reading {name}"))
}

/// What stands in the brackets of links, unless it is on the web.
fn targets(text: &str) -> Vec<&str> {
    let pieces = text.split("](").skip(1);
    let links = pieces.filter_map(|piece| Some(piece.split_once(')')?.0));
    links
        .filter(|link| !link.contains("://") && !link.contains(char::is_whitespace))
        .collect()
}

/// Headings as links name them: lower case, blanks as hyphens, without punctuation.
fn headings(text: &str) -> Vec<String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    let slugs = titles.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    });
    slugs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headings_are_found() {
        let text = "## The operator's `rights`\n[a](b.md#c) ![d](e.svg) [f](https://g)";
        assert_eq!(targets(text), ["b.md#c", "e.svg"]);
        assert_eq!(headings(text), ["the-operators-rights"]);
    }
}
