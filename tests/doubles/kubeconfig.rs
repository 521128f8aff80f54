//! Kubeconfigs: where a cluster is, whom to trust, and who one is.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Client;
use crate::schema;

/// Who one is.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// A certificate and its key, in PEM.
    Certificate(Vec<u8>, Vec<u8>),
    /// A file with both.
    File(String),
    /// A bearer token.
    Token(String),
    /// Nobody.
    None,
}

/// The text of a kubeconfig.
pub(crate) fn text(server: &str, ca: &[u8], user: &str, identity: &Identity) -> String {
    let credentials = match identity {
        Identity::Certificate(certificate, key) => json!({
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }),
        Identity::File(path) => json!({ "client-certificate": path, "client-key": path }),
        Identity::Token(token) => json!({ "token": token }),
        Identity::None => json!({}),
    };
    let cluster = json!({ "certificate-authority-data": STANDARD.encode(ca), "server": server });
    let mut file = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {},
        "clusters": [{ "name": "kubernetes", "cluster": cluster }],
        "contexts": [{ "name": format!("{user}@kubernetes"), "context": { "cluster": "kubernetes", "user": user } }],
        "current-context": format!("{user}@kubernetes"),
        "users": [{ "name": user, "user": credentials }],
    });
    if matches!(identity, Identity::None) {
        // As cluster-info has it.
        file = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {},
            "clusters": [{ "name": "", "cluster": cluster }],
            "contexts": null, "current-context": "", "users": null,
        });
    }
    schema::text(&file)
}

/// The server and the CA that a kubeconfig names.
pub(crate) fn cluster(text: &str) -> Result<(String, Vec<u8>), String> {
    let file = read(text)?;
    let context = named(&file, "contexts", file["current-context"].as_str().unwrap_or_default());
    let name = context.and_then(|c| c["context"]["cluster"].as_str()).unwrap_or_default();
    let cluster = named(&file, "clusters", name).ok_or("the kubeconfig has no cluster")?;
    let server = cluster["cluster"]["server"].as_str().ok_or("the kubeconfig has no server")?;
    let ca =
        bytes(&cluster["cluster"], "certificate-authority")?.ok_or("the kubeconfig has no CA")?;
    Ok((server.to_owned(), ca))
}

/// A client as a kubeconfig describes it.
pub(crate) fn client(path: &Path) -> Result<Client, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (server, ca) = cluster(&text)?;
    let file = read(&text)?;
    let context = named(&file, "contexts", file["current-context"].as_str().unwrap_or_default());
    let name = context.and_then(|c| c["context"]["user"].as_str()).unwrap_or_default();
    let user = named(&file, "users", name).ok_or("the kubeconfig has no user")?["user"].clone();
    let identity = bytes(&user, "client-certificate")?.zip(bytes(&user, "client-key")?);
    let identity =
        identity.as_ref().map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
    Client::new(&server, &ca, identity, user["token"].as_str())
}

fn read(text: &str) -> Result<Value, String> {
    schema::yaml(text)?.into_iter().next().ok_or_else(|| "the kubeconfig is empty".to_owned())
}

fn named<'a>(file: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    file[list].as_array()?.iter().find(|item| item["name"] == name)
}

/// What is in a field, or in the file that it names.
fn bytes(object: &Value, field: &str) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = object[format!("{field}-data")].as_str() {
        return STANDARD.decode(data).map(Some).map_err(|error| format!("{field}-data: {error}"));
    }
    let read = |path: &str| fs::read(path).map_err(|error| format!("{path}: {error}"));
    object[field].as_str().map(read).transpose()
}
