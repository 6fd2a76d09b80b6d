//! A scrape taken apart, by the rules of OpenMetrics and by none of the agent's code.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// One line with a value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// With its suffix, such as `_total`.
    pub name: String,
    /// In the order of their names.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A whole scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Kinds of families.
    pub families: BTreeMap<String, String>,
    /// Everything that has a value.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Takes a text apart.
    ///
    /// # Errors
    /// When it is none that a scraper could take.
    pub fn parse(text: &str) -> Result<Self> {
        let mut scrape = Self::default();
        let body = text.strip_suffix("# EOF\n").context("no end of the text")?;
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').context("no type")?;
                let before = scrape.families.insert(name.to_owned(), kind.to_owned());
                ensure!(before.is_none(), "{name} is there twice");
            } else if !line.starts_with("# HELP ") {
                let sample = sample(line).with_context(|| line.to_owned())?;
                let family = scrape.family(&sample.name);
                ensure!(family.is_some(), "{line}: no family has such samples");
                scrape.samples.push(sample);
            }
        }
        Ok(scrape)
    }

    /// The family of a sample.
    fn family(&self, sample: &str) -> Option<&str> {
        self.families.iter().find_map(|(name, kind)| {
            let suffix = sample.strip_prefix(name.as_str())?;
            let fits = match kind.as_str() {
                "counter" => suffix == "_total",
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                "gauge" => suffix.is_empty(),
                _ => false,
            };
            fits.then_some(name.as_str())
        })
    }

    /// The sum of all samples with these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).map(|sample| sample.value).sum()
    }

    /// The value of the one sample with these labels.
    ///
    /// # Errors
    /// When there is none, or more.
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let found: Vec<_> = self.find(name, labels).collect();
        match found.as_slice() {
            [one] => Ok(one.value),
            other => bail!("{} samples {name} {labels:?}", other.len()),
        }
    }

    /// All samples with these labels, and perhaps others.
    pub fn find<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|found| found == value)
            };
            sample.name == name && labels.iter().all(has)
        })
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (head, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match head.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').context("no end of labels")?),
        None => (head, ""),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    ensure!(!name.is_empty() && name.chars().all(plain), "no name");
    // No value of a label holds a comma: they are names of stores and the agent's own words.
    let labels = labels.split(',').filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (key, value) = label.split_once("=\"").context("no label")?;
        let value = value.strip_suffix('"').context("no end of a label")?;
        Ok((key.to_owned(), value.to_owned()))
    });
    Ok(Sample {
        name: name.to_owned(),
        labels: labels.collect::<Result<_>>()?,
        value: value.parse()?,
    })
}
