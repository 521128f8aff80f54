//! A kubeconfig: one cluster, one user.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::bootstrap::transport::{File, Secret};

use super::{RenderError, SecretText, yaml};

/// Who somebody is to the apiservers.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A client certificate and its key, PEM, in the kubeconfig itself.
    Certificate {
        /// The certificate with those that lead to the CA.
        certificate: String,
        /// Its private key.
        key: Secret,
    },
    /// A client certificate and its key in files of the host.
    Files {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
    },
    /// A bearer token.
    Token(SecretText),
}

/// What is in a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// What the cluster is called.
    pub cluster: String,
    /// Where its apiservers are, such as `https://apiserver.prod.local:6443`.
    pub server: String,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// What the user is called.
    pub user: String,
    /// Who the user is.
    pub credential: Credential,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'a str,
    kind: &'a str,
    clusters: [Named<ClusterEntry<'a>>; 1],
    contexts: [Named<ContextEntry<'a>>; 1],
    #[serde(rename = "current-context")]
    current_context: String,
    users: [Named<UserEntry>; 1],
}

#[derive(Serialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    entry: T,
}

#[derive(Serialize)]
struct ClusterEntry<'a> {
    cluster: Server<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Server<'a> {
    certificate_authority_data: String,
    server: &'a str,
}

#[derive(Serialize)]
struct ContextEntry<'a> {
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    cluster: &'a str,
    user: &'a str,
}

#[derive(Serialize)]
struct UserEntry {
    user: User,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<SecretText>,
}

impl Kubeconfig {
    /// The file, for root alone.
    ///
    /// # Errors
    /// If it cannot be written as YAML.
    pub fn file(&self, path: &str) -> Result<File, RenderError> {
        let user = match &self.credential {
            Credential::Certificate { certificate, key } => User {
                client_certificate_data: Some(STANDARD.encode(certificate)),
                client_key_data: Some(STANDARD.encode(&key.0)),
                ..User::default()
            },
            Credential::Files { certificate, key } => User {
                client_certificate: Some(certificate.clone()),
                client_key: Some(key.clone()),
                ..User::default()
            },
            Credential::Token(token) => User { token: Some(token.clone()), ..User::default() },
        };
        let context = format!("{}@{}", self.user, self.cluster);
        let document = Document {
            api_version: "v1",
            kind: "Config",
            clusters: [Named {
                name: self.cluster.clone(),
                entry: ClusterEntry {
                    cluster: Server {
                        certificate_authority_data: STANDARD.encode(&self.ca),
                        server: &self.server,
                    },
                },
            }],
            contexts: [Named {
                name: context.clone(),
                entry: ContextEntry {
                    context: Context { cluster: &self.cluster, user: &self.user },
                },
            }],
            current_context: context,
            users: [Named { name: self.user.clone(), entry: UserEntry { user } }],
        };
        Ok(File::secret(path, yaml::document("kubeconfig", &document)?))
    }
}
