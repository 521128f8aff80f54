//! What `/etc/hosts` says of a name.

use std::net::IpAddr;

/// The file.
pub const PATH: &str = "/etc/hosts";

/// The address of a name: the first that names it counts, as for the resolver.
pub fn lookup(text: &str, name: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_the_name_counts() {
        let text =
            "127.0.0.1 localhost\n# 10.0.0.9 api\n10.0.0.1\tx api # api\n10.0.0.2 api\nbad api.x";
        assert_eq!(lookup(text, "api"), "10.0.0.1".parse().ok());
        assert_eq!(lookup(text, "api.x"), None);
        assert_eq!(lookup("", "api"), None);
    }
}
