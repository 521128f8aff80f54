//! Who asks: by client certificate or bootstrap token, or nobody.

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::Refusal;
use super::resources::Target;
use super::store::Store;
use crate::http::Message;
use crate::token::{self, Token};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl User {
    /// Tells who made a request over a connection with these client certificates.
    pub(super) fn of(
        chain: Option<&[CertificateDer<'_>]>,
        request: &Message,
        store: &Store,
    ) -> Result<Self, Refusal> {
        let refused = || Refusal(401, "Unauthorized", "Unauthorized".to_owned());
        if let Some(certificate) = chain.and_then(|chain| chain.first()) {
            return Self::of_certificate(certificate).ok_or_else(refused);
        }
        let Some(authorization) = request.headers.get("authorization") else {
            return Ok(Self::new("system:anonymous", &["system:unauthenticated"]));
        };
        let text = authorization.strip_prefix("Bearer ").ok_or_else(refused)?;
        let token = Token::parse(text).map_err(|_| refused())?;
        let secret =
            Target::named("secrets", "kube-system", &format!("bootstrap-token-{}", token.id));
        let object = store.get(&secret).map_err(|_| refused())?;
        if Token::of_object(&object, token::now()).as_ref() != Some(&token) {
            return Err(refused());
        }
        let groups = ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"];
        Ok(Self::new(
            &format!("system:bootstrap:{}", token.id),
            &[groups[0], groups[1], "system:authenticated"],
        ))
    }

    fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let organizations = subject.iter_organization().filter_map(|part| part.as_str().ok());
        let mut groups: Vec<_> = organizations.map(str::to_owned).collect();
        groups.push("system:authenticated".to_owned());
        Some(Self { name, groups })
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// A request to sign a certificate carries who made it, whatever it says itself.
    pub(super) fn stamp(&self, target: &Target, mut object: Value) -> Value {
        if target.kind.name == "certificatesigningrequests" {
            object["spec"]["username"] = json!(self.name);
            object["spec"]["groups"] = json!(self.groups);
        }
        object
    }
}
