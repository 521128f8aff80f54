//! `manifest static-pod --from-*`: what replaces the proxy that an installer left on a worker.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{StaticPod, folder, static_pod};
use crate::cli::CliError;
use crate::cli::args::DEFAULT_CONFIG;
use crate::dropin::{self, Found};

/// More than any such file has.
const MAX_FILE: u64 = 1 << 20;

/// Flags of the replacement.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Replace the HAProxy of this haproxy.cfg (KubeKey: /etc/kubekey/haproxy/haproxy.cfg).
    #[arg(long, value_name = "FILE", group = "from", conflicts_with = "backends")]
    from_haproxy: Option<PathBuf>,
    /// Replace the nginx of this nginx.conf (kubespray: /etc/nginx/nginx.conf).
    #[arg(long, value_name = "FILE", group = "from", conflicts_with = "backends")]
    from_nginx: Option<PathBuf>,
    /// Stand before the server of this kubeconfig (kubeadm: /etc/kubernetes/kubelet.conf).
    #[arg(long, value_name = "FILE", group = "from", conflicts_with = "backends")]
    from_kubeconfig: Option<PathBuf>,
    /// Which frontend, upstream or context, when the file has several.
    #[arg(long, value_name = "NAME", requires = "from")]
    section: Option<String>,
    /// The static pod to replace [default: where the installer puts it].
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "from_kubeconfig")]
    replaces: Option<PathBuf>,
    /// Print one of the two documents, and no comments.
    #[arg(long, value_enum, requires = "from")]
    only: Option<Part>,
}

/// A document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The proxy's configuration.
    Config,
    /// The static pod.
    Pod,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Haproxy,
    Nginx,
    Kubeconfig,
}

/// A file to read.
pub(super) struct Source<'a> {
    kind: Kind,
    file: &'a Path,
}

impl Args {
    /// The file, if there is one.
    pub(super) fn source(&self) -> Option<Source<'_>> {
        let sources = [
            (Kind::Haproxy, &self.from_haproxy),
            (Kind::Nginx, &self.from_nginx),
            (Kind::Kubeconfig, &self.from_kubeconfig),
        ];
        let mut given = sources.into_iter().filter_map(|(kind, file)| Some((kind, file.as_ref()?)));
        given.next().map(|(kind, file)| Source { kind, file })
    }
}

impl Source<'_> {
    fn flag(&self) -> &'static str {
        match self.kind {
            Kind::Haproxy => "--from-haproxy",
            Kind::Nginx => "--from-nginx",
            Kind::Kubeconfig => "--from-kubeconfig",
        }
    }

    fn read(&self, section: Option<&str>) -> Result<Found, CliError> {
        let file = self.file.display();
        let unreadable = |why: String| CliError::Usage(format!("{}: {file}: {why}", self.flag()));
        let found = self.file.metadata().map_err(|error| unreadable(error.to_string()))?;
        if !found.is_file() || found.len() > MAX_FILE {
            return Err(unreadable(format!("it is no file of at most {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(self.file).map_err(|e| unreadable(e.to_string()))?;
        let read = match self.kind {
            Kind::Haproxy => dropin::haproxy,
            Kind::Nginx => dropin::nginx,
            Kind::Kubeconfig => dropin::kubeconfig,
        };
        read(&text, section).map_err(|trouble| CliError::Usage(format!("{file}:{trouble}")))
    }

    /// The static pod that the installer left: KubeKey writes `.yaml`, kubespray `.yml`.
    fn replaced(&self) -> &'static str {
        match self.kind {
            Kind::Haproxy if self.file.starts_with("/etc/haproxy") => {
                "/etc/kubernetes/manifests/haproxy.yml"
            }
            Kind::Haproxy => "/etc/kubernetes/manifests/haproxy.yaml",
            Kind::Nginx | Kind::Kubeconfig => "/etc/kubernetes/manifests/nginx-proxy.yml",
        }
    }
}

/// Prints both documents with the way there and back, or one of them.
pub(super) fn print(args: &StaticPod, source: &Source<'_>) -> Result<String, CliError> {
    let found = source.read(args.replace.section.as_deref())?;
    let config = found.configuration(&args.ca_file.display().to_string());
    // Refuses paths that the pod cannot have, also for the configuration alone.
    let pod = static_pod(args)?;
    Ok(match args.replace.only {
        Some(Part::Config) => config,
        Some(Part::Pod) => pod,
        None => format!("{}{config}---\n{pod}", explain(args, source, &found)?),
    })
}

fn explain(args: &StaticPod, source: &Source<'_>, found: &Found) -> Result<String, CliError> {
    let config = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let mut again =
        format!("apiproxy manifest static-pod {} {}", source.flag(), shell(source.file)?);
    for (flag, value) in [
        ("--section", args.replace.section.as_deref()),
        ("--image", Some(&args.image)),
        ("--name", Some(&args.name)),
        ("--namespace", Some(&args.namespace)),
    ] {
        if let Some(value) = value {
            let _infallible = write!(again, " {flag} {}", shell(Path::new(value))?);
        }
    }
    let _infallible =
        write!(again, " --ca-file {} --config {}", shell(&args.ca_file)?, shell(config)?);
    let prepare = format!(
        "mkdir -p {folder} && {again} --only config > {config} && apiproxy check --config {config} \
         && {again} --only pod > {HELD}",
        folder = shell(folder("--config", config)?)?,
        config = shell(config)?,
    );
    let (swap, back) = match source.kind {
        Kind::Kubeconfig => kubeconfig_swap(source, found)?,
        Kind::Haproxy | Kind::Nginx => {
            let old = args.replace.replaces.as_deref().unwrap_or(Path::new(source.replaced()));
            let kept = Path::new("/etc/kubernetes").join(format!(
                "{}.replaced",
                folder("--replaces", old).map(|_| old.file_name().unwrap_or_default().display())?
            ));
            let (old, kept) = (shell(old)?, shell(&kept)?);
            let free = wait_for_ports(found);
            (
                format!("mv {old} {kept} && {free}mv {HELD} {LIVE}"),
                format!("mv {LIVE} {HELD} && {free}mv {kept} {old}"),
            )
        }
    };
    let mut text = format!(
        "# Read from {} ({}).\n# On the worker, as root, with the image there (`apiproxy image | ctr -n \
         k8s.io images import -`):\n#\n# Swap:\n#   (umask 022 && {prepare} && {swap})\n#\n# The way back:\n#   {back}\n",
        shell(source.file)?,
        found.place
    );
    if !found.notes.is_empty() {
        text += "#\n# Not taken over:\n";
    }
    for note in &found.notes {
        let _infallible = writeln!(text, "#   line {}: {}", note.line, note.text);
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(CliError::Usage("the file has control characters in names".to_owned()));
    }
    Ok(text)
}

/// The new manifest until it is swapped in, by a rename, so that kubelet never reads half of it.
const HELD: &str = "/etc/kubernetes/apiproxy.yaml";
const LIVE: &str = "/etc/kubernetes/manifests/apiproxy.yaml";

/// Two proxies cannot have the same port: the second starts when the first has let go.
fn wait_for_ports(found: &Found) -> String {
    let ports: Vec<_> = found.listen.iter().map(|at| format!("sport = :{}", at.port())).collect();
    let ports = ports.join(" or ");
    format!("while ss -Hltn '( {ports} )' | grep -q .; do sleep 0.2; done && ")
}

/// Nothing is swapped: kubelet is pointed at the proxy once that serves.
fn kubeconfig_swap(source: &Source<'_>, found: &Found) -> Result<(String, String), CliError> {
    let file = shell(source.file)?;
    let kept = shell(&source.file.with_added_extension("replaced"))?;
    let server = &found.servers[0].address;
    // Of the characters of an address, the dot and the brackets mean something to sed.
    let pattern = server.to_string().replace('.', "\\.").replace('[', "\\[").replace(']', "\\]");
    let pattern = match pattern.strip_suffix(":443") {
        Some(host) => format!("{host}(:443)?"),
        None => pattern,
    };
    let edit = format!("s#(server: *\"?https://){pattern}/?(\"?)$#\\1127.0.0.1:6443\\2#");
    Ok((
        format!(
            "mv {HELD} {LIVE} && until curl -sf http://127.0.0.1:10242/readyz; do sleep 1; done && cp -p {file} \
             {kept} && sed -E -i '{edit}' {file} && systemctl restart kubelet"
        ),
        format!("mv {kept} {file} && systemctl restart kubelet && rm {LIVE}"),
    ))
}

/// A path as one word of a shell.
fn shell(path: &Path) -> Result<String, CliError> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text =
        text.ok_or_else(|| CliError::Usage(format!("{}: choose a plain path", path.display())))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@=".contains(c);
    if text.chars().all(plain) && !text.is_empty() {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}
