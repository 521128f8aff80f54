//! What is done on one host in a restore.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::scripts::{
    BACK, CARRIED, CLOSE, DONE, HALT, HASHES, IMAGE, KUBELET, MARK_NODE, STOP, STOP_POD, TAKE_OVER,
    waiting, with_data, with_pod,
};
use super::{RestoreStep, etcd, look};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::kubeadm::{control_plane_taints, registry};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::restore::{CURRENT, Etcd, FOLDER, MARK, Order, Rebuilt, Source, Trial};
use crate::bootstrap::spec::Role;
use crate::bootstrap::transport::{Command, File};
use etcd::paths::{DATA, INITIAL, PKI, UNIT, USER, local_url, peer_url};

/// 8 GiB, the most that etcd keeps, at 8 MiB/s.
const LARGE: Duration = Duration::from_mins(17);

/// How long the programs of a control plane may take to stop or to be ready, and a bit.
const PROGRAMS: Duration = Duration::from_mins(5);

/// How long members that were just started may differ.
const SAME: Duration = Duration::from_mins(1);

/// How long a backup of 8 GiB may take, with its copies.
const BACKUP: Duration = Duration::from_hours(2);

/// The host remembers that it is under way, in place of another one if there was one.
pub(super) async fn begin(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let (restore, name) = (&step.shared.restore, step.host.name.as_str());
    let known = step.shared.made.get(name);
    let made = look::made(cx, name).await?;
    let other =
        made.iter().find(|id| **id != restore.id && known.is_some_and(|all| !all.contains(*id)));
    if let Some(other) = other {
        return Err(StepError::Refused {
            reason: format!(
                "{name}: another restore ({other}) was begun there since the plan was made"
            ),
            remedy: "see what came of it (`apiproxy bootstrap status`), and look at a new plan"
                .to_owned(),
        });
    }
    let words = [CURRENT, FOLDER, &restore.id, DATA];
    cx.run(name, &Command::script(TAKE_OVER, words)).await?;
    let json = step.shared.restore.to_json();
    let json = json.map_err(|error| StepError::Unverified(error.to_string()))?;
    Ok(cx.host(&step.host.name)?.write(&File::secret(CURRENT, json)).await?)
}

pub(super) async fn done(step: &RestoreStep, cx: &Context, what: &str) -> Result<(), StepError> {
    let folder = step.shared.restore.folder();
    cx.run(&step.host.name, &Command::script(DONE, [folder.as_str(), what])).await.map(drop)
}

fn word(yes: bool, word: &'static str) -> &'static str {
    if yes { word } else { "no" }
}

/// For which etcd the data are made.
async fn etcd_of(step: &RestoreStep, cx: &Context) -> Result<Etcd, StepError> {
    let shared = &step.shared;
    if !shared.is_stacked() {
        return Ok(Etcd::default());
    }
    let version = shared.cluster.kubernetes_version.to_string();
    let words = [shared.restore.folder(), version, registry(&shared.cluster).to_owned()];
    let command = Command::script(IMAGE, words).timeout(PROGRAMS * 2);
    let image = cx.run(&step.host.name, &command).await?.text();
    let image = Some(image.trim().to_owned()).filter(|image| !image.is_empty());
    Ok(Etcd { versions: shared.restore.etcd_version.iter().cloned().collect(), image })
}

/// Before anything stops.
pub(super) async fn fit(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let (shared, name) = (&step.shared, &step.host.name);
    let trial = if shared.is_rebuilt(name) {
        // The snapshot, the data that are made of it, and etcd's log, of which two files have 64 MiB.
        let size = shared.snapshot.size(cx, &shared.restore).await?;
        let folder = PathBuf::from(shared.restore.folder());
        let mut room = vec![(folder.clone(), size), (DATA.into(), size.saturating_add(160 << 20))];
        if shared.restore.source == Source::Member(name.clone()) {
            // What was its data is copied first.
            room.push((folder, size));
        }
        Trial { etcd: Some(etcd_of(step, cx).await?), room }
    } else {
        let carried = cx.run(name, &Command::script(CARRIED, [DATA])).await?.text();
        let carried = carried.trim().parse().unwrap_or_default();
        let beside = Path::new(DATA).parent().unwrap_or(Path::new("/"));
        Trial { etcd: None, room: vec![(beside.to_owned(), carried)] }
    };
    let json = serde_json::to_vec(&trial);
    let json = json.map_err(|error| StepError::Unverified(error.to_string()))?;
    let words = [PROXY_PROGRAM, "bootstrap", "etcd", "rebuild", "--rehearse"];
    let output = cx.host(name)?.run(&Command::new(words).stdin(json)).await?;
    if output.ok() {
        return done(step, cx, "fit").await;
    }
    let complaint = output.complaint();
    Err(StepError::Refused {
        reason: format!("{name}: {}", complaint.trim_start_matches("apiproxy: ")),
        remedy: "nothing was stopped; put that right and run this again".to_owned(),
    })
}

pub(super) async fn halt(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    begin(step, cx).await?;
    let (folder, port) =
        (step.shared.restore.folder(), step.shared.cluster.endpoint.port.to_string());
    let words = [folder.as_str(), &port, word(step.shared.restore.new_authority, "anew")];
    let command = Command::script(&waiting(HALT), words).timeout(PROGRAMS);
    cx.run(&step.host.name, &command).await.map(drop)
}

pub(super) async fn stop(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    begin(step, cx).await?;
    let (restore, name) = (&step.shared.restore, step.host.name.as_str());
    let (folder, local) = (restore.folder(), local_url());
    let source = restore.source == Source::Member(name.to_owned());
    let leaves = !step.shared.is_member(&step.host);
    if step.shared.is_stacked() {
        let (source, leaves) = (word(source, "source"), word(leaves, "leaves"));
        let words = [&folder, restore.id.as_str(), DATA, MARK, source, leaves, CURRENT];
        let command = Command::script(&with_pod(STOP_POD), words).timeout(LARGE);
        return cx.run(name, &command).await.map(drop);
    }
    let anew = word(step.shared.restore.new_authority, "anew");
    let words = [
        &folder,
        restore.id.as_str(),
        UNIT,
        DATA,
        MARK,
        word(source, "source"),
        word(leaves, "leaves"),
        anew,
        INITIAL,
        PKI,
        &local,
        CURRENT,
    ];
    let script = etcd::with_etcdctl(&with_data(STOP));
    let command = Command::script(&script, words).timeout(LARGE);
    cx.run(name, &command).await.map(drop)
}

/// As long as this file is there the member counts as one that starts for the first time: nobody takes its
/// data for those of an earlier life.
async fn say_that_it_begins(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let cluster = &step.shared.cluster;
    let initial = etcd::initial(cluster, etcd::State::New, &etcd::founders(cluster));
    Ok(cx.host(&step.host.name)?.write(&File::new(INITIAL, initial)).await?)
}

pub(super) async fn data(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let (shared, host) = (&step.shared, &step.host);
    let facts = shared.snapshot.ready(cx, &shared.restore).await?;
    let snapshot = shared.restore.file("snapshot.db");
    cx.host(&host.name)?.upload(shared.snapshot.path(), &snapshot, 0o600).await?;
    if shared.is_stacked() {
        // One that comes new has not been told yet.
        begin(step, cx).await?;
    } else {
        etcd::prepare(cx, &host.name).await?;
        say_that_it_begins(step, cx).await?;
    }
    let order = Order {
        id: shared.restore.id.clone(),
        snapshot: snapshot.into(),
        summed: facts.summed,
        digest: facts.contents.digest.clone(),
        keys: facts.contents.keys,
        revision: facts.contents.revision,
        name: host.name.clone(),
        peer_url: peer_url(host.address),
        initial_cluster: shared.initial_cluster(),
        token: shared.restore.token(),
        data: DATA.into(),
        owner: (!shared.is_stacked()).then(|| USER.to_owned()),
        etcd: etcd_of(step, cx).await?,
    };
    let json = serde_json::to_vec(&order);
    let json = json.map_err(|error| StepError::Unverified(error.to_string()))?;
    let words = [PROXY_PROGRAM, "bootstrap", "etcd", "rebuild"];
    let output = cx.run(&host.name, &Command::new(words).stdin(json).timeout(LARGE)).await?;
    let rebuilt: Result<Rebuilt, _> = serde_json::from_slice(&output.stdout);
    rebuilt.map(drop).map_err(|error| {
        StepError::Unverified(format!(
            "{}: what apiproxy printed cannot be read: {error}",
            host.name
        ))
    })
}

#[derive(Debug, Deserialize)]
struct HashOf {
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(rename = "HashKV")]
    kv: Hash,
}

#[derive(Debug, Deserialize)]
struct Hash {
    #[serde(default)]
    hash: u64,
    #[serde(default)]
    compact_revision: i64,
}

/// Why the members are not the same; nothing if they are.
fn difference(json: &str, members: usize) -> Option<String> {
    let all: Vec<HashOf> = match serde_json::from_str(json) {
        Ok(all) => all,
        Err(error) => return Some(format!("what etcdctl printed cannot be read: {error}")),
    };
    if all.len() != members {
        return Some(format!("{} of {members} members told their hash", all.len()));
    }
    let first = all.first().map(|one| (one.kv.hash, one.kv.compact_revision));
    let same = all.iter().all(|one| Some((one.kv.hash, one.kv.compact_revision)) == first);
    let show = |one: &HashOf| format!("{} {:08x}", one.endpoint, one.kv.hash);
    (!same).then(|| {
        let all: Vec<_> = all.iter().map(show).collect();
        format!("the members differ: {}", all.join(", "))
    })
}

pub(super) async fn compare(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let members = step.shared.cluster.etcd_hosts().count();
    let command = Command::script(&etcd::with_etcdctl(HASHES), [local_url()]);
    let end = Instant::now() + SAME;
    loop {
        let output = cx.host(&step.host.name)?.run(&command).await?;
        let fault = if output.ok() {
            difference(&output.text(), members)
        } else {
            Some(output.complaint())
        };
        match fault {
            None => return done(step, cx, "compared").await,
            Some(why) if Instant::now() >= end => return Err(StepError::Unverified(why)),
            // A compaction is carried out at its own pace on each of them.
            Some(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}

/// The files of the backup that are not on this control plane.
pub(super) async fn missing_files<'a>(
    step: &'a RestoreStep,
    cx: &Context,
) -> Result<Vec<&'a (String, Vec<u8>)>, StepError> {
    const SCRIPT: &str = r#"for file; do if [ ! -e "$file" ]; then echo "$file"; fi; done"#;
    let files = &step.shared.files;
    let paths = files.iter().map(|(path, _)| path.as_str());
    let found = cx.run(&step.host.name, &Command::script(SCRIPT, paths)).await?.text();
    let missing = |(path, _): &&(String, Vec<u8>)| found.lines().any(|line| line == path);
    Ok(files.iter().filter(missing).collect())
}

pub(super) async fn files(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    for (path, content) in missing_files(step, cx).await? {
        cx.host(&step.host.name)?.write(&File::secret(path.as_str(), content.clone())).await?;
    }
    Ok(())
}

pub(super) async fn back(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    // A stacked etcd is where it was: beside its apiserver.
    let stacked = step.shared.is_stacked();
    let servers = if stacked { String::new() } else { step.shared.servers() };
    let (folder, port) =
        (step.shared.restore.folder(), step.shared.cluster.endpoint.port.to_string());
    let command = Command::script(&waiting(BACK), [folder, servers, port]).timeout(PROGRAMS);
    cx.run(&step.host.name, &command).await.map(drop)
}

pub(super) async fn kubelet(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let folder = step.shared.restore.folder();
    if step.shared.is_stacked() && step.shared.first() == step.host.name {
        let restart = Command::new(["systemctl", "restart", "kubelet"]);
        cx.run(&step.host.name, &restart).await?;
        let port = step.shared.cluster.endpoint.port.to_string();
        let mut words = vec![step.host.name.clone(), port];
        if !step.host.roles.contains(&Role::Worker) {
            let taints = control_plane_taints(step.shared.cluster.kubernetes_version);
            words.extend(taints.iter().map(|taint| (*taint).to_owned()));
        }
        let command = Command::script(&waiting(MARK_NODE), words);
        cx.run(&step.host.name, &command.timeout(PROGRAMS)).await?;
        return done(step, cx, "kubelet").await;
    }
    cx.run(&step.host.name, &Command::script(KUBELET, [folder])).await.map(drop)
}

/// One that was taken and is not everywhere yet counts: the next ones bring it there.
pub(super) async fn fresh(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let words = [PROXY_PROGRAM, "bootstrap", "etcd", "backup", "--local", "--now", "-o", "json"];
    let name = &step.host.name;
    let output = cx.host(name)?.run(&Command::new(words).timeout(BACKUP)).await?;
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if document["taken"].is_object() {
        return done(step, cx, "fresh").await;
    }
    Err(StepError::Unverified(format!("{name}: no backup was taken: {}", output.complaint())))
}

pub(super) async fn close(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let folder = step.shared.restore.folder();
    cx.run(&step.host.name, &Command::script(CLOSE, [CURRENT, &folder])).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_same_when_all_hashes_are() {
        let of = |hash: u32, compact: u32| {
            format!(
                r#"{{"Endpoint":"https://e{hash}:2379","HashKV":{{"header":{{"revision":5}},"hash":{hash},"compact_revision":{compact}}}}}"#
            )
        };
        let all = |hashes: &[(u32, u32)]| {
            let all: Vec<_> = hashes.iter().map(|(hash, compact)| of(*hash, *compact)).collect();
            difference(&format!("[{}]", all.join(",")), 3)
        };
        assert_eq!(all(&[(7, 3), (7, 3), (7, 3)]), None);
        assert_eq!(all(&[(7, 3), (7, 3)]).as_deref(), Some("2 of 3 members told their hash"));
        assert!(all(&[(7, 3), (8, 3), (7, 3)]).unwrap().contains("https://e8:2379 00000008"));
        assert!(all(&[(7, 3), (7, 2), (7, 3)]).is_some());
        assert!(difference("", 3).is_some());
    }
}
