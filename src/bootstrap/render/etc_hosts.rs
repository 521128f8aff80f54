//! Our block in `/etc/hosts`: the endpoint, and the names that must be known without DNS.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::bootstrap::spec::{Cluster, Host, Role};

const BEGIN: &str = "# BEGIN apiproxy bootstrap (what stands in this block is replaced)";
const END: &str = "# END apiproxy bootstrap";

/// The lines of a host's block. The endpoint is 127.0.0.1, or a live control plane while this host
/// joins as one: its own apiserver does not answer yet.
///
/// Workers are not in it, so that a new one changes no other host.
pub fn hosts_block(cluster: &Cluster, host: &Host, endpoint: IpAddr) -> String {
    let mut lines = format!("{endpoint} {}\n", cluster.endpoint.name);
    let control_planes = cluster.with_role(Role::ControlPlane);
    let own = Some(host).filter(|host| !host.roles.contains(&Role::ControlPlane));
    for Host { name, address, .. } in control_planes.chain(own) {
        if *name != cluster.endpoint.name {
            let _infallible = writeln!(lines, "{address} {name}");
        }
    }
    lines
}

/// Puts the block where it stood, or at the end. Everything else stays byte for byte, except that a
/// last line gets its end when the block comes after it. An empty block is taken out.
///
/// A marker that has lost its partner is taken out alone.
pub fn replace_block(existing: &[u8], block: &str) -> Vec<u8> {
    let lines: Vec<&[u8]> = existing.split_inclusive(|byte| *byte == b'\n').collect();
    let ours = marked(&lines);
    let mut text = Vec::with_capacity(existing.len() + block.len() + 128);
    let mut placed = block.is_empty();
    for (line, ours) in lines.into_iter().zip(ours) {
        if !ours {
            text.extend_from_slice(line);
        } else if !placed {
            write(&mut text, block);
            placed = true;
        }
    }
    if !placed {
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        write(&mut text, block);
    }
    text
}

fn write(text: &mut Vec<u8>, block: &str) {
    for part in [BEGIN, "\n", block, if block.ends_with('\n') { "" } else { "\n" }, END, "\n"] {
        text.extend_from_slice(part.as_bytes());
    }
}

/// Which lines are ours: from each beginning to the nearest end that comes before the next beginning.
fn marked(lines: &[&[u8]]) -> Vec<bool> {
    let mut ours = vec![false; lines.len()];
    let mut begun = None;
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_ascii();
        if line == BEGIN.as_bytes() {
            ours[at] = true;
            begun = Some(at);
        } else if line == END.as_bytes() {
            ours[begun.take().unwrap_or(at)..=at].fill(true);
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_block_comes_last_stays_in_its_place_and_goes() {
        let old = b"127.0.0.1 localhost\r\n\n# mine \xff\n10.0.0.9 gateway";
        let first = replace_block(old, "127.0.0.1 api\n");
        let expected = format!("{BEGIN}\n127.0.0.1 api\n{END}\n");
        assert_eq!(first, [&old[..], b"\n", expected.as_bytes()].concat());
        let below = [&first[..], b"10.0.0.8 below\n"].concat();
        let second = replace_block(&below, "10.0.0.11 api");
        let expected = format!("{BEGIN}\n10.0.0.11 api\n{END}\n10.0.0.8 below\n");
        assert_eq!(second, [&old[..], b"\n", expected.as_bytes()].concat());
        assert_eq!(replace_block(&second, ""), [&old[..], b"\n10.0.0.8 below\n"].concat());
        assert_eq!(replace_block(b"", ""), b"");
    }

    #[test]
    fn a_marker_without_its_partner_takes_nothing_with_it() {
        let torn = format!("a\n{BEGIN}\nb\n{BEGIN}\nc\n{END}\nd\n{END}\ne\n");
        let whole = replace_block(torn.as_bytes(), "x\n");
        let expected = format!("a\n{BEGIN}\nx\n{END}\nb\nd\ne\n");
        assert_eq!(String::from_utf8_lossy(&whole), expected);
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ -~]{0,12}\r?",
            1 => Just(BEGIN.to_owned()),
            1 => Just(END.to_owned()),
            1 => Just(format!("  {END}\r")),
        ]
    }

    fn block() -> impl Strategy<Value = String> {
        prop::collection::vec("[a-z0-9 .:]{1,12}\n", 0..4).prop_map(|lines| lines.concat())
    }

    fn is_marker(line: &str) -> bool {
        [BEGIN, END].contains(&line.trim_ascii())
    }

    /// What is not ours, as the markers stand.
    fn others(text: &[u8]) -> Vec<u8> {
        replace_block(text, "")
    }

    proptest! {
        #[test]
        fn it_is_idempotent_and_keeps_the_rest(
            lines in prop::collection::vec(line(), 0..12),
            ended in any::<bool>(),
            block in block(),
            other in block(),
        ) {
            let text = lines.join("\n") + if ended && !lines.is_empty() { "\n" } else { "" };
            let once = replace_block(text.as_bytes(), &block);
            prop_assert_eq!(&replace_block(&once, &block), &once, "applied again");
            let changed = replace_block(&replace_block(text.as_bytes(), &other), &block);
            if !other.is_empty() && !block.is_empty() {
                prop_assert_eq!(&changed, &once, "another block before");
            }
            let first = !lines.iter().any(|line| is_marker(line));
            let mut rest = others(text.as_bytes());
            if first && !block.is_empty() && !rest.is_empty() && !rest.ends_with(b"\n") {
                rest.push(b'\n');
            }
            prop_assert_eq!(others(&once), rest, "what is not ours");
            if first {
                prop_assert!(once.starts_with(text.as_bytes()), "the old text is the beginning");
                prop_assert_eq!(others(text.as_bytes()), text.as_bytes());
            }
        }
    }
}
