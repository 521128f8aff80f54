//! Encryption of bundles for the recipients of the spec: the format of age(1), X25519.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr as _;

/// Why a bundle cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A text is no recipient.
    #[error("`{0}` is no public key of age")]
    Recipient(String),
    /// A file has no identity in it.
    #[error("there is no private key of age in it: a line that begins with AGE-SECRET-KEY-1")]
    NoIdentity,
    /// It is encrypted and there is no key at all.
    #[error("it is encrypted; give the private key of one of its recipients with --identity FILE")]
    Sealed,
    /// It is encrypted for others.
    #[error("it is encrypted for other recipients than the given private key's")]
    WrongIdentity,
    /// It is damaged.
    #[error("what is encrypted is damaged: {0}")]
    Damaged(String),
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Private keys, never shown.
#[derive(Default)]
pub struct Identities(Vec<age::x25519::Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl Identities {
    /// Reads what `age-keygen` writes: a key a line, and comments.
    ///
    /// # Errors
    /// If there is none in it.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let keys = lines.filter(|line| !line.is_empty()).map(age::x25519::Identity::from_str);
        let keys: Result<Vec<_>, _> = keys.collect();
        match keys {
            Ok(keys) if !keys.is_empty() => Ok(Self(keys)),
            _ => Err(SealError::NoIdentity),
        }
    }

    /// Opens what is encrypted for one of them.
    ///
    /// # Errors
    /// If it is not, or is damaged.
    pub fn open<'a>(&self, input: impl Read + 'a) -> Result<Box<dyn Read + 'a>, SealError> {
        if self.0.is_empty() {
            return Err(SealError::Sealed);
        }
        let damaged = |error: age::DecryptError| match error {
            age::DecryptError::NoMatchingKeys => SealError::WrongIdentity,
            age::DecryptError::Io(error) => SealError::Io(error),
            other => SealError::Damaged(other.to_string()),
        };
        let opened = age::Decryptor::new(input).map_err(damaged)?;
        let keys = self.0.iter().map(|key| key as &dyn age::Identity);
        Ok(Box::new(opened.decrypt(keys).map_err(damaged)?))
    }
}

/// Writes through encryption, or plainly when there are no recipients. What is written is handed back
/// when all is there.
///
/// # Errors
/// If a recipient is none, or it cannot be written.
pub(super) fn seal<W: Write, E: From<SealError>>(
    out: W,
    recipients: &[String],
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<W, E> {
    let mut out = out;
    if recipients.is_empty() {
        write(&mut out)?;
        return Ok(out);
    }
    let key = |text: &String| {
        age::x25519::Recipient::from_str(text).map_err(|_| SealError::Recipient(text.clone()))
    };
    let keys = recipients.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let keys = keys.iter().map(|key| key as &dyn age::Recipient);
    let sealing = age::Encryptor::with_recipients(keys)
        .map_err(|error| SealError::Damaged(error.to_string()))?;
    let mut sealed = sealing.wrap_output(out).map_err(SealError::Io)?;
    write(&mut sealed)?;
    Ok(sealed.finish().map_err(SealError::Io)?)
}

/// Bytes, encrypted for the recipients; the same when there are none.
///
/// # Errors
/// If a recipient is none.
pub fn sealed(plain: &[u8], recipients: &[String]) -> Result<Vec<u8>, SealError> {
    seal(Vec::new(), recipients, |out| Ok(out.write_all(plain)?))
}

#[cfg(test)]
pub(super) mod made {
    use age::secrecy::ExposeSecret as _;

    /// A new pair: the public and the private key.
    pub(crate) fn pair() -> (String, String) {
        let identity = age::x25519::Identity::generate();
        (identity.to_public().to_string(), identity.to_string().expose_secret().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(keys: &Identities, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut text = Vec::new();
        keys.open(bytes)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn each_recipient_can_open_it_and_nobody_else() {
        let [one, two, three] = [(); 3].map(|()| made::pair());
        let bytes = sealed(b"secret", &[one.0, two.0]).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        for key in [&one.1, &two.1] {
            let keys = Identities::parse(&format!("# created: today\n{key}\n")).unwrap();
            assert_eq!(opened(&keys, &bytes).unwrap(), b"secret");
        }
        let other = Identities::parse(&three.1).unwrap();
        assert!(matches!(opened(&other, &bytes), Err(SealError::WrongIdentity)));
        assert!(matches!(opened(&Identities::default(), &bytes), Err(SealError::Sealed)));
        assert_eq!(format!("{other:?}"), "Identities(1)");
    }

    #[test]
    fn without_recipients_it_is_plain() {
        assert_eq!(sealed(b"text", &[]).unwrap(), b"text");
        let refused = sealed(b"text", &["age1bob".to_owned()]).unwrap_err().to_string();
        assert_eq!(refused, "`age1bob` is no public key of age");
    }

    #[test]
    fn damage_and_other_files_are_told() {
        let (public, private) = made::pair();
        let keys = Identities::parse(&private).unwrap();
        let bytes = sealed(&vec![7; 200_000], &[public]).unwrap();
        let mut flipped = bytes.clone();
        flipped[150_000] ^= 1;
        assert!(opened(&keys, &flipped).is_err());
        assert!(opened(&keys, &bytes[..150_000]).is_err(), "cut");
        assert!(opened(&keys, b"no such thing").is_err());
        for text in ["", "# only a comment\n", "age1bob\n"] {
            assert!(matches!(Identities::parse(text), Err(SealError::NoIdentity)), "{text}");
        }
    }
}
