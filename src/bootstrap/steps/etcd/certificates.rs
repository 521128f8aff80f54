//! The step of the certificates of a host: each is there, serves, and is renewed in time.
//!
//! etcd reads its certificates anew for each connection, and so does kube-apiserver for its
//! connections to etcd: nothing is restarted for a renewal. The key of a certificate stays when it
//! is renewed, so that at no moment the two do not fit.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

use crate::bootstrap::engine::{Change, Check, Context, Lane, Step, StepError, StepId};
use crate::bootstrap::pki::{Authority, Certificate, Profile};
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::{Command, File};

use super::found::{Found, Item};
use super::keys::Keys;
use super::paths::{
    API_CA_CERT, API_CERT, API_KEY, CA_CERT, CLIENT_CERT, CLIENT_KEY, PEER_CERT, PEER_KEY,
    SERVER_CERT, SERVER_KEY, USER,
};
use super::probe::Probe;
use super::{CERTIFICATES, CLIENT, act, control};

/// Which certificates are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Those with less than a third of their life left.
    WhenDue,
    /// Those made before this moment too: so a run that was cut short goes on where it was.
    MadeBefore(SystemTime),
    /// Those too that were made before this moment and have fewer days left than this.
    Ending {
        /// Days.
        days: i64,
        /// When the run began.
        made_before: SystemTime,
    },
}

impl Renewal {
    /// Is this one asked for, though its time has not come?
    fn wants(self, certificate: &Certificate, now: SystemTime) -> bool {
        let old = |moment| certificate.made() < whole_second(moment);
        match self {
            Self::WhenDue => false,
            Self::MadeBefore(moment) => old(moment),
            Self::Ending { days, made_before } => {
                old(made_before) && certificate.days_left(now) < days
            }
        }
    }
}

/// The certificates of one host.
#[derive(Clone, Debug)]
pub struct Certificates {
    cluster: Arc<Cluster>,
    host: Host,
    keys: Arc<Keys>,
    renewal: Renewal,
    place: Place,
}

/// Where the certificates of a host go, and for what.
#[derive(Clone, Debug)]
pub(super) struct Place {
    step: &'static str,
    pub(super) ca: &'static str,
    pub(super) items: Vec<Item>,
    owner: &'static str,
}

impl Place {
    pub(super) fn member(host: &Host) -> Self {
        let item = |profile, cert, key| Item { profile, cert, key };
        let (name, address) = (host.name.as_str(), host.address);
        let items = vec![
            item(Profile::etcd_server(name, address), SERVER_CERT, SERVER_KEY),
            item(Profile::etcd_peer(name, address), PEER_CERT, PEER_KEY),
            item(Profile::client("kube-etcd-healthcheck-client"), CLIENT_CERT, CLIENT_KEY),
        ];
        Self { step: CERTIFICATES, ca: CA_CERT, items, owner: USER }
    }

    pub(super) fn apiserver() -> Self {
        let profile = Profile::client("kube-apiserver-etcd-client");
        let items = vec![Item { profile, cert: API_CERT, key: API_KEY }];
        Self { step: CLIENT, ca: API_CA_CERT, items, owner: "root" }
    }
}

/// What a certificate needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Its key has other permissions or another owner.
    Permissions,
    /// A new certificate for its key.
    Renew(Box<Certificate>, Vec<String>),
    /// A new certificate and a new key.
    Anew(&'static str),
}

impl Certificates {
    /// Those of a member: for clients, for other members, and for etcdctl.
    pub fn of_member(cluster: Arc<Cluster>, host: Host, keys: Arc<Keys>, renewal: Renewal) -> Self {
        let place = Place::member(&host);
        Self { cluster, host, keys, renewal, place }
    }

    /// That of the kube-apiserver of a control plane, where kubeadm expects it.
    pub fn of_apiserver(
        cluster: Arc<Cluster>,
        host: Host,
        keys: Arc<Keys>,
        renewal: Renewal,
    ) -> Self {
        Self { cluster, host, keys, renewal, place: Place::apiserver() }
    }

    fn verdicts(&self, found: &Found, authority: Option<&Certificate>) -> Vec<Verdict> {
        let now = SystemTime::now();
        let judge = |(number, item): (usize, &Item)| {
            let (Some(authority), Some(cert)) = (authority, &found.certificates[number]) else {
                return Verdict::Anew("is missing or cannot be read");
            };
            let Some((mode, owner)) = &found.keys[number] else {
                return Verdict::Anew("has no key");
            };
            let mut faults = cert.faults(&item.profile, authority, now);
            if self.renewal.wants(cert, now) {
                faults.push("is to be renewed".to_owned());
            }
            if !faults.is_empty() {
                return Verdict::Renew(Box::new(cert.clone()), faults);
            }
            let right = mode == "600" && owner == self.place.owner;
            if right { Verdict::Good } else { Verdict::Permissions }
        };
        self.place.items.iter().enumerate().map(judge).collect()
    }

    /// The authority that the certificates are judged by.
    async fn authority(
        &self,
        cx: &Context,
        found: &Found,
    ) -> Result<Option<Certificate>, StepError> {
        let kept = self.keys.certificate(cx).await?;
        if let (Some(kept), Some(there)) = (&kept, &found.authority)
            && kept != there
        {
            let name = &self.host.name;
            return Err(StepError::Refused {
                reason: format!("{name}: {} is of another authority than ours", self.place.ca),
                remedy: format!(
                    "bring the right key to {}, or reset {name} if it is of no cluster",
                    self.keys.place()
                ),
            });
        }
        Ok(kept.or_else(|| found.authority.clone()))
    }

    async fn place(
        &self,
        cx: &Context,
        authority: &Authority,
        item: &Item,
        verdict: &Verdict,
    ) -> Result<(), StepError> {
        let (host, owner) = (self.host.name.as_str(), self.place.owner);
        let now = SystemTime::now();
        let profile = &item.profile;
        match verdict {
            Verdict::Good => {}
            Verdict::Permissions => {
                let script = r#"chown "$1:$1" "$2" && chmod 600 "$2""#;
                cx.run(host, &Command::script(script, [owner, item.key])).await?;
            }
            Verdict::Renew(old, _) => {
                let pem = authority.renew(profile, old, now)?;
                cx.host(host)?.write(&File::new(item.cert, pem)).await?;
            }
            Verdict::Anew(_) => {
                let issued = authority.issue(profile, now)?;
                // A certificate that does not fit the key is never there, wherever this is cut short.
                control::forget(cx, host, &[item.cert]).await?;
                let key = File::secret(item.key, issued.key_pem).owned_by(owner, owner);
                cx.host(host)?.write(&key).await?;
                cx.host(host)?.write(&File::new(item.cert, issued.cert_pem)).await?;
            }
        }
        Ok(())
    }
}

fn whole_second(moment: SystemTime) -> SystemTime {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn complaint(item: &Item, verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Good => None,
        Verdict::Permissions => Some(format!("{} can be read by others", item.key)),
        Verdict::Renew(_, faults) => Some(format!("{} {}", item.cert, faults.join(", "))),
        Verdict::Anew(why) => Some(format!("{} {why}", item.cert)),
    }
}

impl Step for Certificates {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, self.place.step)
    }

    fn title(&self) -> String {
        match self.place.step {
            CLIENT => format!("give {} a certificate for etcd", self.host.name),
            _ => format!("give the etcd member {} its certificates", self.host.name),
        }
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, "prepared")]
    }

    /// Members one at a time: should a certificate be wrong after all, one member shows it.
    fn lane(&self) -> Lane {
        if self.place.step == CERTIFICATES { Lane::Single } else { Lane::Parallel }
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            let found = Found::of(cx, &self.host.name, &self.place).await?;
            let authority = self.authority(cx, &found).await?;
            let verdicts = self.verdicts(&found, authority.as_ref());
            let pairs = self.place.items.iter().zip(&verdicts);
            let mut why: Vec<_> = pairs.filter_map(|(item, v)| complaint(item, v)).collect();
            if found.authority.is_none() {
                why.push(format!("{} is missing", self.place.ca));
            }
            if why.is_empty() {
                return Ok(Check::Done);
            }
            if found.authority.is_some() && self.keys.certificate(cx).await?.is_none() {
                return Err(self.keys.missing(&self.host.name));
            }
            Ok(Check::Needed(Change::new(why.join("; "))))
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let name = self.host.name.as_str();
            let member = self.place.step == CERTIFICATES;
            if member {
                control::prepare(cx, name).await?;
            }
            let authority = self.keys.open(cx, &self.cluster, SystemTime::now()).await?;
            let found = Found::of(cx, name, &self.place).await?;
            self.authority(cx, &found).await?;
            let before = if member { Probe::of(cx, name).await? } else { Probe::default() };
            if found.authority.is_none() {
                cx.host(name)?.write(&File::new(self.place.ca, authority.pem())).await?;
            }
            let verdicts = self.verdicts(&found, Some(authority.certificate()));
            for (item, verdict) in self.place.items.iter().zip(&verdicts) {
                self.place(cx, &authority, item, verdict).await?;
            }
            // Before the next member's turn comes, this one has to serve with what it got.
            match before.status.filter(|_| before.members.is_some()) {
                Some(status) => act::wait_healthy(cx, name, status.id).await,
                None => Ok(()),
            }
        })
    }
}
