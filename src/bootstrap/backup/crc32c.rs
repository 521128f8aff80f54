//! CRC-32C (Castagnoli, RFC 3720), by which etcd tells whether two databases are the same.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is less than 256")]
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// A checksum that grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let step = |sum: u32, byte: &u8| sum >> 8 ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)];
        self.0 = !bytes.iter().fold(!self.0, step);
    }

    /// The checksum of all that was added.
    pub(super) const fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        let mut sum = Crc32c::default();
        sum.update(b"1234");
        sum.update(b"56789");
        assert_eq!(sum.value(), 0xe306_9283);
        assert_eq!(Crc32c::default().value(), 0);
    }
}
