//! `kubeadm token`.

use std::time::Duration;

use serde_json::json;

use crate::flags::Line;
use crate::token::{SECRETS, Token, now};

pub(super) const FLAGS: &[&str] = &[
    "ttl",
    "description",
    "print-join-command!",
    "usages",
    "groups",
    "certificate-key",
    "config",
    "dry-run!",
];

/// `kubeadm token create`: prints the token.
pub(super) fn create(line: &Line, token: Option<&str>) -> Result<(), String> {
    if let Some(flag) =
        ["usages", "groups", "certificate-key", "print-join-command", "config", "dry-run"]
            .iter()
            .find(|flag| line.get(flag).is_some())
    {
        return Err(format!("this double does not know what --{flag} would do"));
    }
    let token = token.map_or_else(|| Ok(Token::random()), Token::parse)?;
    let ttl = line.get("ttl").unwrap_or("24h0m0s");
    let ttl = if ttl == "0" {
        Duration::ZERO
    } else {
        humantime::parse_duration(ttl).map_err(|error| format!("--ttl: {error}"))?
    };
    let expires = (!ttl.is_zero()).then(|| now() + ttl.as_secs());
    let object = token.object(expires, line.get("description").unwrap_or_default());
    super::admin(line)?.done("POST", SECRETS, &object)?;
    println!("{}", token.text());
    Ok(())
}

/// `kubeadm token list`.
pub(super) fn list(line: &Line) -> Result<(), String> {
    let secrets = super::admin(line)?.need(SECRETS)?;
    println!("TOKEN                     USAGES");
    for token in
        secrets["items"].as_array().into_iter().flatten().filter_map(|s| Token::of_object(s, now()))
    {
        println!("{}   authentication,signing", token.text());
    }
    Ok(())
}

/// `kubeadm token delete`, by the token or its first part.
pub(super) fn delete(line: &Line, token: &str) -> Result<(), String> {
    let id = token.split('.').next().unwrap_or_default();
    let path = format!("{SECRETS}/bootstrap-token-{id}");
    super::admin(line)?.done("DELETE", &path, &json!({}))?;
    println!("bootstrap token {id:?} deleted");
    Ok(())
}
