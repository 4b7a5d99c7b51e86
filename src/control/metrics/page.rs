//! The two text forms: that of Prometheus (0.0.4) and OpenMetrics 1.0.

use std::fmt::{Display, Write};

/// What kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// A counter whose name without `_total` is that of another family, which OpenMetrics forbids: there it is of no kind.
    LoneCounter,
}

/// A page of figures, written family by family.
pub(super) struct Page {
    out: String,
    open_metrics: bool,
    family: &'static str,
}

impl Page {
    pub(super) fn new(open_metrics: bool, capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity), open_metrics, family: "" }
    }

    /// Begins a family. `name` of a counter ends in `_total`.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        // OpenMetrics has the ending on samples alone.
        let announced = match name.strip_suffix("_total") {
            Some(stem) if self.open_metrics && kind == Kind::Counter => stem,
            _ => name,
        };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::LoneCounter if self.open_metrics => "unknown",
            Kind::LoneCounter => "counter",
        };
        // Writing to a string can't fail.
        let _ = writeln!(self.out, "# HELP {announced} {help}\n# TYPE {announced} {word}");
    }

    /// A sample of the family. `labels`: as [`labels`] makes them.
    pub(super) fn sample(&mut self, labels: &str, value: impl Display) {
        self.part("", labels, value);
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample("", value);
    }

    /// A histogram of the family: how many were in each class (by its upper end), those beyond at last, and the sum of all.
    pub(super) fn histogram(&mut self, labels: &str, ends: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0_u64;
        let comma = if labels.is_empty() { "" } else { "," };
        for (n, count) in counts.iter().enumerate() {
            total = total.saturating_add(*count);
            match ends.get(n) {
                // "1.0", as OpenMetrics wants it.
                Some(end) => self.part("_bucket", &format!("{labels}{comma}le=\"{end:?}\""), total),
                None => self.part("_bucket", &format!("{labels}{comma}le=\"+Inf\""), total),
            }
        }
        self.part("_count", labels, total);
        self.part("_sum", labels, sum);
    }

    fn part(&mut self, end: &str, labels: &str, value: impl Display) {
        let name = self.family;
        let _ = if labels.is_empty() {
            writeln!(self.out, "{name}{end} {value}")
        } else {
            writeln!(self.out, "{name}{end}{{{labels}}} {value}")
        };
    }

    pub(super) fn finish(mut self) -> String {
        if self.open_metrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    pub(super) const fn content_type(open_metrics: bool) -> &'static str {
        if open_metrics {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        }
    }
}

/// `name="value",…`
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (n, (name, value)) in pairs.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

/// Whether a client wants OpenMetrics rather than the older form, by its `Accept` (RFC 9110 12.5.1).
pub(super) fn wants_open_metrics(accept: &str) -> bool {
    let quality = |wanted: &str| -> u32 {
        let parts = accept.split(',').map(|part| {
            let mut parameters = part.split(';').map(str::trim);
            let kind = parameters.next().unwrap_or_default();
            let q = parameters.find_map(|parameter| parameter.strip_prefix("q=")).unwrap_or("1");
            // In thousandths: "0.75".
            let (whole, rest) = q.split_once('.').unwrap_or((q, ""));
            let digits: String = rest.chars().chain("000".chars()).take(3).collect();
            let q = whole.parse::<u32>().unwrap_or(0).min(1) * 1000 + digits.parse::<u32>().unwrap_or(0);
            (kind, q.min(1000))
        });
        parts.filter(|(kind, _)| kind.eq_ignore_ascii_case(wanted)).map(|(_, q)| q).max().unwrap_or(0)
    };
    let open = quality("application/openmetrics-text");
    open > 0 && open >= quality("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(open: bool) -> String {
        let mut page = Page::new(open, 0);
        page.single("a_total", Kind::Counter, "All.", 3);
        page.family("b_seconds", Kind::Histogram, "Times.");
        page.histogram(&labels(&[("x", "a\"b\\c\nd")]), &[0.005, 1.0], &[1, 2, 3], 4.5);
        page.finish()
    }

    #[test]
    fn both_forms() {
        let expected = "# HELP a_total All.\n# TYPE a_total counter\na_total 3\n# HELP b_seconds Times.\n\
            # TYPE b_seconds histogram\nb_seconds_bucket{x=\"a\\\"b\\\\c\\nd\",le=\"0.005\"} 1\n\
            b_seconds_bucket{x=\"a\\\"b\\\\c\\nd\",le=\"1.0\"} 3\nb_seconds_bucket{x=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 6\n\
            b_seconds_count{x=\"a\\\"b\\\\c\\nd\"} 6\nb_seconds_sum{x=\"a\\\"b\\\\c\\nd\"} 4.5\n";
        assert_eq!(page(false), expected);
        let open = expected.replace("HELP a_total", "HELP a").replace("TYPE a_total", "TYPE a") + "# EOF\n";
        assert_eq!(page(true), open);
    }

    #[test]
    fn what_a_client_wants() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(wants_open_metrics(prometheus) && wants_open_metrics("Application/OpenMetrics-Text"));
        for other in [
            "",
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;q=0.2,text/plain",
            "application/openmetrics-text;q=0",
        ] {
            assert!(!wants_open_metrics(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_accept_is_read(accept: String) {
            let _ = wants_open_metrics(&accept);
        }
    }
}
