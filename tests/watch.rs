//! `status --watch`: in place on a terminal, block by block elsewhere, and a clean end.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use apiproxy::admin::{EventStatus, Status};
use common::{Cluster, Proxy, Running, send_signal, wait_for};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const SIGINT: i32 = 2;
const LONG: Duration = Duration::from_secs(10);
const COLUMNS: u16 = 100;

/// `status --watch` on a terminal of its own, and what it wrote there.
struct Terminal {
    child: Running,
    written: Arc<Mutex<Vec<u8>>>,
    /// Kept open, so that reading does not end with the program.
    _screen: File,
}

impl Terminal {
    fn open(proxy: &Proxy, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: rows, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let screen =
            OpenOptions::new().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        let child = Command::new(common::program())
            .args(["status", "--watch", "--admin", &proxy.admin.to_string()])
            .stdin(Stdio::null())
            .stdout(screen.try_clone().unwrap())
            .stderr(screen.try_clone().unwrap())
            .spawn()
            .unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = written.clone();
        let mut master = File::from(master);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child: Running(child), written, _screen: screen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    fn wait_text(&self, text: &str) {
        wait_for(&format!("`{text}` on the terminal"), LONG, || {
            self.text().contains(text).then_some(())
        });
    }

    /// Ends it as Ctrl-C does; returns the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        send_signal(self.child.0.id(), SIGINT);
        wait_for("it ends", LONG, || self.child.0.try_wait().unwrap()).code()
    }
}

#[test]
fn a_terminal_is_redrawn_in_place_and_left_clean() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 300ms, fastInterval: 100ms,", "");
    let mut terminal = Terminal::open(&proxy, 30);
    terminal.wait_text("2 of 2 backends ready");
    terminal.wait_text("unknown -> ready: answers its check");
    cluster.server("cp2").crash();
    terminal.wait_text("1 of 2 backends ready");
    terminal.wait_text("ready -> dead");
    drop(proxy);
    terminal.wait_text("cannot reach apiproxy");
    terminal.wait_text("no answer since 2");
    terminal.wait_text("below is what it said last");
    assert_eq!(terminal.interrupt(), Some(0));
    terminal.wait_text("\x1b[?25h");
    let text = terminal.text();
    assert_eq!(text.matches("\x1b[2J").count(), 1, "cleared once");
    assert!(text.matches("\x1b[1;1H").count() >= 4, "drawn over again and again");
    assert!(text.contains("PROBES") && text.contains("ms"), "{text}");
    for line in text.split("\r\n").filter_map(|line| line.split("\x1b[K").next()) {
        let shown = line.rsplit('H').next().unwrap();
        assert!(shown.chars().count() <= usize::from(COLUMNS), "too wide: {shown}");
    }
}

#[test]
fn a_small_terminal_does_not_scroll() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let mut terminal = Terminal::open(&proxy, 6);
    terminal.wait_text("more lines");
    assert_eq!(terminal.interrupt(), Some(0));
    for screen in terminal.text().split("\x1b[1;1H").skip(1) {
        assert!(screen.matches("\r\n").count() < 6, "it scrolls: {screen:?}");
    }
}

#[test]
fn without_a_terminal_it_is_one_block_or_line_a_second_and_each_event_once() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let run = |arguments: &[&str], enough: &dyn Fn(&str) -> bool| {
        let file = cluster.folder.path().join("watched");
        let mut child = Running(
            Command::new(common::program())
                .args(["status", "--watch", "--admin", &proxy.admin.to_string()])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(File::create(&file).unwrap())
                .spawn()
                .unwrap(),
        );
        let text = || fs::read_to_string(&file).unwrap();
        wait_for("three blocks", LONG, || enough(&text()).then_some(()));
        send_signal(child.0.id(), SIGINT);
        let status = wait_for("it ends", LONG, || child.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        text()
    };
    let blocks = |text: &str| text.matches("2 of 2 backends ready").count();
    let text = run(&[], &|text| blocks(text) == 3);
    assert!(!text.contains('\x1b') && text.ends_with("\n\n"), "{text:?}");
    let lines = run(&["-o", "json"], &|text| text.matches('\n').count() == 3);
    for line in lines.lines() {
        assert_eq!(serde_json::from_str::<Status>(line).unwrap().backends.len(), 2);
    }
    let count = |text: &str, word: &str| text.matches(word).count();
    let events = run(&["--events"], &|text| {
        if count(text, " started ") == 1 && count(text, " reload ") == 0 {
            proxy.replace_config(&proxy.config(&(cluster.lines("") + "zone: a\n")));
            proxy.reload();
        }
        count(text, " reload ") > 0
    });
    assert_eq!((count(&events, "WHAT AND WHY"), count(&events, " started ")), (1, 1), "{events}");
    let lines = run(&["--events", "-o", "json"], &|text| count(text, "\"reload\"") > 0);
    for line in lines.lines() {
        serde_json::from_str::<EventStatus>(line).unwrap();
    }
}
