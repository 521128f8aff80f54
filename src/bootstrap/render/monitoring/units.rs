//! The units: Debian's programs with settings of ours. They are not Debian's units, which a change of a
//! package replaces, and which belong to whoever uses them besides.

use std::fmt::Write as _;

use crate::bootstrap::backup::TEXTFILE;
use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::transport::File;

use super::{ALERTMANAGER, DATA, FOLDER, PROMETHEUS, TURN, USER, at};

/// A program of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Metrics of the host itself.
    NodeExporter,
    /// Tells people.
    Alertmanager,
    /// Scrapes, keeps and judges.
    Prometheus,
    /// Takes metrics of what is too short-lived to be scraped.
    Pushgateway,
}

/// All units that may be ours.
pub const OURS: [&str; 4] = [
    Program::NodeExporter.unit(),
    Program::Alertmanager.unit(),
    Program::Prometheus.unit(),
    Program::Pushgateway.unit(),
];

/// Debian's units, which take the same ports.
pub const DEBIANS: [&str; 4] = [
    "prometheus-node-exporter.service",
    "prometheus-alertmanager.service",
    "prometheus.service",
    "prometheus-pushgateway.service",
];

impl Program {
    /// Every one of them.
    pub const ALL: [Self; 4] =
        [Self::NodeExporter, Self::Alertmanager, Self::Prometheus, Self::Pushgateway];

    /// Its package, and the name of its program.
    pub const fn package(self) -> &'static str {
        match self {
            Self::NodeExporter => "prometheus-node-exporter",
            Self::Alertmanager => "prometheus-alertmanager",
            Self::Prometheus => "prometheus",
            Self::Pushgateway => "prometheus-pushgateway",
        }
    }

    /// Our unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::NodeExporter => "apiproxy-node-exporter.service",
            Self::Alertmanager => "apiproxy-alertmanager.service",
            Self::Prometheus => "apiproxy-prometheus.service",
            Self::Pushgateway => "apiproxy-pushgateway.service",
        }
    }

    /// Where it is asked.
    pub const fn port(self) -> u16 {
        match self {
            Self::NodeExporter => 9100,
            Self::Alertmanager => 9093,
            Self::Prometheus => 9090,
            Self::Pushgateway => 9091,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::NodeExporter => "Metrics of this host",
            Self::Alertmanager => "Alertmanager of the cluster",
            Self::Prometheus => "Prometheus of the cluster",
            Self::Pushgateway => "Pushgateway of the cluster",
        }
    }

    /// Its unit on a host.
    pub(super) fn file(self, cluster: &Cluster, host: &Host) -> File {
        let mut words = vec![format!("/usr/bin/{}", self.package())];
        words.push(format!("--web.listen-address={}", at(host, self.port())));
        words.extend(self.flags(cluster, host));
        let mut text = format!(
            "# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.\n\
             [Unit]\n\
             Description={}\n\
             Wants=network-online.target\n\
             After=network-online.target time-sync.target\n\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             User={USER}\n\
             Group={USER}\n\
             ExecStart={}\n\
             ExecReload=/bin/kill -HUP $MAINPID\n\
             Restart=always\n\
             RestartSec=2\n",
            self.title(),
            words.join(" \\\n    "),
        );
        if let Some(folder) = self.folder() {
            let state = DATA.trim_start_matches("/var/lib/");
            let _ = writeln!(text, "StateDirectory={state}/{folder}\nStateDirectoryMode=0750");
        }
        text.push_str(
            "LimitNOFILE=65536\n\
             TimeoutStopSec=1min\n\
             NoNewPrivileges=yes\n\
             ProtectSystem=full\n",
        );
        if self != Self::NodeExporter {
            text.push_str("ProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\n");
        }
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        File::new(format!("/etc/systemd/system/{}", self.unit()), text)
    }

    /// The folder of what it keeps.
    fn folder(self) -> Option<&'static str> {
        match self {
            Self::NodeExporter => None,
            Self::Alertmanager => Some("alertmanager"),
            Self::Prometheus => Some("prometheus"),
            Self::Pushgateway => Some("pushgateway"),
        }
    }

    fn flags(self, cluster: &Cluster, host: &Host) -> Vec<String> {
        match self {
            Self::NodeExporter => {
                let folder = TEXTFILE.rsplit_once('/').map_or(TEXTFILE, |(folder, _)| folder);
                vec![format!("--collector.textfile.directory={folder}")]
            }
            Self::Alertmanager => {
                let mut flags = vec![
                    format!("--config.file={FOLDER}/{ALERTMANAGER}"),
                    format!("--storage.path={DATA}/alertmanager"),
                ];
                flags.extend(gossip(cluster, host));
                flags
            }
            Self::Prometheus => vec![
                format!("--config.file={FOLDER}/{PROMETHEUS}"),
                format!("--storage.tsdb.path={DATA}/prometheus"),
                format!("--storage.tsdb.retention.time={}", cluster.monitoring.retention),
            ],
            Self::Pushgateway => vec![
                format!("--persistence.file={DATA}/pushgateway/metrics"),
                "--persistence.interval=1m".to_owned(),
            ],
        }
    }
}

/// How Alertmanagers tell each other what was told: TCP and UDP of one port.
fn gossip(cluster: &Cluster, host: &Host) -> Vec<String> {
    const PORT: u16 = 9094;
    let others: Vec<_> =
        cluster.with_role(Role::Monitoring).filter(|other| other.name != host.name).collect();
    if others.is_empty() {
        return vec!["--cluster.listen-address=".to_owned()];
    }
    let own = at(host, PORT);
    let peers = others.into_iter().map(|other| format!("--cluster.peer={}", at(other, PORT)));
    let own = [
        format!("--cluster.listen-address={own}"),
        format!("--cluster.advertise-address={own}"),
        format!("--cluster.peer-timeout={TURN}s"),
        // It waits so long after a start before it tells anybody anything.
        "--cluster.settle-timeout=15s".to_owned(),
    ];
    own.into_iter().chain(peers).collect()
}
