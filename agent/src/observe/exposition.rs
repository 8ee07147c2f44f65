//! Text that Prometheus reads: OpenMetrics 1.0, and the older text format 0.0.4. Pure.
//!
//! Written here and not by a library, because the values are those of one look at the node and not
//! of counters that this process keeps; and because the libraries that there are write one of the
//! two formats each, and no `_created`.

use std::fmt::{Display, Write as _};

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4.
    Prometheus,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What a client wants that sends this `Accept`: OpenMetrics if it takes it at least as gladly
    /// as plain text. A field that makes no sense is passed over.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let wish = |media: &str| {
            let ranges = accept.split(',').take(32).filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let asked = parts.next()?;
                let mut quality = 1.0_f32;
                for parameter in parts {
                    match parameter.split_once('=') {
                        Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                        Some(("version", version))
                            if media == OPEN_METRICS && !matches!(version, "1.0.0" | "0.0.1") =>
                        {
                            return None;
                        }
                        _ => {}
                    }
                }
                (asked == media).then_some(quality)
            });
            ranges.fold(0.0_f32, f32::max)
        };
        let open = wish(OPEN_METRICS);
        if open > 0.0 && open >= wish("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text";

/// What the values of a family mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. Its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Count and sum of observations.
    Summary,
    /// Facts in labels; the value is 1. Its samples end in `_info`.
    Info,
}

/// A metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Without the ending that its kind gives to samples.
    pub name: &'static str,
    /// What its values mean.
    pub kind: Kind,
    /// One sentence, without a full stop.
    pub help: &'static str,
}

impl Family {
    /// Its unit, which is the end of its name.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let end = self.name.rsplit('_').next()?;
        let counts = matches!(self.kind, Kind::Info);
        ["seconds", "bytes", "ratio"].into_iter().find(|unit| *unit == end && !counts)
    }

    /// The name of its samples, or of a histogram or summary that before `_bucket`, `_sum` and
    /// `_count`.
    #[must_use]
    pub fn sample_name(&self) -> String {
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram | Kind::Summary => "",
        };
        format!("{}{end}", self.name)
    }
}

/// Labels and their values, as they stand between braces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(String);

impl Labels {
    /// Of these names and values.
    #[must_use]
    pub fn of<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        pairs.into_iter().fold(Self::default(), |labels, (name, value)| labels.with(name, value))
    }

    /// The same and one more.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut text = self.0.clone();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
        Self(text)
    }
}

/// A text in the making.
#[derive(Debug)]
pub struct Text {
    format: Format,
    text: String,
}

impl Text {
    /// Nothing yet.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// Begins a family. Its samples follow; no family begins twice.
    pub fn family(&mut self, family: &Family) {
        let kind = match (self.format, family.kind) {
            (Format::OpenMetrics, Kind::Info) => "info",
            (_, Kind::Counter) => "counter",
            (_, Kind::Gauge | Kind::Info) => "gauge",
            (_, Kind::Histogram) => "histogram",
            (_, Kind::Summary) => "summary",
        };
        let name = match self.format {
            Format::OpenMetrics => family.name.to_owned(),
            Format::Prometheus => family.sample_name(),
        };
        self.line(format_args!("# TYPE {name} {kind}"));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, family.unit()) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {}", family.help));
    }

    /// A sample of a family.
    pub fn sample(&mut self, family: &Family, labels: &Labels, value: impl Display) {
        self.line(format_args!("{}{} {value}", family.sample_name(), Braces(labels)));
    }

    /// Since when a series of a counter, histogram or summary has counted: seconds since 1970.
    pub fn created(&mut self, family: &Family, labels: &Labels, seconds: f64) {
        if self.format == Format::OpenMetrics {
            self.line(format_args!("{}_created{} {seconds}", family.name, Braces(labels)));
        }
    }

    /// A histogram or summary: upper bounds with the count of all below, then count and sum.
    pub fn distribution(
        &mut self,
        family: &Family,
        labels: &Labels,
        buckets: &[(f64, u64)],
        (count, sum): (u64, f64),
    ) {
        let name = family.name;
        if family.kind == Kind::Histogram {
            for (bound, below) in buckets {
                let labels = labels.with("le", &bound.to_string());
                self.line(format_args!("{name}_bucket{} {below}", Braces(&labels)));
            }
            let labels = labels.with("le", "+Inf");
            self.line(format_args!("{name}_bucket{} {count}", Braces(&labels)));
        }
        self.line(format_args!("{name}_count{} {count}", Braces(labels)));
        self.line(format_args!("{name}_sum{} {sum}", Braces(labels)));
    }

    /// The whole text.
    #[must_use]
    pub fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

/// `{…}`, or nothing for no labels.
struct Braces<'a>(&'a Labels);

impl Display for Braces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.0.is_empty() { Ok(()) } else { write!(f, "{{{}}}", self.0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Family = Family { name: "seen_bytes", kind: Kind::Counter, help: "Bytes seen" };

    fn text(format: Format) -> String {
        let mut text = Text::new(format);
        let labels = Labels::of([("a", "b\"\\\n"), ("c", "")]);
        text.family(&SEEN);
        text.sample(&SEEN, &labels, 7);
        text.created(&SEEN, &labels, 1.5);
        let took = Family { name: "took_seconds", kind: Kind::Histogram, help: "Time" };
        text.family(&took);
        text.distribution(&took, &Labels::default(), &[(0.5, 1), (1.0, 2)], (3, 9.25));
        let build = Family { name: "build", kind: Kind::Info, help: "Facts" };
        text.family(&build);
        text.sample(&build, &Labels::of([("v", "1")]), 1);
        text.end()
    }

    #[test]
    fn open_metrics() {
        assert_eq!(
            text(Format::OpenMetrics),
            r#"# TYPE seen_bytes counter
# UNIT seen_bytes bytes
# HELP seen_bytes Bytes seen
seen_bytes_total{a="b\"\\\n",c=""} 7
seen_bytes_created{a="b\"\\\n",c=""} 1.5
# TYPE took_seconds histogram
# UNIT took_seconds seconds
# HELP took_seconds Time
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="1"} 2
took_seconds_bucket{le="+Inf"} 3
took_seconds_count 3
took_seconds_sum 9.25
# TYPE build info
# HELP build Facts
build_info{v="1"} 1
# EOF
"#
        );
    }

    #[test]
    fn the_older_format() {
        assert_eq!(
            text(Format::Prometheus),
            r#"# TYPE seen_bytes_total counter
# HELP seen_bytes_total Bytes seen
seen_bytes_total{a="b\"\\\n",c=""} 7
# TYPE took_seconds histogram
# HELP took_seconds Time
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="1"} 2
took_seconds_bucket{le="+Inf"} 3
took_seconds_count 3
took_seconds_sum 9.25
# TYPE build_info gauge
# HELP build_info Facts
build_info{v="1"} 1
"#
        );
    }

    #[test]
    fn what_a_client_wants() {
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, wanted) in [
            (prometheus_2_42, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html, */*;q=0.8", Format::Prometheus),
            ("application/openmetrics-text;q=0.1, text/plain", Format::Prometheus),
            ("application/openmetrics-text;version=2.0.0", Format::Prometheus),
            ("application/openmetrics-text;q=nonsense", Format::Prometheus),
            (",;,=;q=,", Format::Prometheus),
        ] {
            assert_eq!(Format::negotiate(accept), wanted, "{accept}");
        }
    }
}
