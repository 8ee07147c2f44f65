//! A headless Chromium, driven by the protocol of its developer tools over two pipes: JSON, each message ended by
//! a zero byte. No port is opened for it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::require;
use crate::lab::{Lab, Namespace};
use crate::pace;
use crate::process::Process;

/// The longest time for an answer of the browser.
const LIMIT: Duration = Duration::from_secs(30);

/// A browser with one page. Its files are in the lab's directory and go with the lab, which is to
/// outlive it.
#[derive(Debug)]
pub struct Browser {
    // Its end closes the pipes, and that ends the thread that reads.
    _process: Process,
    to: File,
    from: Receiver<Value>,
    session: String,
    last: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// Starts it on the lab's balancer host, with an empty page of this size.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not answer.
    pub fn start(lab: &Lab, (width, height): (u32, u32)) -> Result<Self> {
        require("chromium")?;
        let directory = lab.directory().join("browser");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).context("making its directory")?;
        let (input, output) = (directory.join("in"), directory.join("out"));
        for pipe in [&input, &output] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR).context("making a pipe")?;
        }
        let process = launch(lab.lb(), &directory, (width, height))?;
        // The shell opens them in this order; each waits for the other.
        let open = move || -> std::io::Result<_> {
            Ok((File::options().write(true).open(input)?, File::open(output)?))
        };
        let (opened, pipes) = mpsc::channel();
        // On a thread, for nobody may come; it ends with the program then.
        thread::spawn(move || drop(opened.send(open())));
        let (to, answers) =
            pipes.recv_timeout(pace::wait(LIMIT)).context("opening its pipes")??;
        let (tell, from) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            _process: process,
            to,
            from,
            session: String::new(),
            last: 0,
            complaints: Vec::new(),
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let target = target["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach)?;
        let session = session["sessionId"].as_str().context("no session")?;
        session.clone_into(&mut browser.session);
        browser.call("Page.enable", &json!({}))?;
        browser.call("Runtime.enable", &json!({}))?;
        browser.call("Log.enable", &json!({}))?;
        browser.size((width, height))?;
        Ok(browser)
    }

    /// Goes to a page.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let answer = self.call("Page.navigate", &json!({ "url": url }))?;
        match answer["errorText"].as_str() {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// Makes the page so many points wide and high.
    ///
    /// # Errors
    ///
    /// The browser does not answer.
    pub fn size(&mut self, (width, height): (u32, u32)) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size).map(drop)
    }

    /// Lets the page think that its reader likes `light` or `dark`.
    ///
    /// # Errors
    ///
    /// The browser does not answer.
    pub fn scheme(&mut self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features })).map(drop)
    }

    /// The value of a JavaScript expression in the page.
    ///
    /// # Errors
    ///
    /// It throws, or the browser does not answer.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let call = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let answer = self.call("Runtime.evaluate", &call)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true, for `limit` at most; gives how long it took.
    ///
    /// # Errors
    ///
    /// It does not become true.
    pub fn until(&mut self, expression: &str, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        while self.value(expression)? != Value::Bool(true) {
            if start.elapsed() > pace::wait(limit) {
                let text = self.value("document.body.innerText")?;
                bail!("not after {limit:?}: {expression}; the page says\n{text}");
            }
            sleep(Duration::from_millis(50));
        }
        Ok(start.elapsed())
    }

    /// What the browser has complained of so far: exceptions, and what it did not let the page do.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Presses a key: its name as in `KeyboardEvent.key`, and its code.
    ///
    /// # Errors
    ///
    /// The browser does not answer.
    pub fn press(&mut self, key: &str, code: u32, text: &str) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// A picture of the whole page as PNG, in base64.
    ///
    /// # Errors
    ///
    /// The browser does not answer.
    pub fn picture(&mut self, whole: bool) -> Result<String> {
        let how = json!({ "format": "png", "captureBeyondViewport": whole });
        let answer = self.call("Page.captureScreenshot", &how)?;
        Ok(answer["data"].as_str().context("no picture")?.to_owned())
    }

    /// Calls a method of the protocol: <https://chromedevtools.github.io/devtools-protocol/>.
    ///
    /// # Errors
    ///
    /// It fails, or there is no answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes).with_context(|| format!("sending {method}"))?;
        let deadline = Instant::now() + pace::wait(LIMIT);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut answer =
                self.from.recv_timeout(left).with_context(|| format!("waiting for {method}"))?;
            let event = &answer["params"];
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(event.to_string()),
                Some("Log.entryAdded") if event["entry"]["level"] == "error" => {
                    self.complaints.push(event["entry"]["text"].to_string());
                }
                _ => {}
            }
            if answer["id"] == self.last {
                if let Some(error) = answer.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(answer["result"].take());
            }
        }
    }
}

/// Starts Chromium in `namespace` with file descriptors 3 and 4 on the pipes `in` and `out`.
fn launch(namespace: &Namespace, directory: &Path, (width, height): (u32, u32)) -> Result<Process> {
    let place = directory.display();
    // As root it has no sandbox; it sees nothing but our own page.
    let line = format!(
        "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
         --no-first-run --disable-extensions --disable-background-networking --disable-sync \
         --disable-component-update --no-proxy-server --hide-scrollbars \
         --user-data-dir='{place}/profile' --window-size={width},{height} \
         --remote-debugging-pipe 3<'{place}/in' 4>'{place}/out'"
    );
    let arguments = ["-c".to_owned(), line];
    Process::start(namespace, "sh", &arguments, &directory.join("log"))
}
