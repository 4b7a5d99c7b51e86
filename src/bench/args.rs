use std::collections::BTreeMap;
use std::str::FromStr;

use super::{BenchError, Result};

/// Options as `--name value`, switches as `--name`.
#[derive(Debug, Default)]
pub(super) struct Args(BTreeMap<String, String>);

impl Args {
    pub(super) fn parse(
        line: impl IntoIterator<Item = String>,
        options: &[&str],
        switches: &[&str],
    ) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut line = line.into_iter();
        while let Some(word) = line.next() {
            let name = word.strip_prefix("--").unwrap_or_default();
            let value = if switches.contains(&name) {
                String::new()
            } else if options.contains(&name) {
                line.next().ok_or_else(|| BenchError::Usage(format!("{word} needs a value")))?
            } else {
                return Err(BenchError::Usage(format!("unexpected {word:?}")));
            };
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).ok_or_else(|| BenchError::Usage(format!("--{name} is missing")))
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(BenchError::Usage(format!("--{name} {text:?} is not a number in its range"))),
        }
    }

    /// Bits a second, e.g. `500k`, `1.1M`.
    pub(super) fn rate(&self, name: &str) -> Result<Option<u32>> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let (digits, unit) = match text.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1e3),
            None => text.strip_suffix('M').map_or((text.as_str(), 1.0), |digits| (digits, 1e6)),
        };
        match digits.parse::<f64>().map(|n| n * unit) {
            // A rate within u32: the cast is exact to one bit a second.
            Ok(rate) if (1e3..=1e9).contains(&rate) => Ok(Some(rate as u32)),
            _ => {
                Err(BenchError::Usage(format!("--{name} {text:?} is not a rate such as 1.1M (1k to 1000M)")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args> {
        Args::parse(line.split_whitespace().map(str::to_owned), &["url", "count", "bitrate"], &["audio"])
    }

    #[test]
    fn options_and_switches() {
        let args = args("--url rtmp://h/a/s --audio --count 5 --bitrate 1.1M").unwrap();
        assert_eq!(args.text("url").unwrap(), "rtmp://h/a/s");
        assert!(args.switch("audio"));
        assert_eq!(args.number::<usize>("count").unwrap(), Some(5));
        assert_eq!(args.rate("bitrate").unwrap(), Some(1_100_000));
        assert_eq!(args.number::<usize>("url2").unwrap(), None);
    }

    #[test]
    fn mistakes_are_told() {
        for (line, word) in [("--fly", "--fly"), ("url", "url"), ("--url", "needs a value")] {
            assert!(args(line).unwrap_err().to_string().contains(word));
        }
        assert!(args("").unwrap().text("url").unwrap_err().to_string().contains("--url is missing"));
        assert!(args("--count x").unwrap().number::<u32>("count").is_err());
        for rate in ["0", "M", "1.1G", "-5k", "2000M"] {
            assert!(args(&format!("--bitrate {rate}")).unwrap().rate("bitrate").is_err(), "{rate}");
        }
    }
}
