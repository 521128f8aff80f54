//! Tells systemd how far the service is (`sd_notify(3)`): one datagram a message.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// The way to systemd; without one, messages go nowhere.
#[derive(Debug, Default)]
pub struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// The way that `NOTIFY_SOCKET` names.
    pub fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        match Self::to(&name) {
            Ok(notifier) => notifier,
            Err(error) => {
                warn!(?name, %error, "NOTIFY_SOCKET cannot be reached: systemd is told nothing");
                Self(None)
            }
        }
    }

    /// The way to a socket in the file system, or, with `@` before the name, in the abstract name
    /// space.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match name.as_bytes().split_first() {
            Some((b'@', name)) => {
                socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
            }
            _ => socket.connect(name)?,
        }
        Ok(Self(Some(socket)))
    }

    /// It serves. With `main`, it is the service's main process from now on, in place of the one that
    /// it has taken over from.
    pub fn ready(&self, main: bool, status: &str) {
        let pid = std::process::id();
        let main = if main { format!("MAINPID={pid}\n") } else { String::new() };
        self.say(&format!("{main}READY=1\nSTATUS={status}\n"));
    }

    /// It reads its configuration again; [`Notifier::ready`] ends that.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let since_boot = Duration::new(now.tv_sec.unsigned_abs(), 0).as_micros()
            + u128::from(now.tv_nsec.unsigned_abs() / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={since_boot}\n"));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining\n");
    }

    /// It lives.
    pub fn alive(&self) {
        self.say("WATCHDOG=1\n");
    }

    fn say(&self, message: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(message.as_bytes())
        {
            warn!(%error, message = message.trim_end(), "systemd was not told");
        }
    }
}

/// The time within which systemd wants signs of life, if it does (`WATCHDOG_USEC`). Those meant for
/// another process (`WATCHDOG_PID`) are for this one when it has `taken_over` from it.
pub fn watchdog(taken_over: bool) -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let time = number("WATCHDOG_USEC").filter(|time| *time > 0)?;
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    (ours || taken_over).then(|| Duration::from_micros(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1000];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn messages_reach_both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        notifier.ready(false, "serving");
        assert_eq!(hear(&systemd), "READY=1\nSTATUS=serving\n");
        notifier.ready(true, "serving");
        let main = format!("MAINPID={}\nREADY=1\nSTATUS=serving\n", std::process::id());
        assert_eq!(hear(&systemd), main);
        notifier.reloading();
        let reloading = hear(&systemd);
        let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(since_boot.trim_end().parse::<u64>().unwrap() > 0);

        let name = format!("apiproxy-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(OsStr::new(&format!("@{name}"))).unwrap();
        notifier.stopping();
        notifier.alive();
        assert_eq!(hear(&systemd), "STOPPING=1\nSTATUS=draining\n");
        assert_eq!(hear(&systemd), "WATCHDOG=1\n");
        drop(systemd);
        // Nobody hears it, and nothing comes of it.
        notifier.alive();
        Notifier::to(OsStr::new("/nowhere/at/all")).unwrap_err();
    }
}
