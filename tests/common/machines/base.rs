//! The tree of programs that all machines share, made once and kept.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::run;

/// Where trees are kept, one for each recipe.
const TREES: &str = "/var/tmp";

/// The release of Debian.
const RELEASE: &str = "bookworm";

/// What makes a machine.
const SYSTEM: &[&str] = &[
    "ca-certificates",
    "dbus",
    "iproute2",
    "kmod",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
];

/// What the tests need on top of it. Services among them are off.
const PACKAGES: &[&str] = &[
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "ebtables",
    "etcd-client",
    "etcd-server",
    "ethtool",
    "faketime",
    "gnupg",
    "ipset",
    "iptables",
    "iputils-ping",
    "logrotate",
    "nftables",
    "openssl",
    "runc",
    "socat",
    "xz-utils",
    "zstd",
];

/// Run in the tree at the end. The first user becomes root without a password, the second with its
/// own name as the password, the third not at all.
const SCRIPT: &str = r"
systemctl disable etcd containerd nftables logrotate.timer 2>&1
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
for user in ops opspw nosudo; do
    useradd --create-home --shell /bin/bash $user
    mkdir -m 700 /home/$user/.ssh
    chown $user: /home/$user/.ssh
done
echo opspw:opspw | chpasswd
printf 'ops ALL=(ALL) NOPASSWD: ALL\nopspw ALL=(ALL) ALL\n' >/etc/sudoers.d/lab
chmod 440 /etc/sudoers.d/lab
mkdir -p -m 700 /root/.ssh
rm -rf /etc/machine-id /etc/ssh/ssh_host_* /etc/resolv.conf /var/lib/apt/lists/* /var/cache/apt/*.bin
apt-get clean
systemctl enable lab-network.service
";

/// A package of which only the program is taken, where no PATH leads: kubectl.
const KUBECTL: &str = r"
cd /tmp
apt-get download --quiet=2 kubernetes-client
dpkg-deb --fsys-tarfile kubernetes-client_*.deb | tar --extract --directory=/opt --strip-components=3 ./usr/bin/kubectl
rm kubernetes-client_*.deb
";

/// Gives a machine its address. Where control groups are of version 1, they are this host's, and
/// read-only until here.
const NETWORK: &str = r"[Unit]
Description=The machine's address
Before=ssh.service network.target
[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/lab-network
ExecStart=/bin/sh -c 'ip link set host0 up; ip addr add $ADDRESS/24 dev host0; ip route add default via $GATEWAY'
ExecStart=-/bin/sh -c 'for c in /sys/fs/cgroup/*/; do mount -o remount,rw,bind $c || mount -o remount,rw $c; done 2>/dev/null; true'
[Install]
WantedBy=multi-user.target
";

/// The tree. Made by the first who asks, while others wait for it.
pub(super) fn tree() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (RELEASE, SYSTEM, PACKAGES, KUBECTL, SCRIPT, NETWORK).hash(&mut hasher);
    let folder = Path::new(TREES).join(format!("apiproxy-lab-base-{:016x}", hasher.finish()));
    let tree = folder.join("tree");
    let made = folder.join("made");
    if made.exists() {
        return tree;
    }
    let lock = File::create(Path::new(TREES).join("apiproxy-lab-base.lock")).unwrap();
    lock.lock().unwrap();
    if !made.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        make(&tree);
        fs::write(made, "").unwrap();
    }
    tree
}

fn make(tree: &Path) {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.arg("--variant=minbase").arg(format!("--include={}", SYSTEM.join(",")));
    run(system(&mut debootstrap).arg(RELEASE).arg(tree));
    let inside = |arguments: &[&str]| {
        let mut chroot = Command::new("chroot");
        chroot
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .env("RUNLEVEL", "1");
        run(system(&mut chroot).arg(tree).args(arguments))
    };
    let install = ["apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends"];
    inside(&["apt-get", "update", "--quiet=2"]);
    inside(&[&install, PACKAGES].concat());
    inside(&["sh", "-euc", KUBECTL]);
    fs::write(tree.join("etc/systemd/system/lab-network.service"), NETWORK).unwrap();
    inside(&["sh", "-euc", SCRIPT]);
}

/// A command that finds what is for root alone.
fn system(command: &mut Command) -> &mut Command {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"))
}

/// Is there such a program, also among those for root?
pub(super) fn has_system_program(name: &str) -> bool {
    let more = ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(name).is_file());
    more || super::super::has_program(name)
}
