//! Who may do what: the built-in rights of Kubernetes' own parts, and what bindings give.

use serde_json::Value;

use super::Refusal;
use super::auth::User;
use super::resources::Target;
use super::store::Store;

/// Refuses what a user may not do.
pub(super) fn check(
    store: &Store,
    user: &User,
    verb: &str,
    target: &Target,
) -> Result<(), Refusal> {
    if is_built_in(user, verb, target) || is_bound(store, user, verb, target)? {
        return Ok(());
    }
    let what =
        format!("{}{}", target.kind.name, if target.subresource.is_empty() { "" } else { "/" });
    let message = format!(
        "{what}{} {:?} is forbidden: User {:?} cannot {verb} resource {:?} in API group {:?} in the namespace {:?}",
        target.subresource,
        target.name,
        user.name,
        target.kind.name,
        target.group(),
        target.namespace
    );
    Err(Refusal(403, "Forbidden", message))
}

/// What needs no binding. A node may do less than here in truth: only to itself.
fn is_built_in(user: &User, verb: &str, target: &Target) -> bool {
    const CONTROL_PLANE: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];
    const OF_NODES: [&str; 5] = ["nodes", "pods", "leases", "events", "certificatesigningrequests"];
    const READ_BY_NODES: [&str; 4] = ["services", "configmaps", "endpointslices", "daemonsets"];
    if user.is_in("system:masters") || CONTROL_PLANE.contains(&user.name.as_str()) {
        return true;
    }
    let reads = ["get", "list", "watch"].contains(&verb);
    user.is_in("system:nodes")
        && (OF_NODES.contains(&target.kind.name)
            && !["approval"].contains(&target.subresource.as_str())
            || reads && READ_BY_NODES.contains(&target.kind.name))
}

/// What the roles that come with Kubernetes allow, of those that anybody binds here.
fn built_in_role(name: &str, verb: &str, target: &Target) -> Option<bool> {
    let on = |resource: &str| target.kind.name == resource;
    match name {
        "cluster-admin" => Some(true),
        "system:node-bootstrapper" => {
            let verbs = ["create", "get", "list", "watch"];
            Some(
                on("certificatesigningrequests")
                    && target.subresource.is_empty()
                    && verbs.contains(&verb),
            )
        }
        _ => None,
    }
}

fn is_bound(store: &Store, user: &User, verb: &str, target: &Target) -> Result<bool, Refusal> {
    let everywhere = store.all("clusterrolebindings", "")?;
    let here = if target.namespace.is_empty() {
        Vec::new()
    } else {
        store.all("rolebindings", &target.namespace)?
    };
    for binding in everywhere.iter().chain(&here).filter(|binding| names(binding, user)) {
        let (kind, name) =
            (&binding["roleRef"]["kind"], binding["roleRef"]["name"].as_str().unwrap_or_default());
        if let Some(allowed) = built_in_role(name, verb, target) {
            if allowed {
                return Ok(true);
            }
            continue;
        }
        let role = match kind.as_str() {
            Some("ClusterRole") => Target::named("clusterroles", "", name),
            _ => Target::named("roles", &target.namespace, name),
        };
        let Ok(role) = store.get(&role) else { continue };
        if role["rules"].as_array().into_iter().flatten().any(|rule| allows(rule, verb, target)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Is the user one of a binding's subjects?
fn names(binding: &Value, user: &User) -> bool {
    binding["subjects"].as_array().into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => user.name == name,
            Some("Group") => user.is_in(name),
            _ => false,
        }
    })
}

fn allows(rule: &Value, verb: &str, target: &Target) -> bool {
    let has = |field: &str, wanted: &str| {
        rule[field].as_array().into_iter().flatten().any(|item| item == wanted || item == "*")
    };
    let resource = match target.subresource.as_str() {
        "" => target.kind.name.to_owned(),
        subresource => format!("{}/{subresource}", target.kind.name),
    };
    let named = rule["resourceNames"].as_array().is_none_or(|names| {
        names.is_empty() || names.iter().any(|name| *name == target.name.as_str())
    });
    has("verbs", verb) && has("apiGroups", target.group()) && has("resources", &resource) && named
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_allow_what_they_name() {
        let target =
            Target::parse("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
                .unwrap();
        let rule = |names: &[&str]| json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get"], "resourceNames": names });
        assert!(
            allows(&rule(&[]), "get", &target) && allows(&rule(&["kubernetes"]), "get", &target)
        );
        assert!(!allows(&rule(&["other"]), "get", &target) && !allows(&rule(&[]), "list", &target));
        let secret = Target::parse("/api/v1/namespaces/default/secrets/a").unwrap();
        assert!(!allows(&rule(&[]), "get", &secret));
    }
}
