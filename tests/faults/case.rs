//! One fault: what happens to which server, under which load, and what clients may notice of it.

use std::cell::Cell;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use apiproxy::demo::{ApiServer, Dialer, Load, LoadOptions, LoadStats};

use super::cast::{Cast, STRANGER, TRUSTED};
use super::common::{ANY_PORT, Proxy, wait_for};
use super::lab::{Lab, Loss, address, endpoint, host};
use super::server::Server;

/// The machine's own pauses that a bound includes. Those that the control client sees beyond it are
/// added to the bound.
const USUAL_PAUSE: Duration = Duration::from_millis(200);

/// The longest time without an answer when a server says that it is gone: 0.2 s, and half a second for
/// what two busy cores add to one request.
const AT_ONCE: Duration = Duration::from_millis(700);

/// Longer than a backend takes to change its state at the default pace of probes: 11 s and two
/// fast ones.
const LONG: Duration = Duration::from_secs(15);

/// What happens next. Servers are numbered from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// SIGKILL.
    Kill(u8),
    /// A new process, with a certificate that the proxy trusts, which serves.
    Start(u8),
    /// A new process that will serve when it is ready.
    Launch(u8),
    /// One server is ready again, or comes to it in time; it is asked itself.
    FirstReady,
    /// The same for each server, one after another.
    InTurn(&'static [fn(u8) -> Step]),
    /// A new process, with a certificate of another authority.
    StartStranger(u8),
    /// Another host with another server at this address.
    Replace(u8),
    /// SIGSTOP.
    Hang(u8),
    /// SIGCONT.
    Resume(u8),
    /// `/readyz` answers 500.
    Unready(u8),
    /// `/readyz` answers 200.
    Ready(u8),
    /// All requests are answered so late.
    Delay(u8, Duration),
    /// Takes no connections any more, sends GOAWAY, answers what it was asked, and ends.
    Leave(u8),
    /// The host's cable is out.
    LinkDown(u8),
    /// The cable is in again.
    LinkUp(u8),
    /// The host loses packets.
    Lose(u8, Loss),
    /// The next process there has a backlog of one, which is filled here once it hangs.
    ShortBacklog(u8),
    /// Fills the backlog.
    FillBacklog(u8),
    /// The clients go on for so long.
    Wait(Duration),
    /// The backend is in this state, or comes to it in time.
    Expect(u8, &'static str),
    /// The backend has no connections, or loses them in time.
    Empty(u8),
    /// Every client has an answer again so soon.
    Served(Duration),
    /// So many new connections have an answer each, and the slowest of them so soon.
    Newcomers(usize, Duration),
}

/// A fault and what clients may notice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What `healthCheck` says besides the CA, ending with a comma.
    pub(crate) check: &'static str,
    /// Further lines of the configuration.
    pub(crate) more: &'static str,
    /// Before the clients come.
    pub(crate) before: &'static [Step],
    pub(crate) steps: &'static [Step],
    /// Clients. They are spread over the servers evenly.
    pub(crate) loads: usize,
    /// Time between the starts of two requests of a client.
    pub(crate) period: Duration,
    /// How long a client waits for an answer.
    pub(crate) patience: Duration,
    /// Are there as many clients more that watch as well? They come when the others are spread.
    pub(crate) watch: bool,
    /// The longest time that any client may be without an answer.
    pub(crate) outage: Duration,
    /// The longest time that any watch may be without an event, which come once a second.
    pub(crate) silence: Duration,
    /// Requests that may fail, of all clients together.
    pub(crate) failed: u64,
    /// Connections that the proxy resets.
    pub(crate) resets: (u32, u32),
    /// May a backend be declared dead?
    pub(crate) dead: bool,
}

/// A case of which only some things are special.
pub(crate) const CASE: Case = Case {
    name: "",
    check: "",
    more: "",
    before: &[],
    steps: &[],
    loads: 6,
    period: Duration::from_millis(100),
    patience: Duration::from_secs(2),
    watch: false,
    outage: AT_ONCE,
    silence: Duration::MAX,
    failed: 0,
    resets: (0, 0),
    dead: true,
};

/// What was noticed.
pub(crate) struct Outcome {
    pub(crate) stats: LoadStats,
    /// The longest time that a client without a proxy was without an answer of a server without
    /// faults: what the machine adds.
    pub(crate) pause: Duration,
    pub(crate) resets: f64,
    /// How long it took until every client had an answer again, the longest of all that were
    /// waited for.
    pub(crate) again: Duration,
    died: bool,
}

impl Case {
    /// Plays it.
    pub(crate) fn run(&self, lab: &Lab, cast: &Cast) -> Outcome {
        lab.heal();
        let (authority, client) = (cast.authority(), cast.client());
        let mut stage = Stage { lab, cast, servers: [None, None, None] };
        (1..=3).for_each(|server| stage.launch(server, TRUSTED));
        (1..=3).for_each(|server| stage.wait_serving(server));
        let backends: String = (1..=3).fold(String::new(), |list, n| {
            format!("{list}  - {{ name: {}, address: \"{}\" }}\n", host(n), address(n))
        });
        let config = format!(
            "healthCheck: {{ {} tls: {{ caFile: \"{}\" }} }}\nbackends:\n{backends}{}",
            self.check,
            cast.ca_file().display(),
            self.more
        );
        let control = ApiServer::start("control", &authority.server().unwrap(), ANY_PORT).unwrap();
        let proxy = Proxy::start(cast.folder(), &config);
        proxy.wait_ready(3);
        let mut scene = Scene { proxy, dialer: None, loads: Vec::new(), again: Cell::default() };
        self.before.iter().for_each(|step| stage.play(step, &scene));
        let dialer = Dialer::new(scene.proxy.listen, authority, client).unwrap();
        for watches in 0..=usize::from(self.watch) {
            let options = LoadOptions { period: self.period, timeout: self.patience, watches };
            for _ in 0..self.loads {
                let load = Load::start(dialer.clone(), options).unwrap();
                wait_first_answer(&load, LONG);
                scene.loads.push(load);
            }
        }
        scene.dialer = Some(dialer);
        let direct = Dialer::new(control.address(), authority, None).unwrap();
        let direct = Load::start(direct, LoadOptions::default()).unwrap();
        self.steps.iter().for_each(|step| stage.play(step, &scene));
        let pause = direct.stats().longest_outage;
        let stats = scene.loads.iter().map(Load::stats).fold(LoadStats::none(), LoadStats::merge);
        let resets = ["reason=\"backendDead\"", "reason=\"backendTimeout\""]
            .map(|reason| scene.proxy.metric("apiproxy_connections_closed_total", &[reason]));
        let died = scene.proxy.log_text().contains("to=dead");
        Outcome { stats, pause, resets: resets.iter().sum(), again: scene.again.get(), died }
    }

    /// What is wrong with an outcome.
    pub(crate) fn faults(&self, outcome: &Outcome) -> Vec<String> {
        let Outcome { stats, pause, resets, died, .. } = outcome;
        let noise = pause.saturating_sub(USUAL_PAUSE);
        let (least, most) = (f64::from(self.resets.0), f64::from(self.resets.1));
        let checks = [
            (
                stats.longest_outage <= self.outage.saturating_add(noise),
                format!("{:?} without an answer", stats.longest_outage),
            ),
            (
                stats.longest_silence <= self.silence.saturating_add(noise),
                format!("a watch silent for {:?}", stats.longest_silence),
            ),
            (
                stats.failed <= self.failed,
                format!("{} failed, last: {:?}", stats.failed, stats.last_error),
            ),
            ((least..=most).contains(resets), format!("{resets} resets, not {least} to {most}")),
            (self.dead || !died, "a backend was declared dead".to_owned()),
        ];
        let wrong = checks.into_iter().filter(|(good, _)| !good);
        wrong.map(|(_, what)| format!("{}: {what}", self.name)).collect()
    }
}

/// The servers.
struct Stage<'a> {
    lab: &'a Lab,
    cast: &'a Cast,
    servers: [Option<Server>; 3],
}

/// Proxy and clients.
struct Scene {
    proxy: Proxy,
    dialer: Option<Dialer>,
    loads: Vec<Load>,
    again: Cell<Duration>,
}

impl Stage<'_> {
    fn play(&mut self, step: &Step, scene: &Scene) {
        match *step {
            Step::Kill(n) => self.server(n).kill(),
            Step::Start(n) => self.start(n, TRUSTED),
            Step::StartStranger(n) => self.start(n, STRANGER),
            Step::Launch(n) => self.launch(n, TRUSTED),
            Step::FirstReady => self.cast.wait_first_ready(),
            Step::InTurn(steps) => {
                (1..=3).for_each(|n| steps.iter().for_each(|step| self.play(&step(n), scene)));
            }
            Step::Replace(n) => {
                self.servers[usize::from(n) - 1] = None;
                self.lab.replace(n);
                self.start(n, TRUSTED);
            }
            Step::Hang(n) => self.server(n).signal(libc::SIGSTOP),
            Step::Resume(n) => self.server(n).signal(libc::SIGCONT),
            Step::Unready(n) => self.server(n).ready(false),
            Step::Ready(n) => self.server(n).ready(true),
            Step::Delay(n, delay) => self.server(n).delay(delay),
            Step::Leave(n) => self.server(n).leave(),
            Step::LinkDown(n) => self.lab.link(n, false),
            Step::LinkUp(n) => self.lab.link(n, true),
            Step::Lose(n, loss) => self.lab.lose(n, loss),
            Step::ShortBacklog(n) => self.lab.backlog(n, 1),
            Step::FillBacklog(n) => fill(n),
            Step::Wait(time) => std::thread::sleep(time),
            Step::Expect(n, state) => scene.proxy.wait_state(&host(n), state, LONG),
            Step::Empty(n) => {
                let label = format!("backend=\"{}\"", host(n));
                wait_for("the backend has no connections", LONG, || {
                    let open = scene.proxy.metric("apiproxy_connections_active", &[&label]);
                    (open < 0.5).then_some(())
                });
            }
            Step::Served(within) => {
                let begin = Instant::now();
                scene.wait_answered(within);
                scene.again.set(scene.again.get().max(begin.elapsed()));
            }
            Step::Newcomers(count, within) => scene.newcomers(count, within),
        }
    }

    fn start(&mut self, server: u8, certificate: &str) {
        self.launch(server, certificate);
        self.wait_serving(server);
    }

    fn launch(&mut self, server: u8, certificate: &str) {
        let slot = &mut self.servers[usize::from(server) - 1];
        *slot = None;
        *slot = Some(self.cast.launch(self.lab, server, certificate));
    }

    fn wait_serving(&self, server: u8) {
        self.cast.wait_serving(server);
    }

    fn server(&mut self, number: u8) -> &mut Server {
        self.servers[usize::from(number) - 1].as_mut().unwrap()
    }
}

impl Scene {
    /// Waits until every client has one more answer.
    fn wait_answered(&self, within: Duration) {
        let before: Vec<_> = self.loads.iter().map(|load| load.stats().ok).collect();
        wait_for("every client has an answer", within, || {
            let mut loads = self.loads.iter().zip(&before);
            loads.all(|(load, before)| load.stats().ok > *before).then_some(())
        });
    }

    /// New clients, one after another.
    fn newcomers(&self, count: usize, within: Duration) {
        for _ in 0..count {
            let load = Load::start(self.dialer.clone().unwrap(), LoadOptions::default()).unwrap();
            wait_first_answer(&load, within);
        }
    }
}

fn wait_first_answer(load: &Load, within: Duration) {
    wait_for("a new client has an answer", within, || (load.stats().ok > 0).then_some(()));
}

/// Makes connections that a hung server does not accept, until the kernel lets no more in.
fn fill(server: u8) {
    let brief = Duration::from_millis(300);
    let dial = || TcpStream::connect_timeout(&endpoint(server), brief);
    let held = (0..16).map_while(|_| dial().ok()).collect::<Vec<_>>();
    assert!(held.len() < 16, "the backlog has no end");
    // They stay in the queue: nobody takes them out of it.
    drop(held);
}
