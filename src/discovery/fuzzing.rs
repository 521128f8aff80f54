//! What the fuzz targets in `fuzz/` need of discovery. Built by cargo-fuzz alone.

use std::time::UNIX_EPOCH;

use super::found::sane;
use super::kubernetes::{slices::Slices, understands_kubeconfig};
use super::{Server, cache, list};

/// The servers in a list that somebody wrote.
///
/// # Errors
/// It is none.
pub fn list(text: &str) -> Result<Vec<Server>, String> {
    list::parse(text).and_then(|servers| Ok(sane(servers, &[], true)?.servers))
}

/// The servers in a cache file, and the file that keeps the same.
///
/// # Errors
/// It is none.
pub fn cache(text: &str) -> Result<(Vec<Server>, String), String> {
    let (servers, written) = cache::parse(text)?;
    let again = cache::render(&servers, written);
    Ok((servers, again))
}

/// A cache file of these servers.
pub fn render(servers: &[Server]) -> String {
    cache::render(servers, UNIX_EPOCH)
}

/// The servers that a list of EndpointSlices (the first line) and the events after it make.
///
/// # Errors
/// One of them is none, or absurd.
pub fn slices(text: &[u8]) -> Result<Vec<Server>, String> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut slices = Slices::list(lines.next().unwrap_or_default())?;
    for line in lines {
        slices.apply(line)?;
    }
    slices.servers().and_then(|servers| Ok(sane(servers, &[], false)?.servers))
}

/// Is this a kubeconfig that can be used?
pub fn kubeconfig(text: &str) -> bool {
    understands_kubeconfig(text)
}
