//! The credentials of a worker's proxy: a client certificate of its own that may watch the list of
//! apiservers and nothing else. Its key is made here, goes to that worker, and is kept nowhere.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::time::sleep;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, expiry, is_ending, kubectl};
use crate::bootstrap::steps::documents::Identity;

/// The user whom the rights are bound to.
const USER: &str = "apiproxy";

/// A year: what kube-controller-manager signs at most by default. It is renewed by an `apply` in the last
/// two months.
const LIFE_SECONDS: u32 = 365 * 24 * 3600;

/// How often the certificate is asked for, and how long apart.
const TRIES: usize = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// What is wrong with the certificate that a worker's proxy has.
pub fn fault(certificate: Option<&str>) -> Option<String> {
    let Some(certificate) = certificate else {
        return Some("the proxy has no credentials to find apiservers with".to_owned());
    };
    let pem = certificate.as_bytes();
    let days = expiry(pem).map_or(0, |expiry| expiry.days_left);
    match is_ending(pem) {
        Ok(false) => None,
        Ok(true) => Some(format!("the proxy's client certificate ends in {days} days")),
        Err(error) => Some(format!("the proxy's client certificate: {error}")),
    }
}

/// Has the cluster sign a certificate.
///
/// # Errors
/// The control plane cannot be reached, or the cluster does not sign.
pub async fn mint(cx: &Context, via: &str, host: &str, ca: String) -> Result<Identity, StepError> {
    let failed =
        |error: rcgen::Error| StepError::Unverified(format!("no key can be made: {error}"));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, USER);
    let request =
        params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    let api = Api::new(cx, via);
    // Generated names: a request that an earlier run left is none of ours.
    let manifest = serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "generateName": format!("apiproxy-{host}-") },
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "expirationSeconds": LIFE_SECONDS,
            "usages": ["client auth"],
        },
    });
    let create = kubectl(["create", "-f", "-", "--output", "jsonpath={.metadata.name}"]);
    let name = cx.run(via, &create.stdin(manifest.to_string())).await?.text();
    let certificate = signed(&api, &name).await;
    api.kubectl(["delete", "csr", name.as_str(), "--ignore-not-found"]).await?;
    Ok(Identity { ca, certificate: certificate?, key: key.serialize_pem() })
}

async fn signed(api: &Api<'_>, name: &str) -> Result<String, StepError> {
    api.kubectl(["certificate", "approve", name]).await?;
    for _ in 0..TRIES {
        let words = ["get", "csr", name, "--output", "jsonpath={.status.certificate}"];
        let text = api.kubectl(words).await?.text();
        if let Some(pem) = STANDARD.decode(&text).ok().filter(|pem| !pem.is_empty()) {
            return Ok(String::from_utf8_lossy(&pem).into_owned());
        }
        sleep(PAUSE).await;
    }
    Err(StepError::Unverified(format!(
        "no certificate was signed for the proxy within {TRIES} s; see the log of kube-controller-manager"
    )))
}
