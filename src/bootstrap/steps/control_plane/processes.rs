//! What the programs of a control plane run with, by their processes: kubelet comes to a manifest some
//! time after it was written, and ends what it ran before first.

use serde_json::Value;

use super::look::Look;
use crate::bootstrap::kubernetes::{Report, script};
use crate::bootstrap::transport::Command;

/// Reports the words of every process that has such a name, a line each. The kernel has the first 15
/// characters of names.
const LOOK: &str = r#"
words() {
    short=$(printf %.15s "$1")
    for comm in /proc/[0-9]*/comm; do
        if read -r name <"$comm" && [ "$name" = "$short" ]; then
            tr '\n\000' ' \035' <"${comm%comm}cmdline"
            echo
        fi
    done
}
for program; do part "$program" words "$program"; done
"#;

/// What [`LOOK`] has between words.
const BETWEEN: char = '\u{1d}';

/// The command that looks for the processes of these programs.
pub(super) fn command<'a>(programs: impl IntoIterator<Item = &'a str>) -> Command {
    script(LOOK, programs)
}

/// The programs of which no process has what is in the manifest. The first word is not looked at: it is the
/// program, by whatever path.
pub(super) fn behind<'l>(look: &'l Look, report: &Report) -> Vec<&'l str> {
    let is_behind = |(name, manifest): (&'l String, &String)| {
        let wanted = arguments(&serde_saphyr::from_str(manifest).unwrap_or_default());
        let part = report.part(name);
        (!part.text.lines().any(|line| runs_with(line, &wanted))).then_some(name.as_str())
    };
    look.manifests.iter().filter_map(is_behind).collect()
}

/// The arguments of a static pod's only container.
fn arguments(manifest: &Value) -> Vec<String> {
    let container = &manifest["spec"]["containers"][0];
    let words = |key: &str| container[key].as_array().cloned().unwrap_or_default();
    let words = words("command").into_iter().chain(words("args")).skip(1);
    words.map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
}

/// Is this the line of a process with these arguments? kubelet has put values in the place of `$(NAME)`.
fn runs_with(line: &str, wanted: &[String]) -> bool {
    let found: Vec<_> = line.trim_end_matches(BETWEEN).split(BETWEEN).skip(1).collect();
    let same = |(found, wanted): (&&str, &String)| *found == wanted || wanted.contains("$(");
    found.len() == wanted.len() && found.iter().zip(wanted).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::shell::Root;

    /// The names of those that are behind, by a real shell.
    fn seen<'l>(root: &Root, look: &'l Look) -> Vec<&'l str> {
        behind(look, &root.report(&command(look.manifests.keys().map(String::as_str))))
    }

    #[test]
    fn a_real_shell_sees_what_runs_with_its_new_flags() {
        let (root, mut look) = (Root::new(), Look::default());
        let names = ["kube-apiserver", "kube-controller-manager"];
        for name in names {
            let manifest = format!(
                "spec:\n  containers:\n  - command:\n    - {name}\n    - --v=4\n    - --on=$(HOST_IP)\n"
            );
            look.manifests.insert(name.to_owned(), manifest);
        }
        let process = |id: u32, name: &str, words: &str| {
            root.write(&format!("proc/{id}/comm"), &format!("{name}\n"));
            root.write(&format!("proc/{id}/cmdline"), words);
        };
        process(7, "kubelet", "/usr/bin/kubelet\0--v=4\0--on=1\0");
        assert_eq!(seen(&root, &look), names);
        process(8, "kube-apiserver", "kube-apiserver\0--v=2\0--on=10.0.0.1\0");
        process(9, "kube-controller", "kube-controller-manager\0--v=4\0--on=10.0.0.1\0");
        assert_eq!(seen(&root, &look), ["kube-apiserver"]);
        process(8, "kube-apiserver", "kube-apiserver\0--v=4\0--on=10.0.0.1\0--more\0");
        assert_eq!(seen(&root, &look), ["kube-apiserver"]);
        // Somebody's own cluster within a pod is no hindrance.
        process(11, "kube-apiserver", "/bin/kube-apiserver\0--v=4\0--on=10.0.0.1\0");
        assert_eq!(seen(&root, &look), Vec::<&str>::new());
    }
}
