//! Series of other systems, each asked at its interval and held against its conditions.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::super::judge::Outcome;
use super::super::spec::{Condition, ExternalMetric, Source};
use super::Http;
use super::http::one_line;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Measurements that wait to be read; while there are more, none is made.
const MAX_WAITING: usize = 64;

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The metric's name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The number against its conditions, or why there is none, in words.
    pub reason: String,
}

/// The series of one rollout, measured until this is dropped. The first measurement of each is made
/// at once.
#[derive(Debug)]
pub struct Series {
    waiting: mpsc::Receiver<Measured>,
    _tasks: JoinSet<()>,
}

impl Series {
    /// Begins.
    #[must_use]
    pub fn start(http: &Http, metrics: &[ExternalMetric]) -> Self {
        let (tell, waiting) = mpsc::channel(MAX_WAITING);
        let mut tasks = JoinSet::new();
        for metric in metrics {
            tasks.spawn(measure_on(http.clone(), metric.clone(), tell.clone()));
        }
        Self { waiting, _tasks: tasks }
    }

    /// The next measurement; without metrics it waits for ever. To drop the future loses nothing.
    pub async fn next(&mut self) -> Measured {
        match self.waiting.recv().await {
            Some(measured) => measured,
            None => std::future::pending().await,
        }
    }

    /// A measurement that is there.
    pub fn ready(&mut self) -> Option<Measured> {
        self.waiting.try_recv().ok()
    }
}

async fn measure_on(http: Http, metric: ExternalMetric, tell: mpsc::Sender<Measured>) {
    let mut ticks = interval(metric.interval.duration().max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if tell.send(measure(&http, &metric).await).await.is_err() {
            return;
        }
    }
}

/// Makes one measurement.
pub async fn measure(http: &Http, metric: &ExternalMetric) -> Measured {
    let number = match &metric.source {
        Source::Prometheus { address, query } => prometheus(http, address, query).await,
        Source::Webhook { url } => webhook(http, url).await,
    };
    let (outcome, reason) = match number {
        Ok(Some(number)) => held(number, metric.success, metric.failure),
        Ok(None) => (Outcome::NoData, "the result is empty".to_owned()),
        Err(why) => (Outcome::NoData, why),
    };
    Measured { name: metric.name.clone(), outcome, reason }
}

/// What a number says against conditions. Failure is looked at first, as Argo does.
fn held(number: f64, success: Option<Condition>, failure: Option<Condition>) -> (Outcome, String) {
    if number.is_nan() {
        return (Outcome::NoData, "the result is no number (NaN)".to_owned());
    }
    let is = |condition: Condition, holds: bool| {
        format!("{number} is {}{condition}", if holds { "" } else { "not " })
    };
    match (failure, success) {
        (Some(failure), _) if failure.holds(number) => (Outcome::Fail, is(failure, true)),
        (_, Some(success)) if success.holds(number) => (Outcome::Pass, is(success, true)),
        (None, Some(success)) => (Outcome::Fail, is(success, false)),
        (Some(failure), None) => (Outcome::Pass, is(failure, false)),
        (Some(failure), Some(success)) => {
            let reason = format!("{}, and {}", is(failure, false), is(success, false));
            (Outcome::NoData, reason)
        }
        (None, None) => (Outcome::NoData, format!("{number} has no condition")),
    }
}

async fn prometheus(http: &Http, address: &str, query: &str) -> Result<Option<f64>, String> {
    let address = address.trim_end_matches('/');
    let uri = format!("{address}/api/v1/query?query={}", escaped(query));
    let answer = http.get(&uri, LIMIT).await.map_err(|why| format!("{address}: {why}"))?;
    number_of_prometheus(&answer.body).map_err(|why| {
        let status = answer.status;
        format!(
            "{address}: {why}{}",
            if status.is_success() { String::new() } else { format!(" (status {status})") }
        )
    })
}

/// The one number of an instant query's answer; none if the result is empty.
fn number_of_prometheus(body: &[u8]) -> Result<Option<f64>, String> {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
        #[serde(default)]
        error: String,
        data: Option<Data>,
    }
    #[derive(Deserialize)]
    #[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
    enum Data {
        Vector(Vec<Sample>),
        Scalar((f64, String)),
        Matrix(serde::de::IgnoredAny),
        String(serde::de::IgnoredAny),
    }
    #[derive(Deserialize)]
    struct Sample {
        value: (f64, String),
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        format!("the answer is not Prometheus's: {:?}", one_line(&String::from_utf8_lossy(body)))
    })?;
    let value = match answer.data {
        Some(Data::Scalar((_, value))) => value,
        Some(Data::Vector(samples)) => match samples.as_slice() {
            [] => return Ok(None),
            [sample] => sample.value.1.clone(),
            many => {
                return Err(format!(
                    "the query gives {} series; let it give one, as with sum(…)",
                    many.len()
                ));
            }
        },
        Some(Data::Matrix(_) | Data::String(_)) => {
            return Err("the query gives no single number; take a function over it".to_owned());
        }
        None if answer.status == "error" => {
            return Err(format!("the query is refused: {}", one_line(&answer.error)));
        }
        None => return Err("the answer holds no data".to_owned()),
    };
    value.parse().map(Some).map_err(|_| format!("{value:?} is no number"))
}

async fn webhook(http: &Http, url: &str) -> Result<Option<f64>, String> {
    #[derive(Deserialize)]
    struct Body {
        value: Option<f64>,
    }
    let answer = http.get(url, LIMIT).await.map_err(|why| format!("{url}: {why}"))?;
    if !answer.status.is_success() {
        return Err(format!("{url}: status {}: {}", answer.status, answer.told()));
    }
    let body: Result<Body, _> = serde_json::from_slice(&answer.body);
    body.map(|body| body.value)
        .map_err(|_| format!("{url}: it answers {:?}, not {{\"value\": NUMBER}}", answer.told()))
}

/// A text as a part of a query of an address.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::rollout::spec::Comparison;

    #[test]
    fn failure_is_looked_at_first_and_what_meets_neither_says_nothing() {
        let at_least = |threshold| Condition { comparison: Comparison::AtLeast, threshold };
        let less = |threshold| Condition { comparison: Comparison::Less, threshold };
        let (good, bad) = (Some(at_least(0.95)), Some(less(0.9)));
        for (number, success, failure, expected, reason) in [
            (0.97, good, bad, Outcome::Pass, "0.97 is >= 0.95"),
            (0.92, good, bad, Outcome::NoData, "0.92 is not < 0.9, and 0.92 is not >= 0.95"),
            (0.5, good, bad, Outcome::Fail, "0.5 is < 0.9"),
            (0.97, good, Some(less(1.0)), Outcome::Fail, "0.97 is < 1"),
            (0.5, good, None, Outcome::Fail, "0.5 is not >= 0.95"),
            (0.95, good, None, Outcome::Pass, "0.95 is >= 0.95"),
            (0.95, None, bad, Outcome::Pass, "0.95 is not < 0.9"),
            (f64::NAN, good, bad, Outcome::NoData, "no number"),
            (f64::INFINITY, good, bad, Outcome::Pass, "inf is >= 0.95"),
        ] {
            let (outcome, said) = held(number, success, failure);
            assert_eq!(outcome, expected, "{said}");
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn answers_of_prometheus() {
        let success = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
        for (data, expected) in [
            (r#"{"resultType":"vector","result":[]}"#, None),
            (
                r#"{"resultType":"vector","result":[{"metric":{},"value":[1.5,"0.25"]}]}"#,
                Some(0.25),
            ),
            (r#"{"resultType":"scalar","result":[1,"+Inf"]}"#, Some(f64::INFINITY)),
        ] {
            assert_eq!(number_of_prometheus(success(data).as_bytes()).unwrap(), expected, "{data}");
        }
        let nan = success(r#"{"resultType":"scalar","result":[1,"NaN"]}"#);
        assert!(number_of_prometheus(nan.as_bytes()).unwrap().unwrap().is_nan());
        let two = r#"{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}"#;
        for (body, part) in [
            (success(two), "gives 2 series; let it give one"),
            (success(r#"{"resultType":"matrix","result":[]}"#), "no single number"),
            (success(r#"{"resultType":"scalar","result":[1,"one"]}"#), "\"one\" is no number"),
            (r#"{"status":"error","error":"parse error: x"}"#.to_owned(), "refused: parse error"),
            ("<html>".to_owned(), "not Prometheus's: \"<html>\""),
            (r#"{"status":"success"}"#.to_owned(), "no data"),
        ] {
            let said = number_of_prometheus(body.as_bytes()).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("a{b=\"c\"}[1m] ü"), "a%7Bb%3D%22c%22%7D%5B1m%5D%20%C3%BC");
    }
}
