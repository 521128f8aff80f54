//! From the keys as written to a [`Config`] that cannot be wrong.

mod addresses;
mod clusters;
mod discovery;
mod tls;

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use hyper::http::uri::PathAndQuery;

use super::document::Document;
use super::faults::{Fault, Faults, Place, quoted};
use super::overrides::flag_for;
use super::{
    Config, Connect, Connections, Hardening, HealthCheck, Log, Overrides, Rebalance, shape,
};
use crate::model::Zone;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// What validation needs besides the values.
pub(super) struct Surroundings<'a> {
    /// The file's document, for the places of values.
    pub(super) document: Option<&'a Document>,
    /// The flags; already applied to the values.
    pub(super) overrides: &'a Overrides,
    /// The folder that relative paths of the file start from.
    pub(super) base: &'a Path,
    /// The host that the configuration is for.
    pub(super) host: ThisHost<'a>,
}

/// What validation goes by besides the text.
#[derive(Clone, Copy)]
pub(super) struct ThisHost<'a> {
    /// The CA to use when none is given, provided it exists.
    pub(super) default_ca: &'a Path,
    /// Is this an address of the host? Asked only where a wildcard listens at a backend's port.
    pub(super) is_own: fn(IpAddr) -> bool,
}

/// Turns the values into a configuration. Every fault is noted; with any, the result is for the
/// bin.
pub(super) fn config(
    mut raw: shape::Proxy,
    around: Surroundings<'_>,
    faults: &mut Faults,
) -> Config {
    let mut check = Check { around, faults, within: String::new() };
    let admin = check.admin(raw.admin.take().unwrap_or_default());
    let above = raw.take_cluster();
    let clusters = match raw.clusters.take() {
        None => vec![check.cluster(None, above, admin.listen)],
        Some(list) => check.clusters(list, &above, admin.listen),
    };
    let log = raw.log.unwrap_or_default();
    Config {
        clusters,
        admin,
        hardening: Hardening {
            enabled: raw.hardening.and_then(|hardening| hardening.enabled).unwrap_or(true),
        },
        threads: NonZeroUsize::new(check.number("threads", raw.threads, 1, 1..=64))
            .unwrap_or(NonZeroUsize::MIN),
        log: Log { format: log.format.unwrap_or_default(), level: log.level.unwrap_or_default() },
    }
}

/// A validation in progress.
struct Check<'a, 'f> {
    around: Surroundings<'a>,
    faults: &'f mut Faults,
    /// The path of the cluster that is looked at, such as `clusters[1]`; empty without `clusters`.
    within: String,
}

impl Check<'_, '_> {
    fn health_check(&mut self, raw: shape::HealthCheck) -> HealthCheck {
        let kind = raw.kind.unwrap_or_default();
        let interval = self.duration(
            "healthCheck.interval",
            raw.interval,
            10 * SECOND,
            Duration::from_millis(100)..=HOUR,
        );
        let fast_interval = self.pace(
            ("healthCheck.fastInterval", raw.fast_interval, Duration::from_millis(500)),
            Duration::from_millis(50),
            ("healthCheck.interval", interval),
        );
        HealthCheck {
            kind,
            path: self.probe_path(raw.path),
            interval,
            fast_interval,
            timeout: self.duration(
                "healthCheck.timeout",
                raw.timeout,
                SECOND,
                Duration::from_millis(50)..=MINUTE,
            ),
            rise: self.count("healthCheck.rise", raw.rise),
            fall: self.count("healthCheck.fall", raw.fall),
            tls: self.tls(raw.tls, kind, raw.kind.is_some()),
        }
    }

    fn connect(&mut self, raw: &shape::Connect) -> Connect {
        let shortest = Duration::from_millis(10);
        let timeout = self.duration("connect.timeout", raw.timeout, SECOND, shortest..=MINUTE);
        let hedge_after = self.pace(
            ("connect.hedgeAfter", raw.hedge_after, Duration::from_millis(200)),
            Duration::ZERO,
            ("connect.timeout", timeout),
        );
        Connect { timeout, hedge_after }
    }

    fn rebalance(&mut self, raw: &shape::Rebalance) -> Rebalance {
        let second = SECOND..=HOUR;
        Rebalance {
            enabled: raw.enabled.unwrap_or(true),
            after: self.duration("rebalance.after", raw.after, 30 * SECOND, Duration::ZERO..=HOUR),
            window: self.duration("rebalance.window", raw.window, 5 * MINUTE, second),
            quiet_for: self.duration(
                "rebalance.quietFor",
                raw.quiet_for,
                2 * SECOND,
                Duration::from_millis(50)..=MINUTE,
            ),
        }
    }

    fn connections(&mut self, raw: &shape::Connections) -> Connections {
        let max = self.number("connections.max", raw.max, 16_384, 1..=1_000_000);
        Connections {
            max: NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN),
            keepalive: self.duration(
                "connections.keepalive",
                raw.keepalive,
                15 * SECOND,
                SECOND..=2 * HOUR,
            ),
            user_timeout: self.duration(
                "connections.userTimeout",
                raw.user_timeout,
                5 * SECOND,
                Duration::from_millis(100)..=HOUR,
            ),
            drain_timeout: self.duration(
                "connections.drainTimeout",
                raw.drain_timeout,
                MINUTE,
                Duration::ZERO..=24 * HOUR,
            ),
        }
    }

    fn probe_path(&mut self, raw: Option<String>) -> String {
        let at = "healthCheck.path";
        let path = raw.unwrap_or_else(|| "/readyz".to_owned());
        let message = if !path.starts_with('/') {
            format!("{} does not begin with `/`", quoted(&path))
        } else if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            format!("{} holds a blank or a control character", quoted(&path))
        } else if PathAndQuery::try_from(&path).map_or(true, |parsed| parsed.as_str() != path) {
            format!("{} is not the path of a URL", quoted(&path))
        } else {
            return path;
        };
        self.hinted(at, message, "write it as in a URL, such as /readyz or /readyz?verbose");
        path
    }

    /// A failure domain.
    fn zone(&mut self, at: &str, raw: Option<String>) -> Option<Zone> {
        raw.filter(|text| self.is_label(at, text)).map(Zone::from)
    }

    /// Can this text be a name in logs, labels and commands?
    fn is_label(&mut self, at: &str, text: &str) -> bool {
        let visible = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`');
        let ok = (1..=253).contains(&text.len()) && text.chars().all(visible);
        if !ok {
            let message = format!("{} cannot be a name", quoted(text));
            self.hinted(at, message, "use 1 to 253 visible ASCII characters, no blanks or quotes");
        }
        ok
    }

    fn count(&mut self, at: &str, raw: Option<i128>) -> NonZeroU32 {
        u32::try_from(self.number(at, raw, 2, 1..=100))
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN)
    }

    fn number(
        &mut self,
        at: &str,
        raw: Option<i128>,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let Some(raw) = raw else { return default };
        match usize::try_from(raw) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.fault(at, format!("{raw} is outside {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    fn duration(
        &mut self,
        at: &str,
        raw: Option<shape::Duration>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(shape::Duration(duration)) = raw else {
            return default;
        };
        if !range.contains(&duration) {
            let (shown, from, to) = (short(duration), short(*range.start()), short(*range.end()));
            self.fault(at, format!("{shown} is outside {from} to {to}"));
            return default;
        }
        duration
    }

    /// A duration that cannot be longer than another one. A default gives way silently.
    fn pace(
        &mut self,
        (at, raw, default): (&str, Option<shape::Duration>, Duration),
        shortest: Duration,
        (other, longest): (&str, Duration),
    ) -> Duration {
        let Some(shape::Duration(duration)) = raw else {
            return default.min(longest);
        };
        if duration < shortest {
            self.fault(at, format!("{} is less than {}", short(duration), short(shortest)));
        } else if duration > longest {
            let (shown, longest) = (short(duration), short(longest));
            self.fault(at, format!("{shown} is longer than `{other}`, which is {longest}"));
        }
        duration
    }

    fn fault(&mut self, at: &str, message: impl Into<String>) {
        let fault = self.at(at, message.into());
        self.faults.push(fault);
    }

    fn hinted(&mut self, at: &str, message: impl Into<String>, hint: impl Into<String>) {
        let fault = self.at(at, message.into()).hint(hint);
        self.faults.push(fault);
    }

    fn at(&self, at: &str, message: String) -> Fault {
        match self.place(at) {
            place @ Place::Position { .. } => {
                Fault::new(place, format!("`{}`: {message}", self.path(at)))
            }
            place @ Place::Flag(_) => Fault::new(place, message),
        }
    }

    fn place(&self, at: &str) -> Place {
        match (self.around.overrides.flag(at), self.around.document) {
            (None, Some(document)) => document.place(&self.path(at)),
            (flag, _) => Place::Flag(flag.unwrap_or_else(|| flag_for(at))),
        }
    }

    /// Is there a value at this path, good or bad?
    fn is_given(&self, at: &str) -> bool {
        self.around.overrides.flag(at).is_some()
            || self.around.document.is_some_and(|document| document.has(&self.path(at)))
    }

    /// Where the value of a key of the cluster at hand stands: in the cluster, or above all of them.
    fn path(&self, at: &str) -> String {
        if self.within.is_empty() {
            return at.to_owned();
        }
        let own = format!("{}.{at}", self.within);
        let has = |path: &str| self.around.document.is_some_and(|document| document.has(path));
        if !has(&own) && clusters::is_inherited(at) && has(at) { at.to_owned() } else { own }
    }
}

/// A duration as it is written in a file.
pub(super) fn short(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}
