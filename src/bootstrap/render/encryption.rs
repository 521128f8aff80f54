//! Encryption of Secrets in etcd: the keys that every apiserver of a cluster shares.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::bootstrap::transport::{File, Secret};

use super::{RenderError, SecretText, paths, yaml};

/// The length of a key of XSalsa20-Poly1305, in bytes.
pub const KEY_LENGTH: usize = 32;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    name: String,
    bytes: Secret,
}

/// Bytes that are no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encryption key has {KEY_LENGTH} bytes, not {0}")]
pub struct KeyError(usize);

impl Key {
    /// A key of [`KEY_LENGTH`] random bytes. Its name stands before everything that is encrypted with
    /// it, so it stays the same as long as the key is used.
    ///
    /// # Errors
    /// If the length is another.
    pub fn new(name: impl Into<String>, bytes: Secret) -> Result<Self, KeyError> {
        match bytes.0.len() {
            KEY_LENGTH => Ok(Self { name: name.into(), bytes }),
            length => Err(KeyError(length)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    api_version: &'static str,
    kind: &'static str,
    resources: [Resources; 1],
}

#[derive(Serialize)]
struct Resources {
    resources: [&'static str; 1],
    providers: [Provider; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Provider {
    Secretbox { keys: Vec<Named> },
    Identity {},
}

#[derive(Serialize)]
struct Named {
    name: String,
    secret: SecretText,
}

/// The apiservers' file: new Secrets are encrypted with the first key, and those that are encrypted
/// with any of them, or not at all, can be read. To change keys, put the new one second on every
/// control plane, then first, then write all Secrets anew, then take the old one out.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn config(first: &Key, others: &[Key]) -> Result<File, RenderError> {
    let keys = [first].into_iter().chain(others);
    let keys = keys.map(|key| Named {
        name: key.name.clone(),
        secret: SecretText::new(STANDARD.encode(&key.bytes.0)),
    });
    let document = EncryptionConfiguration {
        api_version: "apiserver.config.k8s.io/v1",
        kind: "EncryptionConfiguration",
        resources: [Resources {
            resources: ["secrets"],
            // Secretbox: authenticated, and with random nonces long enough never to meet.
            providers: [Provider::Secretbox { keys: keys.collect() }, Provider::Identity {}],
        }],
    };
    let text = yaml::document("EncryptionConfiguration", &document)?;
    Ok(File::secret(paths::ENCRYPTION_CONFIG, text))
}
