//! A headless Chromium, spoken to through a pair of pipes (Chrome's protocol for developers).

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Running, has_program, wait_for};

/// A browser on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long it may take to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A browser with one page.
pub(crate) struct Browser {
    child: Running,
    /// Its profile and its temporary files.
    _folder: TempDir,
    to: RefCell<ChildStdin>,
    from: Receiver<Value>,
    number: Cell<u64>,
    session: String,
    /// Everything that the page complained of, and every address that it asked for.
    complaints: RefCell<Vec<String>>,
    requests: RefCell<Vec<String>>,
}

impl Browser {
    /// Starts Chromium with an empty profile; `None` when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !has_program("chromium") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ];
        // Chromium reads from descriptor 3 and writes to 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" about:blank 3<&0 4>&1 </dev/null >/dev/null", "sh"])
            .args(flags)
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = RefCell::new(child.stdin.take().unwrap());
        let from = messages(child.stdout.take().unwrap());
        let mut browser = Self {
            child: Running(child),
            _folder: folder,
            to,
            from,
            number: Cell::new(0),
            session: String::new(),
            complaints: RefCell::default(),
            requests: RefCell::default(),
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol and returns its result.
    pub(crate) fn call(&self, method: &str, parameters: &Value) -> Value {
        let number = self.number.get() + 1;
        self.number.set(number);
        let mut message = json!({ "id": number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.to.borrow_mut().write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.from.recv_timeout(PATIENCE).unwrap();
            if answer["id"] == number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" => {
                self.complaints.borrow_mut().push(parameters.to_string());
            }
            "Log.entryAdded" => self.complaints.borrow_mut().push(parameters["entry"].to_string()),
            "Network.requestWillBeSent" => {
                let address = parameters["request"]["url"].as_str().unwrap().to_owned();
                self.requests.borrow_mut().push(address);
            }
            _ => {}
        }
    }

    /// The value of an expression on the page.
    pub(crate) fn evaluate(&self, expression: &str) -> Value {
        let what = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", &what);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Goes to an address.
    pub(crate) fn open(&self, address: &str) {
        self.call("Page.navigate", &json!({ "url": address }));
        wait_for("the page is there", PATIENCE, || {
            let is_there = "document.readyState === 'complete' && location.href !== 'about:blank'";
            self.evaluate(is_there).as_bool().filter(|is_there| *is_there)
        });
    }

    /// What a person reads on the page.
    pub(crate) fn text(&self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Waits until all of these are to be read.
    pub(crate) fn wait_text(&self, within: Duration, texts: &[&str]) {
        wait_for(&format!("{texts:?} on the page"), within, || {
            let text = self.text();
            texts.iter().all(|wanted| text.contains(wanted)).then_some(())
        });
    }

    /// Gives the window a size, and the person a liking for dark or light.
    pub(crate) fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// A picture of the whole page, for people, in the folder of temporary files of the tests.
    pub(crate) fn picture(&self, name: &str) -> String {
        let what = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", &what);
        let data = picture["data"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let file = format!("{}/page-{name}.png", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&file, bytes).unwrap();
        file
    }

    /// What the page complained of so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        // The events before the answer to a call have arrived with it.
        self.evaluate("0");
        self.complaints.borrow().clone()
    }

    /// Every address that was asked for so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.borrow().clone()
    }
}

impl Drop for Browser {
    /// Lets it end by itself, so that nothing of it is left; killed if it does not.
    fn drop(&mut self) {
        let close = json!({ "id": 0, "method": "Browser.close" });
        let told = self.to.borrow_mut().write_all(format!("{close}\0").as_bytes());
        let end = Instant::now() + LAST_WORDS;
        while told.is_ok() && Instant::now() < end {
            if !matches!(self.child.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The messages from the browser, each ended by a zero.
fn messages(stream: impl Read + Send + 'static) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for message in BufReader::new(stream).split(0).map_while(Result::ok) {
            if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                return;
            }
        }
    });
    receiver
}
