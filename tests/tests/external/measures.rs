//! Series of other systems: a real Prometheus, and a web hook.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;
use weir::rollout::external::{Http, Series, measure};
use weir::rollout::judge::Outcome;
use weir::rollout::spec::{Comparison, Condition, ExternalMetric, Source};
use weir::rollout::time::Seconds;
use weir_tests::pace;
use weir_tests::watch::require;

use super::LONG;
use super::server::{Answer, Server};

/// A Prometheus that scrapes nothing; it ends when it is dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Prometheus {
    fn start() -> Self {
        require("prometheus").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, "scrape_configs: []\n").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self { child, port, _directory: directory };
        let deadline = Instant::now() + pace::wait(Duration::from_secs(20));
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "Prometheus does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        prometheus
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// At least 0.95 is good, less than 0.9 is bad.
fn metric(source: Source) -> ExternalMetric {
    let condition = |comparison, threshold| Some(Condition { comparison, threshold });
    ExternalMetric {
        name: "success".to_owned(),
        source,
        interval: Seconds::new(1),
        success: condition(Comparison::AtLeast, 0.95),
        failure: condition(Comparison::Less, 0.9),
    }
}

async fn outcome(source: Source) -> (Outcome, String) {
    let http = Http::new(None).unwrap();
    let measured = measure::measure(&http, &metric(source)).await;
    assert_eq!(measured.name, "success");
    (measured.outcome, measured.reason)
}

#[tokio::test]
async fn a_real_prometheus_is_asked() {
    let prometheus = Prometheus::start();
    for (query, expected, reason) in [
        ("vector(0.97)", Outcome::Pass, "0.97 is >= 0.95"),
        ("scalar(vector(0.5))", Outcome::Fail, "0.5 is < 0.9"),
        ("vector(0.92)", Outcome::NoData, "0.92 is not < 0.9, and 0.92 is not >= 0.95"),
        ("absent_metric{code=~\"5..\"}", Outcome::NoData, "the result is empty"),
        ("vector(0) / vector(0)", Outcome::NoData, "no number (NaN)"),
        ("vector(1) / 0", Outcome::Pass, "inf is >="),
        (
            "label_replace(vector(1),\"a\",\"b\",\"\",\"\") or vector(2)",
            Outcome::NoData,
            "gives 2 series",
        ),
        ("vector(1)[1m:1s]", Outcome::NoData, "no single number"),
        ("sum(rate(", Outcome::NoData, "the query is refused: "),
        ("\"text\"", Outcome::NoData, "no single number"),
    ] {
        let source = Source::Prometheus { address: prometheus.address(), query: query.to_owned() };
        let (outcome, said) = outcome(source).await;
        assert_eq!(outcome, expected, "{query}: {said}");
        assert!(said.contains(reason), "{query}: {said}");
    }
    let address = prometheus.address();
    drop(prometheus);
    let source = Source::Prometheus { address, query: "vector(1)".to_owned() };
    let (outcome, said) = outcome(source).await;
    assert_eq!(outcome, Outcome::NoData);
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_web_hook_is_asked() {
    for (status, body, expected, reason) in [
        (200, r#"{"value": 0.99, "more": "x"}"#, Outcome::Pass, "0.99 is >= 0.95"),
        (200, r#"{"value": 0}"#, Outcome::Fail, "0 is < 0.9"),
        (200, r#"{"value": null}"#, Outcome::NoData, "the result is empty"),
        (200, r#"{"value": "1"}"#, Outcome::NoData, "not {\"value\": NUMBER}"),
        (500, r#"{"value": 1}"#, Outcome::NoData, "status 500"),
    ] {
        let server = Server::start(vec![Answer::Says(status, body.to_owned())]).await;
        let (outcome, said) = outcome(Source::Webhook { url: server.url() }).await;
        assert_eq!(outcome, expected, "{body}: {said}");
        assert!(said.contains(reason), "{body}: {said}");
    }
}

#[tokio::test]
async fn a_series_is_measured_at_its_interval_until_it_is_dropped() {
    let good = Answer::Says(200, r#"{"value": 1}"#.to_owned());
    let bad = Answer::Says(200, r#"{"value": 0}"#.to_owned());
    let server = Server::start(vec![good, Answer::HangsUp, bad]).await;
    let http = Http::new(None).unwrap();
    let mut series = Series::start(&http, &[metric(Source::Webhook { url: server.url() })]);
    let start = Instant::now();
    for expected in [Outcome::Pass, Outcome::NoData, Outcome::Fail] {
        let measured = timeout(LONG, series.next()).await.unwrap();
        assert_eq!(measured.outcome, expected, "{}", measured.reason);
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    drop(series);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let asked = server.asked().len();
    assert!(asked <= 4, "{asked}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(server.asked().len(), asked);
    let mut nothing = Series::start(&http, &[]);
    let none = timeout(Duration::from_millis(100), nothing.next()).await;
    assert!(none.is_err());
}
