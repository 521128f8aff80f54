//! What keeps the cluster alive: etcd members and kube-apiservers, and who of them is well.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Serialize;

use super::{Context, Disruption, Plan, State, StepError};
use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::transport::Command;

/// Where etcd listens for clients.
const ETCD_PORT: u16 = 2379;

/// Says who lives on this host and whether it listens. `$1` is a port, `$2` what is there when it
/// lives here; and so on in pairs. It needs no tool that a bare Debian lacks.
const LOOK: &str = r#"
while [ $# -gt 0 ]; do
    if [ ! -e "$2" ]; then
        echo absent
    elif grep -qiE ": [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null; then
        echo well
    else
        echo ill
    fi
    shift 2
done
"#;

/// The members of something, by host, and whether each is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BTreeMap<String, bool>);

impl Members {
    /// Of these hosts.
    pub fn new<'a>(members: impl IntoIterator<Item = (&'a str, bool)>) -> Self {
        Self(members.into_iter().map(|(host, well)| (host.to_owned(), well)).collect())
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.0.len()
    }

    /// How many are well.
    pub fn well(&self) -> usize {
        self.0.values().filter(|well| **well).count()
    }

    /// How many have to be well for etcd to serve.
    pub fn quorum(&self) -> usize {
        self.total() / 2 + 1
    }

    /// Does one live on this host?
    pub fn has(&self, host: &str) -> bool {
        self.0.contains_key(host)
    }

    /// Who is not well.
    pub fn ill(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, well)| !**well).map(|(host, _)| host.as_str()).collect()
    }

    /// The same while the one of this host is away.
    pub(super) fn without(&self, host: &str) -> Self {
        let mut members = self.clone();
        if let Some(well) = members.0.get_mut(host) {
            *well = false;
        }
        members
    }

    /// The same once the one of this host is well.
    pub(super) fn with(&self, host: &str) -> Self {
        let mut members = self.clone();
        members.0.insert(host.to_owned(), true);
        members
    }
}

/// What keeps the cluster alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The members of etcd.
    pub etcd: Members,
    /// The kube-apiservers.
    pub api: Members,
}

/// Looks at all hosts that may carry an etcd member or a kube-apiserver. It is well when it listens;
/// on a host that cannot be reached both are taken to live and to be ill, unless nothing lives
/// anywhere yet.
pub async fn vitals(cluster: &Cluster, cx: &Context) -> Vitals {
    let etcd: Vec<&str> = cluster.etcd_hosts().map(|host| host.name.as_str()).collect();
    let is_api = |host: &Host| host.roles.contains(&Role::ControlPlane);
    let hosts = cluster.hosts.iter();
    let hosts: Vec<&Host> =
        hosts.filter(|host| is_api(host) || etcd.contains(&host.name.as_str())).collect();
    let mut looks = Vec::new();
    for host in &hosts {
        let mut pairs = Vec::new();
        if etcd.contains(&host.name.as_str()) {
            pairs.extend([ETCD_PORT.to_string(), "/var/lib/etcd/member".to_owned()]);
        }
        if is_api(host) {
            let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml".to_owned();
            pairs.extend([cluster.endpoint.port.to_string(), manifest]);
        }
        looks.push(look(cx, &host.name, pairs));
    }
    let looks = join_all(looks).await;
    let found: Vec<_> = hosts.iter().map(|host| &host.name).zip(looks).collect();
    let mut vitals = Vitals::default();
    for (host, words) in &found {
        let mut words = words.iter().flatten().map(String::as_str);
        if etcd.contains(&host.as_str()) {
            enter(&mut vitals.etcd, host, words.next());
        }
        enter(&mut vitals.api, host, words.next());
    }
    for (host, words) in &found {
        if words.is_none() {
            let is_member = etcd.contains(&host.as_str()) && vitals.etcd.total() > 0;
            let is_server = cluster.with_role(Role::ControlPlane).any(|one| one.name == **host);
            enter(&mut vitals.etcd, host, is_member.then_some("ill"));
            let is_server = is_server && vitals.api.total() > 0;
            enter(&mut vitals.api, host, is_server.then_some("ill"));
        }
    }
    vitals
}

fn enter(members: &mut Members, host: &str, word: Option<&str>) {
    if let Some(word @ ("well" | "ill")) = word {
        members.0.insert(host.to_owned(), word == "well");
    }
}

/// A word for each pair; none if the host cannot be asked.
async fn look(cx: &Context, host: &str, pairs: Vec<String>) -> Option<Vec<String>> {
    let found: Result<_, StepError> = cx.run(host, &Command::script(LOOK, pairs)).await;
    match found {
        Ok(output) => Some(output.text().lines().map(str::to_owned).collect()),
        Err(_) => None,
    }
}

/// What is expected while a step is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// Members of etcd.
    pub etcd_members: usize,
    /// How many of them are well before the step.
    pub etcd_well: usize,
    /// How many of them are well during it.
    pub etcd_well_during: usize,
    /// How many have to be.
    pub etcd_quorum: usize,
    /// kube-apiservers that serve before the step.
    pub api_serving: usize,
    /// Those that serve during it.
    pub api_serving_during: usize,
    /// Why it will be refused, if it will.
    pub refused: Option<String>,
}

impl Prediction {
    /// What it means, in one line.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.etcd_members > 0 {
            let spare = |well: usize| match well.checked_sub(self.etcd_quorum) {
                Some(spare) => format!("{spare} more may fail"),
                None => "no quorum".to_owned(),
            };
            parts.push(format!(
                "etcd: {} of {} well, {}; during it {}, {}",
                self.etcd_well,
                self.etcd_members,
                spare(self.etcd_well),
                self.etcd_well_during,
                spare(self.etcd_well_during)
            ));
        }
        if self.api_serving > 0 {
            let (now, during) = (self.api_serving, self.api_serving_during);
            parts.push(format!("apiservers: {now} serving, {during} during it"));
        }
        parts.extend(self.refused.iter().map(|why| format!("will be refused: {why}")));
        parts.join("; ")
    }
}

/// What is expected while the member or server of a host is away: of both, where both live, since a
/// stacked apiserver talks to the etcd beside it.
pub fn predict(vitals: &Vitals, host: &str, etcd_goes: bool) -> Prediction {
    let etcd = if etcd_goes { vitals.etcd.without(host) } else { vitals.etcd.clone() };
    let api = vitals.api.without(host);
    let mut prediction = Prediction {
        etcd_members: vitals.etcd.total(),
        etcd_well: vitals.etcd.well(),
        etcd_well_during: etcd.well(),
        etcd_quorum: vitals.etcd.quorum(),
        api_serving: vitals.api.well(),
        api_serving_during: api.well(),
        refused: None,
    };
    prediction.refused = refusal(vitals, &prediction);
    prediction
}

/// What is expected at each disruptive step of a plan that would be applied, by its place, as if
/// those before it had gone well.
pub fn forecast(cluster: &Cluster, plan: &Plan, vitals: &Vitals) -> BTreeMap<usize, Prediction> {
    let mut vitals = vitals.clone();
    let mut predictions = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let applied = step.chosen && matches!(step.state, State::Needed(_) | State::After(_));
        let etcd_goes = match step.disruption {
            Some(Disruption::EtcdMember) if applied => true,
            Some(Disruption::ApiServer) if applied => false,
            _ => continue,
        };
        let host = &step.id.host;
        if cluster.host(host).is_none() {
            // It leaves: its step says with which numbers.
            continue;
        }
        predictions.insert(at, predict(&vitals, host, etcd_goes));
        if etcd_goes {
            vitals.etcd = vitals.etcd.with(host);
        }
        if cluster.with_role(Role::ControlPlane).any(|one| one.name == *host) {
            vitals.api = vitals.api.with(host);
        }
    }
    predictions
}

/// Why it must not be done: it would take away the quorum, or the last apiserver, while somebody
/// else is ill who could be mended first. With one member or two, all well, there is no other way.
fn refusal(vitals: &Vitals, of: &Prediction) -> Option<String> {
    let quorum = of.etcd_quorum;
    let breaks = of.etcd_well >= quorum && of.etcd_well_during < quorum;
    if breaks && of.etcd_well < of.etcd_members {
        return Some(format!(
            "it would leave {} of {} etcd members well, and quorum is {quorum}; {} is ill",
            of.etcd_well_during,
            of.etcd_members,
            vitals.etcd.ill().join(", "),
        ));
    }
    let darkens = of.api_serving > 0 && of.api_serving_during == 0;
    if darkens && of.api_serving < vitals.api.total() {
        return Some(format!(
            "it would leave no apiserver of {} serving; {} is ill",
            vitals.api.total(),
            vitals.api.ill().join(", "),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::engine::{Events, Graph, fake, observe};

    fn three(ill: &[&str]) -> Vitals {
        let members = || Members::new(["a", "b", "c"].map(|host| (host, !ill.contains(&host))));
        Vitals { etcd: members(), api: members() }
    }

    #[test]
    fn a_rolling_step_is_foretold_with_its_numbers() {
        let one = predict(&three(&[]), "a", true);
        assert_eq!(
            one.text(),
            "etcd: 3 of 3 well, 1 more may fail; during it 2, 0 more may fail; apiservers: 3 \
             serving, 2 during it"
        );
        assert_eq!(one.refused, None);
    }

    #[test]
    fn what_would_break_quorum_is_refused_and_what_mends_it_is_not() {
        let breaking = predict(&three(&["b"]), "a", true);
        let why = "it would leave 1 of 3 etcd members well, and quorum is 2; b is ill";
        assert_eq!(breaking.refused.as_deref(), Some(why));
        // The ill one itself may be worked on, and so may all once quorum is lost.
        assert_eq!(predict(&three(&["b"]), "b", true).refused, None);
        assert_eq!(predict(&three(&["b", "c"]), "b", true).refused, None);
        assert!(predict(&three(&["b", "c"]), "a", false).refused.unwrap().contains("no apiserver"));
    }

    #[test]
    fn one_or_two_members_cannot_be_spared_and_are_not_refused() {
        for names in [&["a"][..], &["a", "b"]] {
            let members = || Members::new(names.iter().map(|name| (*name, true)));
            let prediction = predict(&Vitals { etcd: members(), api: members() }, "a", true);
            assert!(prediction.text().contains("no quorum"), "{}", prediction.text());
            assert_eq!(prediction.refused, None);
        }
    }

    #[tokio::test]
    async fn a_plan_is_foretold_as_if_what_comes_before_went_well() {
        let cluster = fake::cluster(&["a", "b", "c"]);
        let (_machines, cx, _) = fake::hosts(&["a", "b", "c"]);
        let step = |name| fake::Fake::new(name).single().disrupts(Disruption::EtcdMember).step();
        let graph = Graph::new(&[step("b/up"), step("a/up"), step("c/up")]).unwrap();
        let plan = observe(&graph, &cx, None, 1, &Events::none()).await;
        let predictions = forecast(&cluster, &plan, &three(&["b"]));
        // First the ill one, then the others: none breaks quorum.
        let during: Vec<_> = predictions.values().map(|one| one.etcd_well_during).collect();
        assert_eq!(during, [2, 2, 2]);
        assert!(predictions.values().all(|one| one.refused.is_none()));
    }

    #[test]
    fn a_host_that_joins_takes_nothing_away() {
        let none = predict(&Vitals::default(), "a", true);
        assert_eq!((none.text().as_str(), none.refused), ("", None));
        let grown = three(&[]).etcd.with("d");
        assert_eq!((grown.total(), grown.quorum(), grown.has("d")), (4, 3, true));
    }
}
