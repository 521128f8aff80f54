//! The kubeconfig that discovery speaks to apiservers with: whom it trusts and who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::discovery::list;
use crate::tls::{self, Material};

/// More is no kubeconfig, certificate, key or token.
const LARGEST: u64 = 1024 * 1024;

/// The name that every apiserver's certificate carries.
const SERVER_NAME: &str = "kubernetes";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<User>>,
    contexts: Vec<Named<Context>>,
    current_context: Option<String>,
}

/// `{ name, cluster }`, `{ name, user }` or `{ name, context }`.
#[derive(Debug, Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

/// What a connection needs, read anew for each, so that replaced files count from the next one on.
pub(super) struct Credentials {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
    pub(super) token: Option<String>,
}

/// Reads a kubeconfig and the files that it names.
///
/// # Errors
/// What is missing or wrong, in words without secrets.
pub(super) fn read(path: &Path) -> Result<Credentials, String> {
    let text = list::read(path, LARGEST).map_err(|error| format!("{}: {error}", path.display()))?;
    let (cluster, user) = parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let pem = |what: &str, file: Option<&PathBuf>, data: Option<&String>| match (data, file) {
        (Some(data), _) => {
            let data = STANDARD.decode(data.trim());
            data.map(Some).map_err(|_| format!("`{what}-data` is not base64"))
        }
        (None, Some(file)) => {
            let file = base.join(file);
            let text = list::read(&file, LARGEST);
            let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(Some(text.into_bytes()))
        }
        (None, None) => Ok(None),
    };
    let ca = pem(
        "certificate-authority",
        cluster.certificate_authority.as_ref(),
        cluster.certificate_authority_data.as_ref(),
    )?;
    let ca = ca.ok_or("the cluster has no `certificate-authority`")?;
    let (cert, cert_data) = (&user.client_certificate, &user.client_certificate_data);
    let cert = pem("client-certificate", cert.as_ref(), cert_data.as_ref())?;
    let key = pem("client-key", user.client_key.as_ref(), user.client_key_data.as_ref())?;
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => {
            let file = base.join(file);
            let token = list::read(&file, LARGEST);
            Some(token.map_err(|error| format!("{}: {error}", file.display()))?)
        }
        (None, None) => None,
    };
    let token = token.map(|token| token.trim().to_owned());
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((certificates(&cert)?, private_key(&key)?)),
        (None, None) if token.is_some() => None,
        _ => return Err("the user has no client certificate with its key, and no token".to_owned()),
    };
    let material = Material { roots: Some(Arc::new(roots(&ca)?)), identity };
    let tls = tls::client_config(&material, &[b"http/1.1"])
        .map_err(|error| format!("the certificate and key do not fit together: {error}"))?;
    let server_name = cluster.tls_server_name.as_deref().unwrap_or(SERVER_NAME);
    let server_name = tls::server_name(server_name)
        .map_err(|_| format!("`tls-server-name: {server_name}` is no name"))?;
    Ok(Credentials { tls: Arc::new(tls), server_name, token })
}

/// The files that a kubeconfig names, if it can be read.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    let Ok((cluster, user)) = list::read(path, LARGEST).and_then(|text| parse(&text)) else {
        return Vec::new();
    };
    let base = path.parent().unwrap_or(Path::new(""));
    let named =
        [cluster.certificate_authority, user.client_certificate, user.client_key, user.token_file];
    named.into_iter().flatten().map(|file| base.join(file)).collect()
}

/// The cluster and user of the current context.
fn parse(text: &str) -> Result<(Cluster, User), String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        // Not its text, which may quote a secret.
        let at = error.location().map_or(String::new(), |at| format!(", line {}", at.line()));
        format!("it is no kubeconfig{at}")
    })?;
    let File { clusters, users, contexts, current_context } = file;
    let context = match (current_context.filter(|name| !name.is_empty()), contexts.len()) {
        (Some(name), _) => {
            find(contexts, &name).ok_or_else(|| format!("there is no context `{name}`"))?
        }
        (None, 1) => contexts.into_iter().next().map(|named| named.value).unwrap_or_default(),
        (None, _) => return Err("it has no `current-context`".to_owned()),
    };
    let cluster = find(clusters, &context.cluster)
        .ok_or_else(|| format!("there is no cluster `{}`", context.cluster))?;
    let user =
        find(users, &context.user).ok_or_else(|| format!("there is no user `{}`", context.user))?;
    if cluster.insecure_skip_tls_verify {
        return Err("`insecure-skip-tls-verify` would show the credentials to anybody".to_owned());
    }
    Ok((cluster, user))
}

fn find<T>(list: Vec<Named<T>>, name: &str) -> Option<T> {
    list.into_iter().find(|named| named.name == name).map(|named| named.value)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("there is no PEM certificate where one should be".to_owned()),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "`client-key` is no PEM private key".to_owned())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (usable, _strange) = roots.add_parsable_certificates(certificates(pem)?);
    if usable == 0 { Err("no CA can be used".to_owned()) } else { Ok(roots) }
}

#[cfg(fuzzing)]
pub(in crate::discovery) fn understands(text: &str) -> bool {
    parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: 'https://127.0.0.1:6443', certificate-authority: ca.crt } }]
users: [{ name: u, user: { token: secret } }, { name: v, user: {} }]
contexts: [{ name: x, context: { cluster: c, user: u } }, { name: y, context: { cluster: c, user: v } }]
current-context: x
";

    #[test]
    fn the_current_context_counts() {
        let (cluster, user) = parse(CONFIG).unwrap();
        assert_eq!(cluster.certificate_authority.as_deref(), Some(Path::new("ca.crt")));
        assert_eq!(user.token.as_deref(), Some("secret"));
        let no_user = parse(&CONFIG.replace("current-context: x", "current-context: y")).unwrap().1;
        assert!(no_user.token.is_none());
        for (good, bad, told) in [
            ("current-context: x", "current-context: z", "no context `z`"),
            ("current-context: x", "", "no `current-context`"),
            ("name: c,", "name: d,", "no cluster `c`"),
            ("name: u,", "name: w,", "no user `u`"),
            ("certificate-authority: ca.crt", "insecure-skip-tls-verify: true", "insecure"),
            ("apiVersion: v1", "[", "no kubeconfig"),
            ("{ token: secret }", "secret", "no kubeconfig, line 4"),
        ] {
            let error = parse(&CONFIG.replace(good, bad)).unwrap_err();
            assert!(error.contains(told), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn files_beside_it_are_read_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apiproxy.conf");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).err()
        };
        assert!(told(CONFIG).unwrap().contains("ca.crt"), "it is not there");
        std::fs::write(folder.path().join("ca.crt"), "nonsense").unwrap();
        assert!(told(CONFIG).unwrap().contains("no PEM certificate"));
        let authority = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap();
        std::fs::write(folder.path().join("ca.crt"), authority.cert.pem()).unwrap();
        assert_eq!(told(CONFIG), None);
        let other = CONFIG.replace("current-context: x", "current-context: y");
        assert!(told(&other).unwrap().contains("no token"));
        let both =
            CONFIG.replace("token: secret", "client-certificate: c.crt, client-key-data: '!'");
        std::fs::write(folder.path().join("c.crt"), authority.cert.pem()).unwrap();
        assert!(told(&both).unwrap().contains("not base64"));
        let key = STANDARD.encode(authority.signing_key.serialize_pem());
        assert_eq!(told(&both.replace('!', &key)), None);
    }
}
