//! `kubeconfig`: the admin's, for the operator's own machine.

use super::shared::Shared;
use crate::bootstrap::engine::{Context, StepError};

/// The admin's kubeconfig on a control plane.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// The admin's kubeconfig of the cluster, for this server, such as `https://lb.example.com:6443`; by
/// default the control plane that it comes from, by its address. It is a secret.
///
/// # Errors
/// No control plane serves, or its kubeconfig is none.
pub async fn fetch(
    shared: &Shared,
    cx: &Context,
    server: Option<&str>,
) -> Result<String, StepError> {
    let via = shared.through(cx).await?;
    let found = cx.host(&via)?.read(ADMIN).await?;
    let text = found.map(|found| String::from_utf8_lossy(&found.content).into_owned());
    let address =
        std::net::SocketAddr::new(shared.host(&via)?.address, shared.cluster.endpoint.port);
    let own = format!("https://{address}");
    let rewritten = text.as_deref().and_then(|text| rewrite(text, server.unwrap_or(&own)));
    rewritten.ok_or_else(|| {
        StepError::Unverified(format!("{via}: {ADMIN} is no kubeconfig of one cluster"))
    })
}

/// The same kubeconfig for another server. Every other byte stays as it is.
fn rewrite(text: &str, server: &str) -> Option<String> {
    let is_server = |line: &&str| line.trim_start().starts_with("server:");
    if text.lines().filter(is_server).count() != 1 {
        return None;
    }
    let line = |line: &str| {
        let Some((before, _)) = line.split_once("server:").filter(|_| is_server(&line)) else {
            return line.to_owned();
        };
        format!("{before}server: {server}\n")
    };
    Some(text.split_inclusive('\n').map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_alone_is_rewritten() {
        let text =
            "clusters:\n- cluster:\n    server: https://api.prod:6443\n  name: prod\nusers: []\n";
        let expected =
            "clusters:\n- cluster:\n    server: https://10.0.0.11:6443\n  name: prod\nusers: []\n";
        assert_eq!(rewrite(text, "https://10.0.0.11:6443").as_deref(), Some(expected));
        assert_eq!(rewrite("", "x"), None);
        assert_eq!(rewrite(&text.repeat(2), "x"), None, "two clusters");
    }
}
