//! Control planes on hosts that are not there: fresh, again, half made, and refused.

use super::look::MARKER;
use crate::bootstrap::engine::{Check, StepError};
use crate::bootstrap::steps::documents::ENCRYPTION;
use crate::bootstrap::steps::world::{World, cluster};
use crate::bootstrap::transport::File;

fn refusal(error: StepError) -> String {
    match error {
        StepError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_cluster_is_made_once_and_found_done() {
    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    assert_eq!(world.apply(&steps).await, Ok(4));
    assert_eq!(world.lines("cp1", "kubeadm init --upload-certs").len(), 1);
    assert_eq!(world.lines("cp2", "kubeadm config validate").len(), 1, "before it joins");
    for host in ["cp2", "cp3"] {
        assert_eq!(world.lines(host, "kubeadm init").len(), 0, "{host}");
        assert_eq!(world.lines(host, "kubeadm join").len(), 1, "{host}");
    }
    assert_eq!(world.sim().members.len(), 3);
    for host in ["cp1", "cp2", "cp3"] {
        let machine = &world.hosts[host];
        let hosts = machine.text("/etc/hosts").unwrap_or_default();
        assert_eq!(hosts, "127.0.0.1 localhost\n127.0.0.1 api.prod # ours\n", "{host}");
        assert_eq!(machine.file(MARKER), None, "{host}");
        assert_eq!(machine.file("/etc/kubernetes/kubeadm.yaml"), None, "secrets are taken away");
        assert_eq!(machine.unexpected(), Vec::<String>::new());
    }
    world.no_argument_has("abcdef.0123456789abcdef");

    world.later().await;
    for step in &steps {
        assert_eq!(step.check(&world.cx).await, Ok(Check::Done), "{}", step.id());
    }
    for (name, host) in &world.hosts {
        assert!(host.calls().len() <= 2, "{name}: {:?}", host.lines());
        assert_eq!(host.written(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_killed_is_taken_back_and_begun_anew() {
    for stage in ["manifests", "learner"] {
        let world = World::new(cluster());
        let steps = super::steps(&world.shared);
        assert_eq!(world.apply(&steps[..1]).await, Ok(1));
        world.sim().stops_at = Some(stage);
        assert!(world.apply(&steps[1..2]).await.is_err());
        assert_eq!(world.hosts["cp2"].text(MARKER).as_deref(), Some("join"));
        let check = steps[1].check(&world.cx).await;
        assert!(matches!(check, Ok(Check::Needed(change)) if change.why.contains("half way")));

        assert_eq!(world.apply(&steps).await, Ok(3), "{stage}");
        assert_eq!(world.lines("cp2", "kubeadm reset --force").len(), 1);
        let members: Vec<_> =
            world.sim().members.iter().map(|member| member.name.clone()).collect();
        assert_eq!(members, ["cp1", "cp2", "cp3"], "no ghost of {stage}");
        if stage == "learner" {
            // Its ghost goes first, or else it would count when the quorum is.
            let lines = world.hosts["cp1"].lines();
            assert!(lines.iter().any(|line| line.contains("/v3/cluster/member/remove")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_init_that_was_killed_is_finished_without_a_reset() {
    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    world.sim().stops_at = Some("init");
    assert!(world.apply(&steps[..1]).await.is_err());
    // No other control plane makes a second cluster in the meantime.
    assert_eq!(
        refusal(steps[1].apply(&world.cx).await.unwrap_err()),
        "cp1 has a cluster that is half made"
    );
    assert_eq!(world.apply(&steps).await, Ok(4));
    assert_eq!(world.lines("cp1", "--ignore-preflight-errors=").len(), 1);
    assert_eq!(world.lines("cp1", "kubeadm reset").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_second_cluster_is_made_while_one_cannot_be_asked() {
    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    world.hosts["cp1"].die("no route");
    let reason = refusal(steps[1].apply(&world.cx).await.unwrap_err());
    assert_eq!(reason, "cp1 cannot be asked whether there is a cluster already");
    assert!(world.hosts.values().all(|host| host.ran("kubeadm init") == 0));

    // Beside one that serves, the dead one is no obstacle, whichever it is.
    world.hosts["cp1"].revive();
    world.later().await;
    world.apply(&steps[..2]).await.unwrap();
    world.hosts["cp1"].die("no route");
    world.later().await;
    world.sim().members.retain(|member| member.name != "cp1");
    world.sim().nodes.remove("cp1");
    assert_eq!(world.apply(&steps[2..3]).await, Ok(1));
    assert_eq!(world.lines("cp2", "kubeadm init phase upload-certs").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_learner_that_was_left_behind_gets_its_vote() {
    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    world.apply(&steps[..1]).await.unwrap();
    world.sim().leaves_learner = true;
    assert_eq!(world.apply(&steps[1..2]).await, Ok(1));
    assert!(world.sim().members.iter().all(|member| !member.is_learner));
}

#[tokio::test(start_paused = true)]
async fn what_was_whole_or_is_not_ours_is_left_alone() {
    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    world.apply(&steps).await.unwrap();
    world.sim().serving.remove("cp2");
    world.later().await;
    let error = steps[1].check(&world.cx).await.unwrap_err().to_string();
    assert!(error.contains("cp2: its kube-apiserver is not ready"), "{error}");
    assert!(steps[1].apply(&world.cx).await.is_err());
    assert_eq!(world.lines("cp2", "kubeadm reset").len(), 0);

    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    world.hosts["cp1"].put(File::new("/etc/kubernetes/kubelet.conf", "another cluster's"));
    let reason = refusal(steps[0].check(&world.cx).await.unwrap_err());
    assert!(reason.contains("which this tool did not make"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_installed_anew_replaces_its_ghost() {
    let world = World::new(cluster());
    let steps = super::steps(&world.shared);
    world.apply(&steps).await.unwrap();
    let machine = &world.hosts["cp3"];
    machine.remove("/etc/kubernetes").put(File::new("/etc/hosts", ""));
    world.sim().serving.remove("cp3");
    world.sim().sick.insert(3);
    world.later().await;
    assert_eq!(world.apply(&steps).await, Ok(1));
    let ids: Vec<_> = world.sim().members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_ghost_whose_removal_would_break_the_quorum_stays() {
    let mut two = cluster();
    two.hosts.retain(|host| host.name != "cp3");
    let world = World::new(two);
    let steps = super::steps(&world.shared);
    world.apply(&steps).await.unwrap();
    world.hosts["cp2"].remove("/etc/kubernetes");
    world.sim().serving.remove("cp2");
    world.sim().sick.insert(2);
    world.later().await;
    assert_eq!(
        refusal(steps[1].apply(&world.cx).await.unwrap_err()),
        "etcd has no quorum: 1 of 2 members are healthy, 2 are needed"
    );
    assert_eq!(world.sim().members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_control_planes_have_one_encryption_key() {
    let mut encrypted = cluster();
    (encrypted.encryption_at_rest, encrypted.audit) = (true, true);
    let world = World::new(encrypted);
    let steps = super::steps(&world.shared);
    world.sim().stops_at = Some("init");
    assert!(world.apply(&steps).await.is_err());
    let key = world.hosts["cp1"].text(ENCRYPTION);
    world.apply(&steps).await.unwrap();
    for host in ["cp1", "cp2", "cp3"] {
        let file = world.hosts[host].file(ENCRYPTION).unwrap();
        assert_eq!((Some(file.content), file.mode), (key.clone().map(String::into_bytes), 0o600));
        assert!(world.hosts[host].file("/etc/kubernetes/audit/policy.yaml").is_some());
    }
    world.no_argument_has(&key.unwrap());

    // It was made without, and a new key would be one that the others do not have.
    world.hosts["cp1"].remove(ENCRYPTION);
    world.hosts["cp2"].remove("/etc/kubernetes");
    world.sim().serving.remove("cp2");
    world.later().await;
    let reason = refusal(steps[1].apply(&world.cx).await.unwrap_err());
    assert!(reason.ends_with("and cp1 has no /etc/kubernetes/encryption/config.yaml"), "{reason}");
}
