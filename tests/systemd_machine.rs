//! The units on a machine that is really booted: start, reload, a configuration that is refused, a
//! restart that nobody notices, a crash, and how hard it is there.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use apiproxy::demo::{ApiServer, Authority};

use common::machines::{Lab, Machine};
use common::{program, report, wait_for};

const CONFIG: &str = "/etc/apiproxy/config.yaml";
const LONG: Duration = Duration::from_secs(20);

/// A request through the proxy, as a client on the machine sends it.
const ASK: &str = "curl --silent --show-error --max-time 10 --cacert /etc/apiproxy/ca.crt \
                   https://127.0.0.1:6443/whoami";

/// A machine with the program and its units, and servers on this host.
struct Node {
    machine: Machine,
    servers: Vec<ApiServer>,
}

impl Node {
    fn start(lab: &Lab) -> Self {
        let machine = lab.boot("node");
        let authority = Authority::new("test").unwrap();
        let issued = authority.server().unwrap();
        let address = format!("{}:0", lab.gateway()).parse().unwrap();
        let start = |name| ApiServer::start(name, &issued, address).unwrap();
        let servers = ["cp1", "cp2"].map(start).into();
        machine.push(&program(), "/usr/bin/apiproxy", 0o755);
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        for unit in ["apiproxy.service", "apiproxy.socket"] {
            machine.push(&packaging.join(unit), &format!("/usr/lib/systemd/system/{unit}"), 0o644);
        }
        machine.write("/etc/apiproxy/ca.crt", authority.pem().as_bytes(), 0o644);
        let node = Self { machine, servers };
        node.configure(&node.config(&["cp1", "cp2"]));
        node.machine.exec("systemctl daemon-reload");
        node
    }

    /// A configuration with these servers. A process may connect to the ports alone that its first one
    /// has.
    fn config(&self, names: &[&str]) -> String {
        let servers = self.servers.iter().filter(|server| names.contains(&server.name()));
        let line = |server: &ApiServer| {
            format!("  - {{ name: {}, address: \"{}\" }}\n", server.name(), server.address())
        };
        format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\nbackends:\n{}\
             healthCheck: {{ interval: 1s, tls: {{ caFile: /etc/apiproxy/ca.crt }} }}\n\
             connections: {{ drainTimeout: 3s }}\n",
            servers.map(line).collect::<Vec<_>>().concat()
        )
    }

    /// Replaces the configuration at a stroke.
    fn configure(&self, text: &str) {
        self.machine.write(&format!("{CONFIG}.new"), text.as_bytes(), 0o644);
        self.machine.exec(&format!("mv {CONFIG}.new {CONFIG}"));
    }

    fn property(&self, name: &str) -> String {
        let show = format!("systemctl show --value --property={name} apiproxy.service");
        self.machine.exec(&show).trim().to_owned()
    }

    /// Waits until clients are served.
    fn wait_served(&self) {
        wait_for("a client is served", LONG, || {
            self.machine.attempt(ASK).stdout.contains("\"name\"").then_some(())
        });
    }

    /// Waits until `apiproxy status` shows a text; it needs no flags here.
    fn wait_shown(&self, text: &str) {
        wait_for(&format!("apiproxy status shows {text:?}"), LONG, || {
            self.machine.attempt("apiproxy status").stdout.contains(text).then_some(())
        });
    }

    /// What an operator sees first.
    fn systemctl_status(&self) -> String {
        self.machine.exec("systemctl status --full --no-pager apiproxy.service")
    }

    /// Waits until that shows a text.
    fn wait_told(&self, text: &str) {
        wait_for(&format!("systemctl status tells {text:?}"), LONG, || {
            self.systemctl_status().contains(text).then_some(())
        });
    }
}

#[test]
fn the_units_do_on_a_booted_machine_what_they_say() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let node = Node::start(&lab);
    let began = Instant::now();
    node.machine.exec("systemctl enable --now apiproxy.service");
    node.wait_served();
    assert_eq!(node.property("StatusText"), "serving");
    assert_eq!(node.property("WatchdogUSec"), "30s");
    assert_ne!(node.property("WatchdogTimestampMonotonic"), "0", "no sign of life was seen");
    let exposure = node.machine.exec("systemd-analyze security --no-pager apiproxy.service");
    let exposure = exposure.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let score = exposure.split(' ').find_map(|word| word.parse::<f64>().ok()).unwrap();
    report(&format!("systemd-analyze security on the machine: {score}"));
    assert!(score < 2.0, "{exposure}");
    node.wait_shown("2 of 2 backends ready");

    reload(&node);
    restart_with_sockets(&node);
    survive_a_crash(&node);
    node.machine.exec("systemctl disable --now apiproxy.socket apiproxy.service");
    assert_eq!(node.property("Result"), "success");
    report(&format!("on the booted machine: {:.1} s", began.elapsed().as_secs_f64()));
}

fn reload(node: &Node) {
    let process = node.property("MainPID");
    node.machine.exec("systemctl reload apiproxy");
    node.wait_told("the configuration was read again and is unchanged");
    node.configure(&node.config(&["cp2"]));
    node.machine.exec("systemctl reload apiproxy");
    node.wait_shown("1 of 1 backends ready");
    node.wait_served();

    node.configure(&node.config(&["cp1"]).replace("backends", "backend"));
    node.machine.exec("systemctl reload apiproxy");
    node.wait_told("the last good one stays in force");
    node.wait_told("unknown key `backend`");
    node.wait_shown("unknown key `backend`");
    node.wait_served();
    node.configure(&node.config(&["cp1", "cp2"]));
    node.machine.exec("systemctl reload apiproxy");
    node.wait_shown("2 of 2 backends ready");
    assert_eq!(node.property("MainPID"), process, "it was never restarted");
}

fn restart_with_sockets(node: &Node) {
    node.machine.exec("systemctl stop apiproxy.service");
    node.machine.exec("systemctl enable --now apiproxy.socket");
    // The first client has systemd start it.
    node.wait_served();
    let process = node.property("MainPID");
    // One request is under way, and client after client comes, until ten more were served after the restart.
    let slow = ASK.replace("/whoami", "/slow?ms=2000");
    let script = format!(
        "cd /tmp
         {slow} >slow 2>&1 && echo served >>slow &
         until [ -e enough ]; do
             {ASK} >/dev/null 2>>errors && echo served >>answers || echo failed >>errors
         done &
         served() {{ cat answers 2>/dev/null | wc --lines; }}
         until [ $(served) -gt 3 ]; do sleep 0.05; done
         systemctl restart apiproxy.service
         enough=$(($(served) + 10))
         until [ $(served) -ge $enough ]; do sleep 0.05; done
         touch enough
         wait
         cat slow
         cat errors >&2"
    );
    let outcome = node.machine.attempt(&script);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "a client noticed");
    assert!(outcome.stdout.ends_with("served\n"), "the request under way: {outcome:?}");
    assert_ne!(node.property("MainPID"), process);
}

fn survive_a_crash(node: &Node) {
    let process = node.property("MainPID");
    let killed = Instant::now();
    node.machine.exec(&format!("kill -9 {process}"));
    // With sockets of systemd nobody is refused meanwhile either.
    node.wait_served();
    report(&format!("served again {:.1} s after kill -9", killed.elapsed().as_secs_f64()));
    assert_ne!(node.property("MainPID"), process);
    assert_eq!(node.property("NRestarts"), "1");
}
