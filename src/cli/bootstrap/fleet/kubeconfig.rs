//! `fleet kubeconfig`: one for all clusters, with a context for each.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Reach;
use super::child::Outcome;
use crate::bootstrap::spec::{Fleet, Member};
use crate::cli::bootstrap::job::interrupts;
use crate::cli::bootstrap::kubeconfig::{save, there_is_one};
use crate::cli::{CliError, output, runtime};

/// Flags of `fleet kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Clusters, users and contexts are called as the clusters are, and the first cluster's context is the current
one. Whoever has the file is admin of all of them. Nothing is written unless every cluster gave its own.

Example:
  apiproxy bootstrap fleet kubeconfig --file fleet.yaml --output world.kubeconfig
  kubectl --kubeconfig world.kubeconfig --context west get nodes")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Where it goes, readable for you alone; `-` is standard output [default: FLEET.kubeconfig].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file if there is one.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let fleet = args.reach.load()?;
    let default = PathBuf::from(format!("{}.kubeconfig", fleet.name));
    let path = args.output.as_ref().unwrap_or(&default);
    let to_stdout = path == Path::new("-");
    // Before any host is asked.
    if !to_stdout && !args.force && path.symlink_metadata().is_ok() {
        return Err(there_is_one(path));
    }
    let mut program = args.reach.program()?;
    // The command for one cluster works on no hosts.
    program.flags = args.reach.ways();
    let members: Vec<Member> = fleet.members().map(|(_, member)| member.clone()).collect();
    let (outcomes, ended) = runtime()?.block_on(async {
        let words = ["kubeconfig", "--output", "-"];
        program.each(&members, &words, &mut interrupts()?, |_, _, _| Ok(())).await
    })?;
    if ended {
        return Err(CliError::Failed("ended by a signal; nothing was written".to_owned()));
    }
    let text = merged(&fleet, &outcomes)?;
    if to_stdout {
        return output::emit(&text);
    }
    save(path, text.as_bytes(), args.force)?;
    let path = path.display();
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    output::emit(&format!(
        "{path} has a context for each of {}. Keep it to yourself, and try it:\n  \
         kubectl --kubeconfig {path} --context {} get nodes\n",
        names.join(", "),
        names.first().copied().unwrap_or_default()
    ))
}

/// One of all.
fn merged(fleet: &Fleet, outcomes: &[Outcome]) -> Result<String, CliError> {
    let (mut clusters, mut users, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
    for ((_, Member { name, .. }), outcome) in fleet.members().zip(outcomes) {
        if !outcome.is_ok() {
            return Err(CliError::Failed(format!("{name}: {}", outcome.complaint())));
        }
        let Some([cluster, user]) = parts(&outcome.output) else {
            let problem = format!("{name}: its kubeconfig is none of one cluster and one user");
            return Err(CliError::Failed(problem));
        };
        clusters.push(json!({ "name": name, "cluster": cluster }));
        users.push(json!({ "name": name, "user": user }));
        contexts.push(json!({ "name": name, "context": { "cluster": name, "user": name } }));
    }
    let current = fleet.members().next().map(|(_, member)| member.name.clone());
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": clusters,
        "users": users,
        "contexts": contexts,
        "current-context": current,
    });
    serde_saphyr::to_string(&document)
        .map_err(|error| CliError::Failed(format!("cannot write a kubeconfig: {error}")))
}

/// Its only cluster, and its only user.
fn parts(text: &str) -> Option<[Value; 2]> {
    let document: Value = serde_saphyr::from_str(text).ok()?;
    let only = |list: &str, key: &str| match document[list].as_array()?.as_slice() {
        [one] if one[key].is_object() => Some(one[key].clone()),
        _ => None,
    };
    Some([only("clusters", "cluster")?, only("users", "user")?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::spec::Wave;

    #[test]
    fn each_cluster_has_a_context_of_its_name() {
        let member = |name: &str| Member { name: name.to_owned(), file: PathBuf::new() };
        let wave = |name| Wave { clusters: vec![member(name)], settle: std::time::Duration::ZERO };
        let fleet = Fleet { name: "world".to_owned(), waves: vec![wave("west"), wave("east")] };
        let one = |server: &str| Outcome {
            code: Some(0),
            output: format!(
                "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: {server}\n  name: kubernetes\n\
                 users:\n- name: kubernetes-admin\n  user:\n    client-key-data: eA==\ncontexts: []\n"
            ),
            errors: String::new(),
        };
        let text = merged(&fleet, &[one("https://a:6443"), one("https://b:6443")]).unwrap();
        let all: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(all["current-context"], "west");
        assert_eq!(all["clusters"][1]["name"], "east");
        assert_eq!(all["clusters"][1]["cluster"]["server"], "https://b:6443");
        assert_eq!(all["contexts"][1]["context"], json!({ "cluster": "east", "user": "east" }));
        assert_eq!(all["users"][0]["user"]["client-key-data"], "eA==");
        let silent =
            Outcome { errors: "apiproxy: no control plane\n".to_owned(), ..Outcome::default() };
        let said = merged(&fleet, &[one("https://a:6443"), silent]).unwrap_err().to_string();
        assert_eq!(said, "east: no control plane");
        let none = Outcome { code: Some(0), ..Outcome::default() };
        assert!(merged(&fleet, &[none.clone(), none]).is_err());
    }
}
