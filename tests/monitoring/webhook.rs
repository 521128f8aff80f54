//! Somebody who is told of alerts: keeps what Alertmanager posts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// `firing` or `resolved`.
    pub(crate) status: String,
    /// Each alert in it as `NAME@INSTANCE`.
    pub(crate) alerts: Vec<String>,
    /// When it came.
    pub(crate) at: Instant,
}

/// Somebody who is told.
pub(crate) struct Webhook {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Webhook {
    /// Listens at this address, at any port.
    pub(crate) fn start(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(stream, &kept));
            }
        });
        Self { address, told }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/alerts", self.address)
    }

    /// All notifications until now.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of one status, each with its alerts in one, sorted.
    pub(crate) fn of(&self, status: &str) -> Vec<String> {
        let told = self.told().into_iter().filter(|told| told.status == status);
        let mut all: Vec<_> = told.map(|told| told.alerts.join("+")).collect();
        all.sort();
        all
    }
}

fn take(stream: TcpStream, kept: &Mutex<Vec<Told>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_mins(10)));
    let mut stream = BufReader::new(stream);
    while let Some(length) = head(&mut stream) {
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |alert: &Value| {
            let labels = &alert["labels"];
            format!("{}@{}", text(&labels["alertname"]), text(&labels["instance"]))
        };
        let alerts = body["alerts"].as_array().into_iter().flatten().map(name).collect();
        let told = Told { status: text(&body["status"]), alerts, at: Instant::now() };
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        let answer = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        if answer.is_err() {
            return;
        }
    }
}

/// Reads the head of a request: the length of its body; none at the end.
fn head(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            return Some(length);
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
}
