//! Custom controllers and schedulers.

use std::collections::BTreeSet;

use super::Check;
use super::roster::Roster;
use crate::bootstrap::spec::shape::{self, List, Where};
use crate::bootstrap::spec::{Extension, Placement, Role, syntax};
use crate::config::quoted;

impl Check<'_> {
    pub(super) fn extensions(
        &mut self,
        list: List<shape::Extension>,
        roster: &Roster,
    ) -> Vec<Extension> {
        let mut names = BTreeSet::new();
        let mut extensions = Vec::new();
        for (at, raw) in self.items("spec.extensions", Some(list)) {
            let name = self.extension_name(&at, raw.name);
            if let Some(name) = &name
                && !names.insert(name.clone())
            {
                let hint = "give each extension a name of its own";
                self.fault(&format!("{at}.name"), format!("{} is given twice", quoted(name)), hint);
            }
            if raw.kind.is_none() {
                self.missing(&at, "kind", "write `scheduler` or `controller`");
            }
            let placement = match raw.placement {
                Some(Where::ControlPlane) => {
                    self.on_control_planes(&at, raw.image, raw.command.as_ref())
                }
                Some(Where::External) => self.outside(&at, raw.image.as_ref(), raw.command, roster),
                None => {
                    self.missing(&at, "placement", "write `controlPlane` or `external`");
                    None
                }
            };
            let parts = (name, raw.kind, placement);
            if let (Some(name), Some(kind), Some(placement)) = parts {
                extensions.push(Extension { name, kind, placement });
            }
        }
        extensions
    }

    fn extension_name(&mut self, at: &str, raw: Option<String>) -> Option<String> {
        let Some(name) = raw else {
            self.missing(at, "name", "give it a name: it becomes that of its Deployment or unit");
            return None;
        };
        if !syntax::is_label(&name) {
            let hint = "use 1 to 63 lower-case letters, digits and inner hyphens";
            let message = format!("{} cannot be the name of an extension", quoted(&name));
            self.fault(&format!("{at}.name"), message, hint);
        }
        Some(name)
    }

    fn on_control_planes(
        &mut self,
        at: &str,
        image: Option<String>,
        command: Option<&List<String>>,
    ) -> Option<Placement> {
        if command.is_some() {
            let message = "with `placement: controlPlane`, the image says what runs";
            self.fault(
                &format!("{at}.command"),
                message,
                "remove it, or write `placement: external`",
            );
        }
        let Some(image) = image else {
            self.missing(at, "image", "name the image that runs on the control planes");
            return None;
        };
        if !syntax::is_image(&image) {
            let message = format!("{} is no image", quoted(&image));
            self.fault(&format!("{at}.image"), message, "write it as registry.local/batch:1.2");
        }
        Some(Placement::ControlPlane { image })
    }

    fn outside(
        &mut self,
        at: &str,
        image: Option<&String>,
        command: Option<List<String>>,
        roster: &Roster,
    ) -> Option<Placement> {
        if image.is_some() {
            let message = "with `placement: external`, a command runs, not an image";
            self.fault(
                &format!("{at}.image"),
                message,
                "remove it, or write `placement: controlPlane`",
            );
        }
        if roster.is_complete && roster.count(&[Role::External]) == 0 {
            let message = "no host has the role `external`, where it would run";
            let hint = "give a host this role, or write `placement: controlPlane`";
            self.fault(&format!("{at}.placement"), message, hint);
        }
        let list_at = format!("{at}.command");
        let hint = "write program and arguments, as in [/opt/billing/controller, --leader-elect]";
        let Some(list) = command else {
            self.missing(at, "command", hint);
            return None;
        };
        let is_whole = list.iter().all(Option::is_some);
        let command: Vec<_> =
            self.items(&list_at, Some(list)).into_iter().map(|(_, word)| word).collect();
        match command.first() {
            Some(program) if !program.starts_with('/') => {
                let message = format!("{} is no whole path of a program", quoted(program));
                self.fault(&format!("{list_at}[0]"), message, hint);
            }
            None if is_whole => self.fault(&list_at, "the command is empty", hint),
            _ => {}
        }
        Some(Placement::External { command })
    }
}
