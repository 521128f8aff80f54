//! Bootstrap tokens, what they sign, and certificate keys.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

/// Where the Secrets of tokens are.
pub(crate) const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// `[a-z0-9]{6}.[a-z0-9]{16}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Token {
    /// Reads one; nothing but the documented form is a token.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_part = |part: &str, length| {
            part.len() == length
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match text.split_once('.') {
            Some((id, secret)) if is_part(id, 6) && is_part(secret, 16) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => {
                Err(r#"the bootstrap token is not of the form "\A([a-z0-9]{6})\.([a-z0-9]{16})\z""#
                    .to_owned())
            }
        }
    }

    /// A new one.
    pub(crate) fn random() -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let letters = |count| {
            random(count).iter().map(|b| char::from(LETTERS[usize::from(b % 36)])).collect()
        };
        Self { id: letters(6), secret: letters(16) }
    }

    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The Secret that makes it valid until then, in seconds of Unix time; for ever if there is no end.
    pub(crate) fn object(&self, expires: Option<u64>, description: &str) -> Value {
        let data = [
            ("token-id", self.id.as_str()),
            ("token-secret", &self.secret),
            ("description", description),
            ("usage-bootstrap-authentication", "true"),
            ("usage-bootstrap-signing", "true"),
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
        ];
        let mut data: serde_json::Map<_, _> = data
            .into_iter()
            .map(|(key, value)| (key.to_owned(), json!(STANDARD.encode(value))))
            .collect();
        if let Some(expires) = expires {
            data.insert("expiration".to_owned(), json!(STANDARD.encode(date(expires))));
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{}", self.id), "namespace": "kube-system" },
            "data": data,
        })
    }

    /// Reads the Secret of a token; none if it is no such, or has ended.
    pub(crate) fn of_object(object: &Value, now: u64) -> Option<Self> {
        let text = |key: &str| {
            let bytes = STANDARD.decode(object["data"][key].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let valid = text("expiration").is_none_or(|end| end > date(now));
        (valid && object["type"] == "bootstrap.kubernetes.io/token")
            .then_some(Self { id: text("token-id")?, secret: text("token-secret")? })
    }

    /// Its signature over a text, as `cluster-info` carries it: a JWS without the payload.
    pub(crate) fn sign(&self, text: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, self.id));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signed =
            hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(text)).as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(signed))
    }
}

/// Random bytes.
pub(crate) fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    SystemRandom::new().fill(&mut bytes).unwrap_or_else(|_| std::process::abort());
    bytes
}

/// Unix time in seconds.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// Unix time as RFC 3339 writes it.
pub(crate) fn date(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds),
    )
    .to_string()
}

/// What uploaded certificates are encrypted with: 32 bytes in hexadecimal.
pub(crate) struct CertificateKey(LessSafeKey);

impl CertificateKey {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let error = || "the certificate key is not of 32 bytes in hexadecimal".to_owned();
        let byte =
            |at: usize| text.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let bytes: Option<Vec<_>> = (0..text.len()).step_by(2).map(byte).collect();
        let bytes = bytes.filter(|bytes| bytes.len() == 32).ok_or_else(error)?;
        UnboundKey::new(&AES_256_GCM, &bytes)
            .map(|key| Self(LessSafeKey::new(key)))
            .map_err(|_| error())
    }

    /// A new one, as text.
    pub(crate) fn random() -> String {
        hex(&random(32))
    }

    /// The nonce, and what was encrypted with it.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; 12] = random(12).try_into().unwrap_or_default();
        let mut bytes = plain.to_vec();
        let sealed = self.0.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut bytes,
        );
        sealed.map_or_else(|_| Vec::new(), |()| [&nonce[..], &bytes].concat())
    }

    pub(crate) fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let error = || "the certificate key does not fit the uploaded certificates".to_owned();
        let (nonce, sealed) = bytes.split_at_checked(12).ok_or_else(error)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| error())?;
        let mut sealed = sealed.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::empty(), &mut sealed).map_err(|_| error())?;
        Ok(plain.to_vec())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_have_one_form() {
        assert!(Token::parse("abcdef.0123456789abcdef").is_ok());
        for wrong in [
            "",
            "abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdef ",
        ] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
        let token = Token::random();
        assert_eq!(Token::parse(&token.text()), Ok(token.clone()));
        let object = token.object(Some(now() + 60), "");
        assert_eq!(Token::of_object(&object, now()), Some(token.clone()));
        assert_eq!(Token::of_object(&object, now() + 61), None);
        assert_eq!(Token::of_object(&token.object(None, ""), u64::from(u32::MAX)), Some(token));
    }

    #[test]
    fn only_the_right_key_opens() {
        let key = CertificateKey::parse(&CertificateKey::random()).unwrap();
        let sealed = key.encrypt(b"secret");
        assert_eq!(key.decrypt(&sealed).unwrap(), b"secret");
        assert!(
            CertificateKey::parse(&CertificateKey::random()).unwrap().decrypt(&sealed).is_err()
        );
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64)] {
            assert!(CertificateKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
