//! Ranges of addresses: `10.244.0.0/16`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, written by its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    /// The first address.
    pub(super) address: IpAddr,
    /// The bits that all its addresses share.
    pub(super) prefix: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CidrError {
    /// Not ADDRESS/PREFIX.
    Syntax,
    /// The address is not the first of its range, which is this one.
    NotFirst(Cidr),
}

impl Cidr {
    pub(super) fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The bits of an address of its family.
    pub(super) fn bits(&self) -> u8 {
        if self.is_ipv6() { 128 } else { 32 }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv6() == address.is_ipv6() && first(address, self.prefix) == self.address
    }

    /// Is none of its addresses loopback, link-local, multicast or reserved?
    pub(super) fn is_unicast(&self) -> bool {
        let special = [
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/3",
            "::/8",
            "fe80::/10",
            "ff00::/8",
        ];
        let special = special.into_iter().filter_map(|range| range.parse::<Self>().ok());
        special.into_iter().all(|range| !range.overlaps(self))
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// The first address of the range of this many bits that an address is in.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError::Syntax)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Syntax)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = digits.then(|| prefix.parse().ok()).flatten().ok_or(CidrError::Syntax)?;
        let cidr = Self { address, prefix };
        if prefix > cidr.bits() {
            return Err(CidrError::Syntax);
        }
        let network = Self { address: first(address, prefix), prefix };
        if network == cidr { Ok(cidr) } else { Err(CidrError::NotFirst(network)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn ranges_contain_and_overlap() {
        let pods = cidr("10.244.0.0/16");
        assert_eq!(pods.to_string(), "10.244.0.0/16");
        assert!(pods.contains("10.244.255.255".parse().unwrap()));
        assert!(!pods.contains("10.245.0.0".parse().unwrap()));
        assert!(pods.overlaps(&cidr("10.244.7.0/24")) && cidr("10.0.0.0/8").overlaps(&pods));
        assert!(!pods.overlaps(&cidr("10.96.0.0/12")) && !pods.overlaps(&cidr("fd00::/8")));
        let all = cidr("0.0.0.0/0");
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        assert!(cidr("::/0").contains("fd00::1".parse().unwrap()));
        assert!(cidr("fd00:10::7/128").contains("fd00:10::7".parse().unwrap()));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "fd00::/129", "a/8", "10.0.0.0/+8"]
        {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Syntax), "{text}");
        }
        let network = cidr("10.244.0.0/16");
        assert_eq!("10.244.3.1/16".parse::<Cidr>(), Err(CidrError::NotFirst(network)));
    }
}
