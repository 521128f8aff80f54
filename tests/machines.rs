//! The machines that other tests provision: that they are what a host is, that what befalls them
//! does, and that nothing of them is left.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::machines::{Lab, Machine, user};
use common::{report, wait_for};

/// Does sshd of this machine greet?
fn greets(machine: &Machine) -> bool {
    let address = SocketAddr::from((machine.address(), 22));
    let second = Duration::from_secs(1);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, second) else { return false };
    stream.set_read_timeout(Some(second)).unwrap();
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-"
}

#[test]
fn machines_are_hosts_and_leave_nothing() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let started = Instant::now();
    let [one, two, three] = lab.boot_all(["one", "two", "three"]);
    report(&format!("3 machines booted in {:.1} s", started.elapsed().as_secs_f64()));

    for machine in [&one, &two, &three] {
        assert_eq!(
            machine.ssh("root", "hostname; id -u").stdout,
            format!("{}\n0\n", machine.name())
        );
    }
    assert_ne!(one.exec("cat /etc/machine-id"), two.exec("cat /etc/machine-id"));
    one.exec(&format!("timeout 2 bash -c '</dev/tcp/{}/22'", two.address()));
    for service in ["etcd", "containerd"] {
        let states = format!("systemctl is-enabled {service}; systemctl is-active {service}; true");
        assert_eq!(one.exec(&states), "disabled\ninactive\n", "{service}");
    }
    one.exec("systemctl start containerd && ctr version && systemctl stop containerd");
    assert_eq!(one.exec("systemctl --failed --plain --no-legend"), "");
    who_may_become_root(&one);

    two.freeze();
    assert!(!greets(&two) && greets(&one));
    two.thaw();
    assert!(greets(&two));

    two.cut();
    assert!(!greets(&two));
    assert_eq!(two.exec("hostname"), "two\n");
    two.join();
    wait_for("two is reached again", Duration::from_secs(20), || greets(&two).then_some(()));

    disks_and_clocks(&one);

    let last = three.last();
    let key = "cat /etc/ssh/ssh_host_ed25519_key.pub";
    let before = three.exec(key);
    three.write("/var/lib/etcd/data", b"precious", 0o600);
    three.destroy();
    let three = lab.boot_at("three", last);
    assert_ne!(three.exec(key), before);
    assert_ne!(three.attempt("cat /var/lib/etcd/data").code, Some(0));
    assert_eq!(three.ssh("root", "hostname").stdout, "three\n");

    let number = lab.number();
    assert_eq!(lab.traces().iter().filter(|trace| trace.starts_with("process")).count(), 3);
    // Their network is there as long as the last of them.
    drop(lab);
    assert!(greets(&one) && greets(&three));
    drop((one, two, three));
    assert_eq!(Lab::traces_of(number), [""; 0]);
}

fn who_may_become_root(machine: &Machine) {
    assert_eq!(machine.ssh(user::OPS, "id -un; sudo -n id -u").stdout, "ops\n0\n");
    let with_password = |user: &str| {
        machine
            .ssh(user, &format!("id -un; sudo -n true && echo free; echo {user} | sudo -S id -u"))
    };
    assert_eq!(with_password(user::OPS_PASSWORD).stdout, "opspw\n0\n");
    assert_eq!(with_password(user::NO_SUDO).stdout, "nosudo\n");
    assert_ne!(machine.ssh("nobody", "true").code, Some(0));
}

fn disks_and_clocks(machine: &Machine) {
    for file in ["/etc/mark", "/var/lib/etcd/mark"] {
        machine.write(file, b"kept", 0o640);
    }
    // What moves data aside needs a folder that is not a mount.
    machine.exec("mv /var/lib/etcd /var/lib/etcd.old");
    machine.power_off();
    assert!(!greets(machine));
    machine.power_on();
    assert_eq!(machine.exec("cat /etc/mark /var/lib/etcd.old/mark"), "keptkept");
    assert_eq!(machine.exec("stat --format=%a /etc/mark"), "640\n");
    machine.shut_down();
    machine.power_on();
    assert_eq!(machine.ssh("root", "cat /etc/mark").stdout, "kept");

    machine.small_disk("/var/lib/full", 8);
    machine.fill_disk("/var/lib/full");
    let refused = machine.attempt("cp /etc/services /var/lib/full/more");
    assert!(refused.stderr.contains("No space left"), "{refused:?}");
    machine.free_disk("/var/lib/full");
    machine.exec("echo more >/var/lib/full/more");

    let off_by = |text: String| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        text.trim().parse::<i64>().unwrap() - i64::try_from(now.as_secs()).unwrap()
    };
    machine.skew_clock(-3600);
    for lies in [machine.ssh("root", "date +%s"), machine.ssh(user::OPS, "sudo date +%s")] {
        assert!((-3605..=-3595).contains(&off_by(lies.stdout)));
    }
    machine.skew_clock(0);
    assert!(off_by(machine.exec("date +%s")).abs() < 5);
}

#[test]
fn labs_coexist_and_the_next_one_clears_up_after_the_dead() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let (first, second) = (Lab::new(), Lab::new());
    let [a] = first.boot_all(["same"]);
    let b = second.boot("same");
    assert_ne!(a.address(), b.address());
    assert!(greets(&a) && greets(&b));
    let dead = first.abandon([a]);
    let traces = Lab::traces_of(dead);
    for kind in ["process ", "mount ", "/sys/class/net/", "/var/tmp/"] {
        assert!(traces.iter().any(|trace| trace.starts_with(kind)), "{traces:?}");
    }

    let third = Lab::new();
    let left =
        |number| Lab::traces_of(number).into_iter().any(|trace| trace.starts_with("process"));
    assert!(!left(dead) && left(second.number()));
    assert!(greets(&b));
    drop((third, second, b));
    assert_eq!(Lab::traces_of(dead), [""; 0]);
}
