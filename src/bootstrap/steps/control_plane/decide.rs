//! What to do with a control plane that is not there yet, by how all of them stand. Pure.

use std::collections::BTreeMap;

use super::look::{Begun, Standing};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing: it runs the cluster.
    Stay,
    /// Make a new cluster, or finish the one that was begun here.
    Init {
        /// An earlier run has begun.
        again: bool,
    },
    /// Join through this control plane.
    Join {
        /// A serving one.
        via: String,
        /// Take away first what an earlier run left.
        clean: bool,
    },
    /// It can only be told when the step of this control plane is over: it finishes a cluster that is
    /// half made.
    After(String),
    /// Neither would be safe.
    Refuse {
        /// Why.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
}

/// Decides for the host of this name. `all` has every control plane of the spec.
pub fn decide(own: &str, all: &BTreeMap<String, Standing>) -> Way {
    let serving = || {
        let others = all.iter().filter(|(name, _)| *name != own);
        others
            .filter(|(_, standing)| **standing == Standing::Serving)
            .map(|(name, _)| name.clone())
            .next()
    };
    match all.get(own) {
        None => refuse(format!("{own} is no control plane"), "give it the role `controlPlane`"),
        Some(Standing::Serving) => Way::Stay,
        Some(Standing::Away(reason)) => {
            refuse(format!("{own} cannot be reached: {reason}"), "see `apiproxy bootstrap check`")
        }
        Some(Standing::Ill(reason)) => refuse(
            format!("the kube-apiserver of {own} is not ready: {reason}"),
            "nothing is taken from a control plane that was whole: see `crictl ps -a` and `journalctl -u \
             kubelet` there, or put another in its place with `apiproxy bootstrap replace`",
        ),
        Some(Standing::Foreign(what)) => refuse(
            format!("{own} has {what} in /etc/kubernetes, which this tool did not make"),
            "if nothing there is needed, run `kubeadm reset -f` on it and try again",
        ),
        Some(Standing::Unfinished(Begun::Init)) => match serving() {
            // Another one has joined it meanwhile: it is a cluster, and this host a part of it.
            Some(via) => Way::Join { via, clean: true },
            None => init(own, all, true),
        },
        Some(Standing::Unfinished(Begun::Join)) => join(own, all, serving(), true),
        Some(Standing::Fresh) => join(own, all, serving(), false),
    }
}

fn join(own: &str, all: &BTreeMap<String, Standing>, via: Option<String>, clean: bool) -> Way {
    match via {
        Some(via) => Way::Join { via, clean },
        None if clean => refuse(
            format!(
                "{own} was stopped half way into a cluster of which no control plane is ready now"
            ),
            "bring one of them back and run `apply` again",
        ),
        None => init(own, all, false),
    }
}

/// A new cluster only if there is surely none: a second one would take the nodes of the first.
fn init(own: &str, all: &BTreeMap<String, Standing>, again: bool) -> Way {
    let others = || all.iter().filter(|(name, _)| *name != own);
    let names = |of: fn(&Standing) -> bool| {
        let found: Vec<_> =
            others().filter(|(_, s)| of(s)).map(|(name, _)| name.as_str()).collect();
        (!found.is_empty()).then(|| found.join(", "))
    };
    if let Some(names) = names(|standing| matches!(standing, Standing::Away(_))) {
        return refuse(
            format!("{names} cannot be asked whether there is a cluster already"),
            "a second one must not be made: bring them back, or take them out of the file",
        );
    }
    if let Some(names) = names(|standing| matches!(standing, Standing::Ill(_))) {
        return refuse(
            format!("{names} runs the cluster, but its kube-apiserver is not ready"),
            "see `crictl ps -a` and `journalctl -u kubelet` there, and run `apply` again",
        );
    }
    let begun = |standing: &Standing| matches!(standing, Standing::Unfinished(Begun::Init));
    if let Some((name, _)) = others().find(|(_, standing)| begun(standing))
        && !again
    {
        return Way::After(name.clone());
    }
    let unfinished =
        |standing: &Standing| matches!(standing, Standing::Unfinished(_) | Standing::Foreign(_));
    if let Some(names) = names(unfinished) {
        return refuse(
            format!("{names} has a cluster that is half made"),
            "run `apply` for it, or take it away with `apiproxy bootstrap reset`",
        );
    }
    Way::Init { again }
}

fn refuse(reason: impl Into<String>, remedy: &str) -> Way {
    Way::Refuse { reason: reason.into(), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(own: Standing, others: &[(&str, Standing)]) -> Way {
        let mut all: BTreeMap<_, _> =
            others.iter().map(|(name, standing)| ((*name).to_owned(), standing.clone())).collect();
        all.insert("cp1".to_owned(), own);
        decide("cp1", &all)
    }

    fn reason(way: &Way) -> &str {
        match way {
            Way::Refuse { reason, .. } => reason,
            _ => "",
        }
    }

    #[test]
    fn a_new_cluster_is_made_only_where_there_is_surely_none() {
        use Standing::{Away, Foreign, Fresh, Ill, Serving, Unfinished};
        let init = Way::Init { again: false };
        assert_eq!(decided(Fresh, &[("cp2", Fresh), ("cp3", Fresh)]), init);
        assert_eq!(decided(Fresh, &[]), init);
        for (other, words) in [
            (Away("timeout".into()), "cp2 cannot be asked whether there is a cluster already"),
            (Ill("refused".into()), "cp2 runs the cluster, but its kube-apiserver is not ready"),
            (Unfinished(Begun::Join), "cp2 has a cluster that is half made"),
            (Foreign("x".into()), "cp2 has a cluster that is half made"),
        ] {
            let way = decided(Fresh, &[("cp2", other.clone()), ("cp3", Fresh)]);
            assert_eq!(reason(&way), words);
            // Beside one that serves, all of these are no obstacle.
            let way = decided(Fresh, &[("cp2", other), ("cp3", Serving)]);
            assert_eq!(way, Way::Join { via: "cp3".to_owned(), clean: false });
        }
    }

    #[test]
    fn a_cluster_that_is_half_made_is_finished_first() {
        use Standing::{Away, Fresh, Serving, Unfinished};
        let begun = ("cp2", Unfinished(Begun::Init));
        let way = decided(Fresh, &[begun.clone(), ("cp3", Fresh)]);
        assert_eq!(way, Way::After("cp2".to_owned()));
        let way = decided(Fresh, &[begun.clone(), ("cp3", Serving)]);
        assert_eq!(way, Way::Join { via: "cp3".to_owned(), clean: false });
        // Who cannot be asked may have a whole one.
        assert_ne!(reason(&decided(Fresh, &[begun.clone(), ("cp3", Away(String::new()))])), "");
        // Two half made ones are for somebody to look at.
        assert_ne!(reason(&decided(Unfinished(Begun::Init), &[begun])), "");
    }

    #[test]
    fn what_was_begun_is_finished_or_begun_anew() {
        use Standing::{Away, Foreign, Fresh, Ill, Serving, Unfinished};
        let clean = Way::Join { via: "cp2".to_owned(), clean: true };
        assert_eq!(decided(Unfinished(Begun::Join), &[("cp2", Serving)]), clean);
        assert_eq!(decided(Unfinished(Begun::Init), &[("cp2", Serving)]), clean);
        assert_eq!(decided(Unfinished(Begun::Init), &[("cp2", Fresh)]), Way::Init { again: true });
        assert!(
            reason(&decided(Unfinished(Begun::Init), &[("cp2", Away(String::new()))]))
                .contains("cp2")
        );
        // It is the only one that knows of the cluster: it must not make another.
        let way = decided(Unfinished(Begun::Join), &[("cp2", Fresh)]);
        assert!(reason(&way).contains("half way into a cluster"), "{way:?}");
        // What was whole is left alone.
        for own in [Ill("refused".into()), Foreign("kubelet.conf".into())] {
            assert_ne!(reason(&decided(own, &[("cp2", Serving)])), "");
        }
        assert_eq!(decided(Serving, &[("cp2", Away(String::new()))]), Way::Stay);
    }
}
