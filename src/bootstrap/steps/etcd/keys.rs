//! Where the key of etcd's authority is kept: never on a member.

use std::time::SystemTime;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::pki::{Authority, Certificate, PkiError, Store};
use crate::bootstrap::spec::Cluster;
use crate::bootstrap::transport::{Command, File};

use super::paths::{CA_CERT, CA_FOLDER, CA_NAME};

/// Where the key is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHome {
    /// In a folder of the operator.
    Operator(Store),
    /// On this host, in [`CA_FOLDER`]: the first control plane, for operators who take turns.
    Host(String),
}

/// The authority of etcd, wherever its key is kept.
#[derive(Debug)]
pub struct Keys {
    home: KeyHome,
    /// One makes it, even if several hosts need it at once.
    making: tokio::sync::Mutex<()>,
}

impl Keys {
    /// The keys in this home.
    pub fn new(home: KeyHome) -> Self {
        Self { home, making: tokio::sync::Mutex::default() }
    }

    /// The authority's certificate, if there is an authority.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn certificate(&self, cx: &Context) -> Result<Option<Certificate>, StepError> {
        match &self.home {
            KeyHome::Operator(store) => store.certificate(CA_NAME).map_err(StepError::from),
            KeyHome::Host(host) => match read(cx, host, "crt").await? {
                Some(pem) => Certificate::from_pem(&pem).map(Some).map_err(StepError::from),
                None => Ok(None),
            },
        }
    }

    /// Where it is kept, for people.
    pub fn place(&self) -> String {
        match &self.home {
            KeyHome::Operator(store) => store.key_path(CA_NAME).display().to_string(),
            KeyHome::Host(host) => format!("{host}:{CA_FOLDER}/{CA_NAME}.key"),
        }
    }

    /// Why nothing can be issued on this machine: the cluster has an authority that is not here.
    pub fn missing(&self, host: &str) -> StepError {
        StepError::Refused {
            reason: format!("{host} has certificates of an authority whose key is not here"),
            remedy: format!(
                "bring {} from the machine that made the cluster, with its .crt",
                self.place()
            ),
        }
    }

    /// The authority; a new one if there is none and no member has ever been given a certificate.
    ///
    /// # Errors
    /// If it cannot be read or made, or the cluster has one whose key is not here.
    pub async fn open(
        &self,
        cx: &Context,
        cluster: &Cluster,
        now: SystemTime,
    ) -> Result<Authority, StepError> {
        let _one = self.making.lock().await;
        let found = match &self.home {
            KeyHome::Operator(store) => store.load(CA_NAME, now)?,
            KeyHome::Host(host) => on_host(cx, host, now).await?,
        };
        if let Some(authority) = found {
            return Ok(authority);
        }
        for host in cluster.etcd_hosts() {
            let there = Command::script(r#"[ ! -e "$1" ]"#, [CA_CERT]);
            if !cx.host(&host.name)?.run(&there).await?.ok() {
                return Err(self.missing(&host.name));
            }
        }
        match &self.home {
            KeyHome::Operator(store) => store.load_or_create(CA_NAME, now).map_err(StepError::from),
            KeyHome::Host(host) => {
                let made = Authority::create(CA_NAME, now)?;
                put(cx, host, made.key_pem()).await?;
                let found = on_host(cx, host, now).await?;
                found.ok_or_else(|| StepError::Unverified(format!("{} is gone", self.place())))
            }
        }
    }
}

impl From<PkiError> for StepError {
    fn from(error: PkiError) -> Self {
        Self::Unverified(error.to_string())
    }
}

fn path(extension: &str) -> String {
    format!("{CA_FOLDER}/{CA_NAME}.{extension}")
}

async fn read(cx: &Context, host: &str, extension: &str) -> Result<Option<String>, StepError> {
    let found = cx.host(host)?.read(&path(extension)).await?;
    Ok(found.map(|found| String::from_utf8_lossy(&found.content).into_owned()))
}

async fn on_host(
    cx: &Context,
    host: &str,
    now: SystemTime,
) -> Result<Option<Authority>, StepError> {
    match (read(cx, host, "crt").await?, read(cx, host, "key").await?) {
        (Some(pem), Some(key)) => {
            Authority::from_pem(&pem, &key).map(Some).map_err(StepError::from)
        }
        // Its making was cut short.
        (None, Some(key)) => {
            let made = Authority::of_key(CA_NAME, &key, now)?;
            cx.host(host)?.write(&File::new(path("crt"), made.pem())).await?;
            Ok(Some(made))
        }
        (Some(_), None) => Err(StepError::Refused {
            reason: format!("{host}: {} is gone, while its certificate is there", path("key")),
            remedy: "put it back from a backup: nothing can be issued without it".to_owned(),
        }),
        (None, None) => Ok(None),
    }
}

/// Writes the key, unless there is one.
async fn put(cx: &Context, host: &str, key_pem: &str) -> Result<(), StepError> {
    let folder = Command::new(["install", "-d", "-m", "0700", CA_FOLDER]);
    cx.run(host, &folder).await?;
    let (key, new) = (path("key"), path("key.new"));
    cx.host(host)?.write(&File::secret(new.as_str(), key_pem)).await?;
    // A link is refused where there is a file.
    let link = Command::script(r#"ln -T "$1" "$2" || [ -f "$2" ]; rm -f "$1""#, [&new, &key]);
    cx.run(host, &link).await.map(drop)
}
