//! The rules, as packaging/ has them.

/// Each file of rules: its name, and what is in it. Rules about backups get a line of their own here.
const RULES: [(&str, &str); 3] = [
    ("apiproxy.yaml", include_str!("../../../../packaging/prometheus-rules.yaml")),
    ("control-plane.yaml", include_str!("../../../../packaging/rules/control-plane.yaml")),
    ("hosts.yaml", include_str!("../../../../packaging/rules/hosts.yaml")),
];

/// All rules.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    RULES.into_iter()
}
