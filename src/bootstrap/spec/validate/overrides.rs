//! Settings of components that win over ours, as long as they do not break what we build.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Check, reserved};
use crate::bootstrap::spec::shape::{Component, Settings};
use crate::bootstrap::spec::word::{Words, texts};
use crate::bootstrap::spec::{Overrides, Role, syntax};
use crate::config::{Fault, quoted};

/// The settings as written, of the cluster or of a host.
pub(super) struct Given {
    pub(super) kubelet: Option<Settings>,
    pub(super) containerd: Option<Settings>,
    pub(super) api_server: Option<Component>,
    pub(super) controller_manager: Option<Component>,
    pub(super) scheduler: Option<Component>,
    pub(super) kube_proxy: Option<Settings>,
    pub(super) kubelet_extra_args: Option<Words>,
}

impl Check<'_> {
    /// The settings below a path.
    pub(super) fn overrides(
        &mut self,
        at: &str,
        given: Given,
        ours: reserved::Options,
    ) -> Overrides {
        let kubelet = given.kubelet.unwrap_or_default();
        let containerd = given.containerd.unwrap_or_default();
        let kube_proxy = given.kube_proxy.unwrap_or_default();
        for (key, settings, reserved) in [
            ("kubelet", &kubelet, reserved::KUBELET),
            ("containerd", &containerd, reserved::CONTAINERD),
            ("kubeProxy", &kube_proxy, reserved::KUBE_PROXY),
        ] {
            self.settings(&format!("{at}.{key}"), settings, reserved);
        }
        let flags = |component: Option<Component>| texts(component.and_then(|c| c.extra_args));
        let api_server = flags(given.api_server);
        let controller_manager = flags(given.controller_manager);
        let scheduler = flags(given.scheduler);
        let kubelet_flags = texts(given.kubelet_extra_args);
        let servers = reserved::api_server(ours);
        for (key, flags, reserved) in [
            ("apiServer.extraArgs", &api_server, servers.as_slice()),
            ("controllerManager.extraArgs", &controller_manager, reserved::CONTROLLER_MANAGER),
            ("scheduler.extraArgs", &scheduler, reserved::SCHEDULER),
            ("kubeletExtraArgs", &kubelet_flags, reserved::KUBELET_FLAGS),
        ] {
            self.flags(&format!("{at}.{key}"), flags, reserved);
        }
        self.flags_that_must_not_be_off(at, &api_server, &controller_manager, &scheduler);
        Overrides {
            kubelet,
            containerd,
            api_server,
            controller_manager,
            scheduler,
            kube_proxy,
            kubelet_flags,
        }
    }

    /// Refuses settings of components that a host of these roles does not run.
    pub(super) fn runs_what_is_set(&mut self, at: &str, given: &Given, roles: &BTreeSet<Role>) {
        let is_node = roles.iter().any(|role| role.is_node());
        let controls = roles.contains(&Role::ControlPlane) || roles.contains(&Role::Spare);
        let node = "a host that is no Node runs none";
        let control = "only control planes run one";
        for (key, is_given, runs, why) in [
            ("kubelet", given.kubelet.is_some(), is_node, node),
            ("containerd", given.containerd.is_some(), is_node, node),
            ("kubeletExtraArgs", given.kubelet_extra_args.is_some(), is_node, node),
            ("apiServer", given.api_server.is_some(), controls, control),
            ("controllerManager", given.controller_manager.is_some(), controls, control),
            ("scheduler", given.scheduler.is_some(), controls, control),
        ] {
            if is_given && !runs {
                self.fault(&format!("{at}.{key}"), why, "remove it, or change the host's roles");
            }
        }
    }

    /// Refuses settings, by their paths, that follow from something else.
    fn settings(&mut self, at: &str, settings: &Settings, reserved: &[(&str, &str)]) {
        for (path, hint) in reserved {
            let mut keys = path.split('.');
            let first = keys.next().and_then(|key| settings.get(key));
            let found = keys.fold(first, |value, key| value.and_then(Value::as_object)?.get(key));
            if found.is_some() {
                self.fault(&format!("{at}.{path}"), "this is set by us", *hint);
            }
        }
    }

    /// Refuses what are no flags, and flags that follow from something else.
    pub(super) fn flags(
        &mut self,
        at: &str,
        flags: &BTreeMap<String, String>,
        reserved: &[(&str, &str)],
    ) {
        for (name, value) in flags {
            let (message, hint) = if !syntax::is_flag(name) {
                let bare = name.trim_start_matches('-').split('=').next().unwrap_or_default();
                let hint = format!(
                    "write it without dashes in front: {}",
                    quoted(&format!("{bare}: VALUE"))
                );
                (format!("{} is no name of a flag", quoted(name)), hint)
            } else if let Some((_, hint)) = reserved.iter().find(|(ours, _)| ours == name) {
                (format!("{} is set by us", quoted(name)), (*hint).to_owned())
            } else if value.chars().any(char::is_control) {
                let message = format!("the value of {} has more than one line", quoted(name));
                (message, "write it in one line".to_owned())
            } else {
                continue;
            };
            let place = self.around.document.key_place(at, name);
            self.faults.push(Fault::new(place, format!("`{at}`: {message}")).hint(hint));
        }
    }

    /// Some flags are ours only when they are turned off.
    fn flags_that_must_not_be_off(
        &mut self,
        at: &str,
        api_server: &BTreeMap<String, String>,
        controller_manager: &BTreeMap<String, String>,
        scheduler: &BTreeMap<String, String>,
    ) {
        let leader = "remove it: with several control planes, one of them has to lead";
        for (section, flags, name, hint) in [
            (
                "apiServer",
                api_server,
                "anonymous-auth",
                "remove it: joining nodes and kubelet's probes ask without credentials",
            ),
            (
                "apiServer",
                api_server,
                "enable-bootstrap-token-auth",
                "remove it: nodes join with such tokens",
            ),
            ("controllerManager", controller_manager, "leader-elect", leader),
            ("scheduler", scheduler, "leader-elect", leader),
        ] {
            if flags.get(name).is_some_and(|value| value == "false") {
                let message = format!("`{name}` cannot be off");
                self.fault(&format!("{at}.{section}.extraArgs.{name}"), message, hint);
            }
        }
        let modes =
            api_server.get("authorization-mode").map(|modes| modes.split(',').collect::<Vec<_>>());
        if let Some(modes) = modes
            && !["Node", "RBAC"].iter().all(|mode| modes.contains(mode))
        {
            let message =
                "`authorization-mode` lacks Node or RBAC, without which nodes cannot work";
            let at = format!("{at}.apiServer.extraArgs.authorization-mode");
            self.fault(&at, message, "write it as Node,RBAC and what else you need");
        }
    }
}
