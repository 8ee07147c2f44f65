//! A real Prometheus that scrapes the lab's agent.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{http, require};
use crate::lab::Lab;
use crate::process::Process;

/// Where it listens, in the namespace of the balancer host.
const ADDRESS: &str = "127.0.0.1:19090";

/// A Prometheus. Its files are in the lab's directory and go with the lab, which is to outlive it.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

/// One sample of an answer: labels and value.
pub type Sample = (BTreeMap<String, String>, f64);

impl Prometheus {
    /// Starts it on the lab's balancer host, to scrape `target` once a second, with these rules.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not answer.
    pub fn start(lab: &Lab, target: SocketAddr, rules: &Path) -> Result<Self> {
        require("prometheus")?;
        let directory = lab.directory().join("prometheus");
        fs::create_dir(&directory).context("making its directory")?;
        let file = directory.join("prometheus.yml");
        fs::write(
            &file,
            format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
                 rule_files: [\"{}\"]\n\
                 scrape_configs:\n  - job_name: weir\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
                rules.display()
            ),
        )?;
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", directory.join("data").display()),
            format!("--web.listen-address={ADDRESS}"),
            "--log.level=warn".to_owned(),
        ];
        let log = directory.join("log");
        let mut process = Process::start(lab.lb(), "prometheus", &arguments, &log)?;
        let address = ADDRESS.parse()?;
        process
            .wait(|| http::get(lab.lb(), address, "/-/ready", "*/*").is_ok())
            .context("Prometheus")?;
        Ok(Self { _process: process, address })
    }

    /// What a query gives now.
    ///
    /// # Errors
    ///
    /// It is wrong, or Prometheus does not answer.
    pub fn query(&self, lab: &Lab, query: &str) -> Result<Vec<Sample>> {
        let answer = self.api(lab, &format!("/api/v1/query?query={}", http::escape(query)))?;
        let samples = answer["data"]["result"].as_array().context("no result")?;
        let sample = |sample: &Value| -> Result<Sample> {
            let labels = serde_json::from_value(sample["metric"].clone())?;
            let value = sample["value"][1].as_str().context("no value")?;
            Ok((labels, value.parse().context("a value that is no number")?))
        };
        samples.iter().map(sample).collect()
    }

    /// The first number that a query gives, if there is one.
    ///
    /// # Errors
    ///
    /// As in [`Prometheus::query`].
    pub fn number(&self, lab: &Lab, query: &str) -> Result<Option<f64>> {
        Ok(self.query(lab, query)?.first().map(|(_, value)| *value))
    }

    /// The answer of its API.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn api(&self, lab: &Lab, path: &str) -> Result<Value> {
        let text = http::get(lab.lb(), self.address, path, "application/json")?;
        Ok(serde_json::from_str(&text)?)
    }
}
