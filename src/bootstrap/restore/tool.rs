//! etcd's own tool for snapshots, found on this host or in the image that its etcd runs from: by version,
//! since each may write data as only its own etcd reads them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::rebuild::RebuildError;

/// The programs that may know how to restore. etcdctl's command was removed in 3.6, whose help for it is
/// that of `snapshot`.
const NAMES: [&str; 2] = ["etcdutl", "etcdctl"];

/// Major and minor.
type Minor = (u32, u32);

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A program of the host.
    Host,
    /// In this image of containerd's.
    Image(String),
}

/// etcd's tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Does it make the revision greater itself? So does 3.6, and of older ones those that got it later.
    pub(super) bumps: bool,
    place: Place,
}

/// What runs a program with its arguments; was it well, and all that it printed.
type Run<'a> = &'a dyn Fn(&[String]) -> Result<(bool, String), RebuildError>;

/// Runs a program of this host.
pub(super) fn run(words: &[String]) -> Result<(bool, String), RebuildError> {
    let (program, rest) = words.split_first().map_or(("true", words), |(p, r)| (p.as_str(), r));
    let output = Command::new(program)
        .args(rest)
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| RebuildError::Program(format!("{program}: {error}")))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

pub(super) fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// Major and minor in `3.5.21-0` or `v3.4`.
fn minor_of(version: &str) -> Option<Minor> {
    let mut numbers = version.trim().trim_start_matches('v').split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Those of the version that a program prints behind these words.
fn minor(text: &str, before: &str) -> Option<Minor> {
    minor_of(text.lines().find_map(|line| line.trim().strip_prefix(before))?)
}

/// Those of an image by its tag, as the images of kubeadm have it.
fn minor_of_image(image: &str) -> Option<Minor> {
    minor_of(image.rsplit_once('/').map_or(image, |(_, last)| last).rsplit_once(':')?.1)
}

fn show(version: Option<Minor>) -> String {
    version.map_or("?".to_owned(), |(major, minor)| format!("{major}.{minor}"))
}

impl Tool {
    /// The one that knows how to restore for an etcd of one of these versions, or of the image. With
    /// neither, for the etcd that is a program of this host.
    pub(super) fn find(versions: &[String], image: Option<&str>) -> Result<Self, RebuildError> {
        Self::found(versions, image, &run)
    }

    fn found(versions: &[String], image: Option<&str>, run: Run<'_>) -> Result<Self, RebuildError> {
        let mut wanted: BTreeSet<Minor> = versions.iter().filter_map(|v| minor_of(v)).collect();
        wanted.extend(image.and_then(minor_of_image));
        if versions.is_empty() && image.is_none() {
            wanted.extend(minor(&run(&words(&["etcd", "--version"]))?.1, "etcd Version:"));
        }
        let places = [Place::Host].into_iter().chain(image.map(|i| Place::Image(i.to_owned())));
        let mut faults = Vec::new();
        for place in places {
            for name in NAMES {
                let tool = Self { name, bumps: false, place: place.clone() };
                let asked = |more: &[&str]| run(&tool.command(&words(more), &[]));
                let help = match asked(&["snapshot", "restore", "--help"]) {
                    Ok((true, help)) if help.contains("--data-dir") => help,
                    _ => {
                        faults
                            .push(format!("there is no {name} that can restore{}", tool.where_()));
                        continue;
                    }
                };
                let found = minor(&asked(&["version"])?.1, &format!("{name} version:"));
                if found.is_some_and(|found| wanted.contains(&found)) {
                    return Ok(Self { bumps: help.contains("--bump-revision"), ..tool });
                }
                let all: Vec<_> = wanted.iter().map(|version| show(Some(*version))).collect();
                let etcd = if all.is_empty() { "?".to_owned() } else { all.join(" or ") };
                faults.push(format!(
                    "{name} is of {}{} and etcd of {etcd}",
                    show(found),
                    tool.where_()
                ));
            }
        }
        let faults = faults.join("; ");
        let remedy = "install etcdutl (before 3.6 etcdctl) of the version of etcd";
        Err(RebuildError::Program(format!("{faults}; {remedy}")))
    }

    fn where_(&self) -> String {
        match &self.place {
            Place::Host => String::new(),
            Place::Image(image) => format!(" in {image}"),
        }
    }

    /// What runs it. Of the host it sees these folders, if it is in an image.
    pub(super) fn command(&self, arguments: &[String], folders: &[String]) -> Vec<String> {
        let mut all = Vec::new();
        if let Place::Image(image) = &self.place {
            all.extend(words(&["ctr", "-n", "k8s.io", "run", "--rm", "--env", "ETCDCTL_API=3"]));
            for folder in folders {
                let mount = format!("type=bind,src={folder},dst={folder},options=rbind:rw");
                all.extend(["--mount".to_owned(), mount]);
            }
            let id = format!("apiproxy-etcd-tool-{}", std::process::id());
            all.extend([image.clone(), id]);
        }
        all.push(self.name.to_owned());
        all.extend_from_slice(arguments);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of the programs prints, by how it is called without `ctr`.
    fn host<'a>(
        etcd: &'a str,
        utility: Option<(&'a str, &'a str)>,
        client: (&'a str, &'a str),
    ) -> impl Fn(&[String]) -> Result<(bool, String), RebuildError> + 'a {
        move |words| {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let of = |name: &str, (version, help): (&str, &str)| match words.last() {
                Some(&"version") => (true, format!("{name} version: {version}\nAPI version: 3\n")),
                _ => (true, help.to_owned()),
            };
            match (words[0], utility) {
                ("etcd", _) if etcd.is_empty() => Err(RebuildError::Program("etcd: none".into())),
                ("etcd", _) => Ok((true, format!("etcd Version: {etcd}\nGit SHA: x\n"))),
                ("etcdutl", Some(found)) => Ok(of("etcdutl", found)),
                ("etcdctl", _) => Ok(of("etcdctl", client)),
                ("ctr", _) if words.contains(&"etcdutl") => {
                    Ok(of("etcdutl", ("3.5.24", "--data-dir --bump-revision --mark-compacted")))
                }
                (other, _) => Err(RebuildError::Program(format!("{other}: not found"))),
            }
        }
    }

    const OLD: &str = "NAME: snapshot restore\nOPTIONS: --data-dir=\"\" --skip-hash-check";
    const NEW: &str = "--data-dir --skip-hash-check --bump-revision --mark-compacted";
    /// etcdctl of 3.6 for `snapshot restore --help`.
    const GONE: &str = "NAME:\n\tsnapshot - Manages etcd node snapshots\nCOMMANDS:\n\tsave";

    #[test]
    fn each_version_has_its_tool() {
        for (etcd, utility, client, name, bumps) in [
            // Debian 12: 3.4 has no etcdutl. A backport may have the flags.
            ("3.4.23", None, ("3.4.23", OLD), "etcdctl", false),
            ("3.4.40", None, ("3.4.40", NEW), "etcdctl", true),
            ("3.5.2", Some(("3.5.2", OLD)), ("3.5.2", OLD), "etcdutl", false),
            ("3.5.21", Some(("3.5.21", NEW)), ("3.5.21", OLD), "etcdutl", true),
            ("3.5.21", None, ("3.5.21", OLD), "etcdctl", false),
            ("3.6.5", Some(("3.6.5", NEW)), ("3.6.5", GONE), "etcdutl", true),
            // A tool of another minor version beside one that fits.
            ("3.4.23", Some(("3.6.5", NEW)), ("3.4.23", OLD), "etcdctl", false),
        ] {
            let tool = Tool::found(&[], None, &host(etcd, utility, client)).unwrap();
            assert_eq!((tool.name, tool.bumps), (name, bumps), "{etcd}");
            assert_eq!(tool.command(&words(&["version"]), &[]), [name, "version"]);
        }
    }

    #[test]
    fn a_tool_of_another_version_is_refused() {
        let refused = |utility, client| {
            Tool::found(&[], None, &host("3.6.5", utility, client)).unwrap_err().to_string()
        };
        let said = refused(None, ("3.6.5", GONE));
        assert!(said.starts_with("there is no etcdutl that can restore; there is no etcdctl"));
        let said = refused(Some(("3.5.21", NEW)), ("3.4.23", OLD));
        assert!(said.contains("etcdutl is of 3.5 and etcd of 3.6; etcdctl is of 3.4"), "{said}");
        assert!(said.ends_with("install etcdutl (before 3.6 etcdctl) of the version of etcd"));
    }

    #[test]
    fn an_etcd_in_a_pod_has_its_tool_in_its_image() {
        let image = "registry.k8s.io/etcd:3.5.24-0";
        let debian = host("", None, ("3.4.23", OLD));
        // The host's own, if it is of the etcd whose backup it is.
        let tool = Tool::found(&["3.4.23".to_owned()], Some(image), &debian).unwrap();
        assert_eq!((tool.name, &tool.place), ("etcdctl", &Place::Host));
        let tool = Tool::found(&["3.5.21".to_owned()], Some(image), &debian).unwrap();
        assert_eq!((tool.name, tool.bumps), ("etcdutl", true));
        let line = tool.command(&words(&["snapshot"]), &words(&["/var/lib/etcd"])).join(" ");
        assert!(line.starts_with("ctr -n k8s.io run --rm "), "{line}");
        assert!(line.contains("src=/var/lib/etcd,dst=/var/lib/etcd,options=rbind:rw"), "{line}");
        assert!(line.ends_with("etcdutl snapshot") && line.contains(image), "{line}");
        assert_eq!(minor_of_image("a.b:5000/x/etcd:3.6.5-0"), Some((3, 6)));
        assert!(Tool::found(&["3.5.21".to_owned()], None, &debian).is_err());
    }
}
