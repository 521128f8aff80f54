//! The faults, one after another.

use std::time::Duration;

use super::case::Step::{
    Delay, Empty, Expect, FillBacklog, FirstReady, Hang, InTurn, Kill, Launch, Leave, LinkDown,
    LinkUp, Lose, Newcomers, Ready, Replace, Resume, Served, ShortBacklog, Start, StartStranger,
    Unready, Wait,
};
use super::case::{CASE, Case};
use super::lab::Loss;

/// The longest time that a client may be without an answer when a server is silent.
const DARK: Duration = Duration::from_secs(3);

const SECOND: Duration = Duration::from_secs(1);

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// Probes at a pace that brings a test to its end.
const BRISK: &str = "interval: 1s, fastInterval: 200ms,";

const KILLED: Case = Case {
    name: "killed",
    steps: &[Kill(1), Expect(1, "dead"), Empty(1), Served(SECOND)],
    failed: 4,
    ..CASE
};

const HANGS: Case = Case {
    name: "hangs (SIGSTOP)",
    steps: &[Hang(1), Expect(1, "dead"), Served(SECOND), Empty(1)],
    outage: DARK,
    failed: 6,
    resets: (0, 4),
    ..CASE
};

const LINK_DOWN: Case = Case {
    name: "link down",
    steps: &[LinkDown(1), Expect(1, "dead"), Served(SECOND), LinkUp(1), Expect(1, "ready")],
    outage: DARK,
    failed: 6,
    resets: (0, 4),
    ..CASE
};

/// What real kube-apiservers go through.
pub(crate) const REAL_CASES: &[Case] = &[
    KILLED,
    HANGS,
    LINK_DOWN,
    Case {
        name: "graceful shutdown, --shutdown-delay-duration=10s",
        steps: &[Leave(1), Expect(1, "dead"), Served(SECOND)],
        ..CASE
    },
    Case {
        name: "all killed, all return",
        steps: &[
            Kill(1),
            Kill(2),
            Kill(3),
            Expect(1, "dead"),
            Expect(2, "dead"),
            Expect(3, "dead"),
            Launch(1),
            Launch(2),
            Launch(3),
            FirstReady,
            Served(ALL_RETURN),
        ],
        outage: Duration::MAX,
        failed: u64::MAX,
        ..CASE
    },
];

/// A second after the first is ready; and two requests more, which begin 100 ms apart.
const ALL_RETURN: Duration = Duration::from_millis(1200);

pub(crate) const CASES: &[Case] = &[
    KILLED,
    HANGS,
    Case {
        name: "hangs (SIGSTOP), with watches",
        steps: &[Hang(1), Expect(1, "dead"), Empty(1), Served(SECOND), Wait(SECOND)],
        watch: true,
        outage: DARK,
        silence: LONGEST_SILENCE,
        failed: 6,
        resets: (1, 6),
        ..CASE
    },
    Case {
        name: "hangs (SIGSTOP), under silent watches alone",
        steps: &[Hang(1), Expect(1, "dead"), Empty(1), Wait(SECOND)],
        watch: true,
        period: Duration::from_hours(1),
        outage: Duration::MAX,
        silence: LONGEST_SILENCE_UNASKED,
        resets: (1, 12),
        ..CASE
    },
    LINK_DOWN,
    Case {
        name: "sent packets lost",
        steps: &[Lose(1, Loss::Sent), Expect(1, "dead"), Served(SECOND), Wait(SECOND)],
        outage: DARK,
        failed: 6,
        resets: (0, 4),
        ..CASE
    },
    Case {
        name: "received packets lost",
        steps: &[Lose(1, Loss::Received), Expect(1, "dead"), Served(SECOND), Wait(SECOND)],
        outage: DARK,
        failed: 6,
        resets: (0, 4),
        ..CASE
    },
    Case {
        name: "reset by a firewall",
        steps: &[Lose(1, Loss::Refused), Expect(1, "dead"), Empty(1), Served(SECOND)],
        failed: 6,
        ..CASE
    },
    Case {
        name: "certificate of another CA after a restart",
        steps: &[Kill(1), StartStranger(1), Expect(1, "dead"), Empty(1), Served(SECOND)],
        outage: SECOND,
        failed: 12,
        resets: (0, 4),
        ..CASE
    },
    Case {
        name: "/readyz 500",
        check: BRISK,
        more: "connections: { drainTimeout: 2s }\nrebalance: { quietFor: 60ms }\n",
        steps: &[Unready(1), Expect(1, "notReady"), Empty(1), Newcomers(3, SECOND)],
        dead: false,
        ..CASE
    },
    Case {
        name: "graceful shutdown",
        steps: &[
            Unready(1),
            Wait(Duration::from_secs(10)),
            Leave(1),
            Expect(1, "dead"),
            Served(SECOND),
        ],
        ..CASE
    },
    Case {
        name: "rolling restart of all three, with a drain",
        check: BRISK,
        more: "connections: { drainTimeout: 5s }\n",
        steps: &[
            InTurn(&[
                Unready,
                |_| Wait(Duration::from_secs(7)),
                Leave,
                |n| Expect(n, "dead"),
                Start,
                |n| Expect(n, "ready"),
            ]),
            Served(SECOND),
        ],
        ..CASE
    },
    Case {
        name: "overload: one answers after 5 s",
        loads: 2 * CASE.loads,
        steps: &[Delay(1, FIVE_SECONDS), Wait(Duration::from_secs(14)), Expect(1, "notReady")],
        patience: Duration::from_secs(30),
        outage: Duration::from_millis(5500),
        dead: false,
        ..CASE
    },
    Case {
        name: "overload: all answer after 5 s",
        loads: 2 * CASE.loads,
        steps: &[
            Delay(1, FIVE_SECONDS),
            Delay(2, FIVE_SECONDS),
            Delay(3, FIVE_SECONDS),
            Wait(Duration::from_secs(10)),
            Expect(2, "notReady"),
            Served(Duration::from_secs(6)),
        ],
        patience: Duration::from_secs(30),
        outage: Duration::from_millis(5500),
        dead: false,
        ..CASE
    },
    Case {
        name: "flapping every 2 s",
        steps: &[
            Hang(1),
            Wait(Duration::from_secs(2)),
            Resume(1),
            Wait(Duration::from_secs(2)),
            Hang(1),
            Wait(Duration::from_secs(2)),
            Resume(1),
            Wait(Duration::from_secs(2)),
            Hang(1),
            Wait(Duration::from_secs(2)),
            Resume(1),
            Expect(1, "ready"),
            Served(SECOND),
        ],
        outage: DARK,
        failed: 12,
        resets: (0, 4),
        ..CASE
    },
    Case {
        name: "all killed, one returns",
        steps: &[
            Kill(1),
            Kill(2),
            Kill(3),
            Expect(1, "dead"),
            Expect(2, "dead"),
            Expect(3, "dead"),
            Wait(Duration::from_secs(2)),
            Start(2),
            Served(SECOND),
            Newcomers(2, SECOND),
            Expect(2, "ready"),
        ],
        outage: Duration::from_secs(10),
        failed: u64::MAX,
        ..CASE
    },
    Case {
        name: "all unready",
        check: BRISK,
        more: "connections: { drainTimeout: 2s }\nrebalance: { quietFor: 60ms }\n",
        steps: &[
            Unready(1),
            Unready(2),
            Unready(3),
            Expect(1, "notReady"),
            Expect(2, "notReady"),
            Expect(3, "notReady"),
            Newcomers(3, SECOND),
            Wait(Duration::from_secs(3)),
            Ready(2),
            Expect(2, "ready"),
        ],
        dead: false,
        ..CASE
    },
    Case {
        name: "backlog full",
        before: &[ShortBacklog(1), Start(1), Wait(SECOND), Hang(1), FillBacklog(1)],
        steps: &[Newcomers(4, SECOND), Expect(1, "dead"), Served(SECOND)],
        outage: SECOND,
        ..CASE
    },
    Case {
        name: "another host at the address",
        steps: &[
            LinkDown(1),
            Wait(SECOND),
            Replace(1),
            Wait(SECOND),
            Served(SECOND),
            Expect(1, "ready"),
            Newcomers(3, SECOND),
        ],
        outage: DARK,
        failed: 6,
        resets: (0, 4),
        ..CASE
    },
];

/// A silent watch of a dead server is cut 5 to 10 s after that was found out.
const LONGEST_SILENCE: Duration = Duration::from_secs(14);

/// When nobody asks the server anything, steady probes find out, within 11 s and two fast ones.
const LONGEST_SILENCE_UNASKED: Duration = Duration::from_secs(26);
