//! What ssh and sudo say, in one line and with what to do about it.

use std::error::Error as _;

/// What happened, and what the user can do.
pub(super) type Explained = (String, String);

/// Where it should have gone, for the remedies.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As whom, if the spec says.
    pub(super) user: Option<String>,
    pub(super) address: String,
    pub(super) port: Option<u16>,
}

impl Target {
    /// What a user types to try it by hand.
    pub(super) fn command(&self) -> String {
        let port = self.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        format!("ssh {port}{user}{}", self.address)
    }

    /// How `known_hosts` calls it.
    fn known_as(&self) -> String {
        match self.port {
            Some(port) if port != 22 => format!("\"[{}]:{port}\"", self.address),
            _ => self.address.clone(),
        }
    }
}

/// Why no connection came about, from what ssh said.
pub(super) fn ssh(said: &str, target: &Target) -> Explained {
    let port = target.port.unwrap_or(22);
    let by_hand = target.command();
    let has = |text: &str| said.contains(text);
    if has("during banner exchange") {
        return hangs();
    }
    let (reason, remedy) = if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        (
            "its host key is not the one in known_hosts: another machine answers there".to_owned(),
            format!(
                "if you know why, forget the old key with `ssh-keygen -R {}` and run this again",
                target.known_as()
            ),
        )
    } else if has("Host key verification failed") || has("host key is known for") {
        (
            "its host key is not known".to_owned(),
            format!("connect once with `{by_hand}` and compare it, or give --accept-new"),
        )
    } else if has("UNPROTECTED PRIVATE KEY FILE") {
        let reason = "others may read the private key, so ssh does not use it".to_owned();
        (reason, "run `chmod 600` on ssh.identityFile".to_owned())
    } else if let Some(line) = line_with(said, "Permission denied (") {
        (
            format!("the login was refused: {line}"),
            format!(
                "check ssh.user and ssh.identityFile; `{by_hand}` must work without a password"
            ),
        )
    } else if has("Connection refused") {
        let reason = format!("port {port} refuses connections");
        (reason, "start sshd there, or correct ssh.port".to_owned())
    } else if has("timed out") || has("Timeout") {
        let reason = format!("no answer on port {port}");
        (reason, "is it up, and does every firewall let ssh through?".to_owned())
    } else if has("No route to host") || has("Network is unreachable") {
        let reason = format!("there is no way to {}", target.address);
        (reason, "correct its address, or the routes of this machine".to_owned())
    } else if has("Could not resolve") {
        let line = line_with(said, "Could not resolve").unwrap_or_default();
        (line, "correct the name, or the resolver of this machine".to_owned())
    } else if has("kex_exchange_identification") || has("Connection reset") {
        (
            "sshd closed the connection before the login".to_owned(),
            "raise its MaxStartups, or look into its log".to_owned(),
        )
    } else {
        let line = super::super::line::last_line(said.as_bytes());
        (line, format!("try `{by_hand}`"))
    };
    (reason, remedy)
}

/// What is said of a host that takes connections and on which nothing comes to its end.
pub(super) fn hangs() -> Explained {
    let reason = "it takes connections, and no command there comes to its end".to_owned();
    let remedy = "see on its console whether its disk or memory is stuck; until the end of this run it \
                  is not asked again";
    (reason, remedy.to_owned())
}

/// Is it worth another try at once? A busy sshd drops connections before the login.
pub(super) fn passing(said: &str) -> bool {
    ["kex_exchange_identification", "Connection reset", "Connection closed by"]
        .iter()
        .any(|text| said.contains(text))
        && !said.contains("Permission denied")
}

/// Why root was not reached, from what sudo said; none if it was not sudo that spoke.
pub(super) fn sudo(said: &str) -> Option<Explained> {
    let has = |text: &str| said.contains(text);
    let missing = has("sudo: not found") || has("sudo: command not found");
    let (reason, remedy) = if missing || has("sudo: No such file") {
        ("there is no sudo on it", "install sudo, or set ssh.user to root")
    } else if has("incorrect password") || has("no password was provided") || has("try again") {
        ("the sudo password is wrong", "run this again and type it anew")
    } else if has("a password is required") || has("a terminal is required") {
        ("sudo asks for a password", "give --ask-sudo-password, or set NOPASSWD for ssh.user")
    } else if has("must have a tty") {
        ("sudo wants a terminal", "remove `requiretty` from its sudoers")
    } else if has("not in the sudoers") || has("not allowed to") || has("may not run sudo") {
        ("ssh.user may not use sudo", "put it into the group sudo, or set ssh.user to root")
    } else {
        let line = line_with(said, "sudo: ")?;
        return Some((line, "make `sudo -n true` work there".to_owned()));
    };
    Some((reason.to_owned(), remedy.to_owned()))
}

/// What is behind an error of the openssh crate: what ssh said.
pub(super) fn cause(error: &openssh::Error) -> Option<String> {
    error.source().map(|source| {
        let text = source.to_string();
        super::super::line::last_line(text.as_bytes())
    })
}

fn line_with(said: &str, text: &str) -> Option<String> {
    said.lines().map(str::trim).find(|line| line.contains(text)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { user: Some("ops".to_owned()), address: "10.0.0.11".to_owned(), port: Some(2222) }
    }

    #[test]
    fn each_fault_has_its_line() {
        let cases = [
            (
                "ops@10.0.0.11: Permission denied (publickey,password).",
                "the login was refused: ops@10.0.0.11: Permission denied (publickey,password).",
                "`ssh -p 2222 ops@10.0.0.11` must work",
            ),
            (
                "No ED25519 host key is known for [10.0.0.11]:2222 and you have requested strict \
                 checking.\r\nHost key verification failed.",
                "its host key is not known",
                "--accept-new",
            ),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key \
                 verification failed.",
                "its host key is not the one in known_hosts",
                "ssh-keygen -R \"[10.0.0.11]:2222\"",
            ),
            (
                "connect to host 10.0.0.11 port 2222: Connection refused",
                "port 2222 refuses connections",
                "ssh.port",
            ),
            (
                "connect to host 10.0.0.11 port 2222: Connection timed out",
                "no answer on port 2222",
                "firewall",
            ),
            (
                "Connection timed out during banner exchange\r\nConnection to 10.0.0.11 port 2222 timed out",
                "it takes connections, and no command there",
                "its console",
            ),
            (
                "Could not resolve hostname x: Name or service not known",
                "Could not resolve hostname x",
                "resolver",
            ),
            ("something new", "something new", "try `ssh"),
        ];
        for (said, reason, remedy) in cases {
            let explained = ssh(said, &target());
            assert!(explained.0.starts_with(reason), "{explained:?}");
            assert!(explained.1.contains(remedy), "{explained:?}");
            assert!(!explained.0.contains('\n') && !explained.1.contains('\n'));
        }
    }

    #[test]
    fn what_sudo_says_is_told_from_what_commands_say() {
        let cases = [
            ("sudo: a password is required", "sudo asks for a password"),
            ("Sorry, try again.\nsudo: no password was provided", "the sudo password is wrong"),
            ("sudo: 1 incorrect password attempt", "the sudo password is wrong"),
            ("ops is not in the sudoers file.", "ssh.user may not use sudo"),
            ("sh: 1: sudo: not found", "there is no sudo on it"),
        ];
        for (said, reason) in cases {
            assert_eq!(sudo(said).unwrap().0, reason);
        }
        assert_eq!(sudo("connection reset"), None);
    }
}
