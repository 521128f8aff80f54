//! The units of systemd and the Debian package: how hard they are, and that the package comes and goes
//! without a trace.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{apiproxy, has_program, report, run};

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

#[test]
fn the_units_are_printed_as_they_are_in_packaging() {
    for (unit, file) in [("service", "apiproxy.service"), ("socket", "apiproxy.socket")] {
        let printed = apiproxy(&["manifest", "systemd", "--unit", unit]);
        assert_eq!(printed.code, Some(0));
        assert_eq!(printed.stdout, fs::read_to_string(packaging(file)).unwrap());
        assert!(apiproxy(&["manifest", "systemd"]).stdout.contains(&printed.stdout));
    }
}

#[test]
fn the_service_exposes_little() {
    if !has_program("systemd-analyze") {
        skip!("there is no systemd-analyze; install systemd");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut analyze = Command::new("systemd-analyze");
    // It fails when the score is above 2.0.
    let security = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    let text = run(analyze.args(security).arg(packaging("apiproxy.service")));
    let score = text.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    report(score.trim_start_matches(['→', ' ']));
    // It wants the program to be there.
    for file in ["apiproxy.service", "apiproxy.socket"] {
        let unit = fs::read_to_string(packaging(file)).unwrap();
        let unit = unit.replace("/usr/bin/apiproxy", env!("CARGO_BIN_EXE_apiproxy"));
        let unit = unit.replace("Documentation=man:apiproxy(1)\n", "");
        fs::write(folder.path().join(file), unit).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(["apiproxy.service", "apiproxy.socket"].map(|file| folder.path().join(file)))
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let ours: Vec<_> = told.lines().filter(|line| line.contains("apiproxy")).collect();
    assert!(output.status.success() && ours.is_empty(), "{told}");
}

/// A tree of Debian, made once; each use writes into a layer of its own above it.
struct Debian {
    folder: tempfile::TempDir,
}

impl Debian {
    fn start() -> Result<Self, String> {
        for program in ["debootstrap", "dpkg-deb"] {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
            if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
                return Err(format!("there is no {program}"));
            }
        }
        if !rustix::process::geteuid().is_root() {
            return Err("a chroot needs root".to_owned());
        }
        let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("debian");
        let done = base.join("made");
        if !done.exists() {
            let _ = fs::remove_dir_all(&base);
            let mut make = Command::new("debootstrap");
            make.args([
                "--variant=minbase",
                "--include=systemd,man-db,bash-completion",
                "bookworm",
            ]);
            make.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
            run(make.arg(&base));
            fs::write(done, "").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        for layer in ["upper", "work", "root"] {
            fs::create_dir(folder.path().join(layer)).unwrap();
        }
        let at = |layer| folder.path().join(layer).display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", base.display(), at("upper"), at("work"));
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, &at("root")]));
        Ok(Self { folder })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut chroot = Command::new("chroot");
        chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        run(chroot.arg(self.root()).arg(program).args(arguments))
    }

    /// Every file with our name in its path, apart from what dpkg keeps.
    fn ours(&self) -> Vec<String> {
        let text = self.run("find", &["/etc", "/usr", "/var/lib", "/run", "-name", "*apiproxy*"]);
        text.lines().filter(|line| !line.contains("/dpkg/")).map(str::to_owned).collect()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).status();
    }
}

#[test]
fn the_debian_package_comes_and_goes() {
    let Some(program) = common::released() else { skip!("no static release binary") };
    let debian = match Debian::start() {
        Ok(debian) => debian,
        Err(why) => skip!("{why}"),
    };
    assert_eq!(debian.ours(), [""; 0]);
    let folder = debian.root().join("packages");
    run(Command::new("bash")
        .arg(packaging("deb.sh"))
        .arg(&folder)
        .env("APIPROXY_MUSL_BIN", program));
    let package = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().file_name();
    let package = format!("/packages/{}", package.to_str().unwrap());

    debian.run("dpkg", &["--install", &package]);
    let version = debian.run("apiproxy", &["--version"]);
    assert_eq!(version, format!("apiproxy {}\n", env!("CARGO_PKG_VERSION")));
    let ours = debian.ours();
    for file in [
        "/usr/lib/systemd/system/apiproxy.service",
        "/usr/lib/systemd/system/apiproxy.socket",
        "/usr/share/man/man1/apiproxy.1.gz",
        "/usr/share/man/man1/apiproxy-run.1.gz",
        "/usr/share/bash-completion/completions/apiproxy",
        "/etc/apiproxy",
    ] {
        assert!(ours.iter().any(|found| found == file), "no {file} in {ours:?}");
    }
    let conffiles = debian.run("dpkg-query", &["-W", "-f", "${Conffiles}", "apiproxy"]);
    assert!(conffiles.contains("/etc/apiproxy/config.yaml"), "{conffiles}");
    // Not before its configuration has been written.
    assert!(!ours.iter().any(|found| found.contains("wants/")), "{ours:?}");
    debian.run("systemctl", &["enable", "apiproxy.service"]);
    let sample = fs::read_to_string(debian.root().join("etc/apiproxy/config.yaml")).unwrap();
    assert_eq!(sample, fs::read_to_string(packaging("config.yaml")).unwrap());
    debian.run("bash", &["-n", "/usr/share/bash-completion/completions/apiproxy"]);
    let complaints = debian.run("sh", &["-c", "man --warnings -E UTF-8 -l -Tutf8 -Z /usr/share/man/man1/apiproxy-run.1.gz 2>&1 >/dev/null"]);
    assert_eq!(complaints, "");

    // An operator's configuration outlives the removal, and the same version installed again.
    fs::write(debian.root().join("etc/apiproxy/config.yaml"), "mine").unwrap();
    debian.run("dpkg", &["--install", &package]);
    debian.run("dpkg", &["--remove", "apiproxy"]);
    assert_eq!(fs::read_to_string(debian.root().join("etc/apiproxy/config.yaml")).unwrap(), "mine");
    assert!(!debian.root().join("usr/bin/apiproxy").exists());
    // As systemd leaves it behind.
    fs::create_dir_all(debian.root().join("var/lib/private/apiproxy")).unwrap();
    symlink("private/apiproxy", debian.root().join("var/lib/apiproxy")).unwrap();
    debian.run("dpkg", &["--purge", "apiproxy"]);
    assert_eq!(debian.ours(), [""; 0]);
}
