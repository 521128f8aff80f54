//! How a host joins: a fresh token, the pins of the CA, and for a control plane the certificates,
//! uploaded anew; then kubeadm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Shared;
use crate::bootstrap::engine::{Context, SECRETS, StepError};
use crate::bootstrap::hex::hex;
use crate::bootstrap::kubernetes::{Api, pins};
use crate::bootstrap::spec::Version;
use crate::bootstrap::steps::documents::Joining;
use crate::bootstrap::transport::{Command, File};

/// How long a token lives. A join takes minutes.
const TOKEN_LIFE: &str = "20m";

/// How long one is handed out: what is left of its life is longer than a join.
const TOKEN_FRESH: Duration = Duration::from_mins(8);

/// How long kubeadm may take: it waits for images and for static pods, four minutes each.
const KUBEADM: Duration = Duration::from_mins(12);

/// Since when kubeadm has `config validate`.
const VALIDATES: Version = Version::new(1, 26, 0);

/// The cluster's CA on a control plane.
pub const CA: &str = "/etc/kubernetes/pki/ca.crt";

/// A token and the pins of the CA.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    token: String,
    pins: Vec<String>,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("pins", &self.pins).finish_non_exhaustive()
    }
}

/// The latest ticket: workers that join at once share one.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<Option<(Instant, Arc<Ticket>)>>);

impl Shared {
    /// A ticket through this control plane, at most some minutes old.
    ///
    /// # Errors
    /// The control plane cannot be reached, or kubeadm complains.
    pub async fn ticket(&self, cx: &Context, via: &str) -> Result<Arc<Ticket>, StepError> {
        let mut latest = self.ticket.0.lock().await;
        if let Some((at, ticket)) = &*latest
            && at.elapsed() < TOKEN_FRESH
        {
            return Ok(ticket.clone());
        }
        self.refuse_newer(cx, via).await?;
        let ticket =
            Arc::new(Ticket { pins: self.pins(cx, via).await?, token: token(cx, via).await? });
        *latest = Some((Instant::now(), ticket.clone()));
        Ok(ticket)
    }

    /// kubelet must not be newer than the apiservers, and kubeadm joins what it could have made.
    async fn refuse_newer(&self, cx: &Context, via: &str) -> Result<(), StepError> {
        let server = SocketAddr::new(self.host(via)?.address, self.cluster.endpoint.port);
        let (runs, wished) =
            (Api::new(cx, via).version(server).await?, self.cluster.kubernetes_version);
        if (wished.major, wished.minor) > (runs.major, runs.minor) {
            return Err(StepError::Refused {
                reason: format!("the cluster runs {runs}, and the file says {wished}"),
                remedy: "no node joins in between: run `apiproxy bootstrap upgrade` first"
                    .to_owned(),
            });
        }
        Ok(())
    }

    async fn pins(&self, cx: &Context, via: &str) -> Result<Vec<String>, StepError> {
        let pem = self.ca(cx, via).await?;
        pins(pem.as_bytes()).map_err(|error| StepError::Unverified(format!("{via}: {CA}: {error}")))
    }

    /// The cluster's CA, in PEM.
    ///
    /// # Errors
    /// The control plane cannot be reached, or has none.
    pub async fn ca(&self, cx: &Context, via: &str) -> Result<String, StepError> {
        let found = cx.host(via)?.read(CA).await?;
        let found =
            found.ok_or_else(|| StepError::Unverified(format!("{via}: there is no {CA}")))?;
        Ok(String::from_utf8_lossy(&found.content).into_owned())
    }

    /// What this control plane joins with: its certificates are uploaded anew by `via`, encrypted with
    /// a new key; the Secret that holds them lives for two hours.
    ///
    /// # Errors
    /// The control plane cannot be reached, or kubeadm complains.
    pub async fn upload_certificates(&self, cx: &Context, via: &str) -> Result<String, StepError> {
        let key = certificate_key()?;
        let document = self.documents.init(&self.cluster, self.host(via)?, &key)?;
        let phase =
            ["init", "phase", "upload-certs", "--upload-certs", "--skip-certificate-key-print"];
        kubeadm(cx, via, &phase, &document, self.cluster.kubernetes_version).await?;
        Ok(key)
    }

    /// `kubeadm join` of this host.
    ///
    /// # Errors
    /// The host cannot be reached, or kubeadm complains.
    pub async fn join(
        &self,
        cx: &Context,
        name: &str,
        server: String,
        ticket: &Ticket,
        certificate_key: Option<String>,
    ) -> Result<(), StepError> {
        let Ticket { token, pins } = ticket.clone();
        let joining = Joining { server, token, pins, certificate_key };
        let document = self.documents.join(&self.cluster, self.host(name)?, &joining)?;
        kubeadm(cx, name, &["join"], &document, self.cluster.kubernetes_version).await
    }
}

/// Runs kubeadm of this version with a document that holds secrets and is taken away again, whatever
/// comes of it: it lies in memory, in a folder that root alone can enter, and who holds the host's lock takes
/// that away when the run is killed. The host's own kubeadm says first whether it understands all of it.
///
/// # Errors
/// The host cannot be reached, or kubeadm complains.
pub async fn kubeadm(
    cx: &Context,
    host: &str,
    words: &[&str],
    document: &File,
    version: Version,
) -> Result<(), StepError> {
    cx.run(host, &Command::new(["install", "-d", "-m", "0700", "--", SECRETS])).await?;
    cx.host(host)?.write(document).await?;
    let command = |words: &[&str]| {
        let words = ["kubeadm"].iter().chain(words).copied();
        Command::new(words.chain(["--config", document.path.as_str()]))
    };
    let outcome = async {
        if version >= VALIDATES {
            cx.run(host, &command(&["config", "validate"])).await?;
        }
        cx.run(host, &command(words).timeout(KUBEADM)).await
    };
    let outcome = outcome.await;
    let removed = cx.run(host, &Command::new(["rm", "-f", "--", document.path.as_str()])).await;
    outcome.and(removed).map(drop)
}

/// `kubeadm token create` prints the token and nothing else; it never is an argument.
async fn token(cx: &Context, via: &str) -> Result<String, StepError> {
    let words = ["kubeadm", "token", "create", "--ttl", TOKEN_LIFE, "--description"];
    let tail = ["apiproxy bootstrap", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    let output = cx.run(via, &Command::new(words.into_iter().chain(tail))).await?;
    let token = output.text();
    let token = token.lines().last().unwrap_or_default().trim();
    if !is_token(token) {
        let reason = "`kubeadm token create` printed no token";
        return Err(StepError::Unverified(format!("{via}: {reason}")));
    }
    Ok(token.to_owned())
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`, as Kubernetes has it.
fn is_token(text: &str) -> bool {
    let plain = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.split_once('.').is_some_and(|(id, secret)| plain(id, 6) && plain(secret, 16))
}

/// 32 random bytes in hexadecimal: the key of AES-GCM that kubeadm encrypts certificates with.
///
/// # Errors
/// The system gives no random bytes.
pub fn certificate_key() -> Result<String, StepError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StepError::Unverified("the system gives no random bytes".to_owned()))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_have_their_forms() {
        assert!(is_token("abcdef.0123456789abcdef"));
        for text in
            ["", "abcdef", "abcdef.0123456789ABCDEF", "abcde.0123456789abcdef", "W0704 warning"]
        {
            assert!(!is_token(text), "{text}");
        }
        let key = certificate_key().unwrap();
        assert!(key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
        assert_ne!(key, certificate_key().unwrap());
    }
}
