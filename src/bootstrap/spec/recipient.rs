//! Public keys of age(1): `age1...`, Bech32 (BIP 173) of 32 bytes.

const CHARSET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Symbols of five bits: 32 bytes make 52, and the checksum 6.
const SYMBOLS: usize = 58;

/// Is this a public key of age? If not, why, and what to do.
pub(super) fn check(text: &str) -> Result<(), (&'static str, &'static str)> {
    if text.to_uppercase().starts_with("AGE-SECRET-KEY-") {
        return Err((
            "this is a private key, which must not be here",
            "write its public key: `age-keygen -y KEYFILE` prints it",
        ));
    }
    let hint = "write a public key of age, which begins with `age1`: `age-keygen` makes one";
    let Some(data) = text.strip_prefix("age1") else {
        return Err(("this is no public key of age", hint));
    };
    let symbols: Option<Vec<u32>> = data.chars().map(symbol).collect();
    match symbols {
        Some(symbols) if symbols.len() == SYMBOLS && checksum("age", &symbols) == 1 => Ok(()),
        _ => Err((
            "this public key is mistyped or cut: its checksum does not fit",
            "copy all 62 characters of what `age-keygen` printed",
        )),
    }
}

fn symbol(c: char) -> Option<u32> {
    CHARSET.find(c).and_then(|index| u32::try_from(index).ok())
}

/// The remainder of the code; 1 when all is well.
fn checksum(prefix: &str, symbols: &[u32]) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let high = prefix.bytes().map(|byte| u32::from(byte >> 5));
    let low = prefix.bytes().map(|byte| u32::from(byte & 31));
    let all = high.chain([0]).chain(low).chain(symbols.iter().copied());
    all.fold(1, |sum, symbol| {
        let top = sum >> 25;
        let next = (sum & 0x1ff_ffff) << 5 ^ symbol;
        let terms = GENERATOR.iter().enumerate().filter(|(index, _)| top >> index & 1 == 1);
        terms.fold(next, |next, (_, term)| next ^ term)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn every_slip_of_one_character_is_found() {
        assert_eq!(check(GOOD), Ok(()));
        for (index, old) in GOOD.char_indices().skip(4) {
            for new in CHARSET.chars().filter(|new| *new != old) {
                let mut text = GOOD.to_owned();
                text.replace_range(index..=index, &new.to_string());
                assert!(check(&text).is_err(), "{text}");
            }
        }
        assert!(check(&GOOD[..61]).unwrap_err().0.contains("mistyped or cut"));
    }

    #[test]
    fn other_keys_are_refused() {
        assert!(check("AGE-SECRET-KEY-1QQQ").unwrap_err().0.contains("private key"));
        for text in ["", "ssh-ed25519 AAAA", "bob@example.com"] {
            assert_eq!(check(text).unwrap_err().0, "this is no public key of age", "{text}");
        }
    }
}
