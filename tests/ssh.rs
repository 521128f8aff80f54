//! Hosts over OpenSSH, against a real sshd: commands, files, what is killed, what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiproxy::bootstrap::transport::{
    Command, Dialer, Dialing, File, Secret, Ssh, Transport, TransportError,
};
use common::sshd::{Server, User, obstacle, ssh as ssh_with};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

macro_rules! server {
    () => {
        server!("")
    };
    ($lines:expr) => {{
        if let Some(obstacle) = obstacle() {
            skip!("{obstacle}");
        }
        Server::start($lines)
    }};
}

fn sh(script: &str) -> Command {
    Command::script(script, [""; 0])
}

/// The error of a command that must not come about.
async fn refused(ssh: &Ssh) -> String {
    let error = ssh.run(&Command::new(["true"])).await.unwrap_err();
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(!text.trim().contains('\n'), "{text}");
    text
}

/// Are these processes gone, as they should be soon?
fn gone(pids: &[String]) {
    for pid in pids {
        let path = Path::new("/proc").join(pid.trim());
        common::wait_for("the remote command is killed", Duration::from_secs(5), || {
            (!path.exists()).then_some(())
        });
    }
}

/// A command that writes its process id into a file, and then that of a child that outlives signals
/// to it alone.
fn stubborn(folder: &Path) -> Command {
    let script =
        "sleep 300 & echo $$ > \"$1.new\"; echo $! >> \"$1.new\"; mv \"$1.new\" \"$1\"; wait";
    Command::script(script, [folder.join("pids").display().to_string()])
}

fn pids(folder: &Path) -> Vec<String> {
    let file = folder.join("pids");
    let text = common::wait_for("the command runs", Duration::from_secs(10), || {
        fs::read_to_string(&file).ok()
    });
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn commands_come_back_as_they_ended() {
    let server = server!();
    let ssh = server.ssh();
    let out = ssh.run(&sh("cat; echo complaint >&2; exit 7").stdin("input")).await.unwrap();
    assert_eq!((out.code, out.stdout.as_slice()), (7, b"input".as_slice()));
    assert_eq!(out.complaint(), "complaint");
    // 255 is an exit code like any other, though ssh itself uses it.
    assert_eq!(ssh.run(&sh("exit 255")).await.unwrap().code, 255);
    assert_eq!(ssh.run(&sh("kill -9 $$")).await.unwrap().code, 137);
    let missing = ssh.run(&Command::new(["no-such-program"])).await.unwrap();
    assert_eq!(missing.code, 127);
    // Words are words: no shell builtin, no expansion.
    let words = ssh.run(&Command::new(["echo", "$HOME", "*", ";", "exit 3"])).await.unwrap();
    assert_eq!(words.text(), "$HOME * ; exit 3");
    assert_eq!(ssh.run(&sh("id -u; pwd; umask")).await.unwrap().text(), "0\n/\n0022");
    // A command need not read what it is given.
    let deaf = ssh.run(&Command::new(["true"]).stdin(vec![b'x'; 4 << 20])).await.unwrap();
    assert_eq!(deaf.code, 0);
    // What stays behind does not keep anybody waiting.
    let began = Instant::now();
    assert_eq!(ssh.run(&sh("sleep 20 & echo $!")).await.unwrap().code, 0);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_connection_ends_with_its_last_user() {
    let server = server!();
    let ssh = server.ssh();
    let session = "
        pid=$$
        while [ \"$(cat /proc/$pid/comm)\" != sshd ] && [ \"$pid\" -gt 1 ]; do
            pid=$(sed 's/.*) . //; s/ .*//' /proc/$pid/stat)
        done
        echo $pid";
    let pid = ssh.run(&sh(session)).await.unwrap().text();
    assert!(Path::new("/proc").join(&pid).exists());
    drop(ssh);
    gone(&[pid]);
}

#[tokio::test]
async fn bytes_pass_as_they_are() {
    let server = server!();
    let ssh = server.ssh();
    let bytes: Vec<u8> =
        (0..6_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let out = ssh.run(&Command::new(["cat"]).stdin(bytes.clone())).await.unwrap();
    assert!(out.stdout == bytes && out.ok());
    let out = ssh.run(&sh("cat >&2").stdin(bytes.clone())).await.unwrap();
    assert!(out.stderr == bytes);
}

#[test]
fn odd_words_arrive_as_they_are() {
    let server = server!();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ssh = server.ssh();
    let word = prop_oneof![
        "[ -~\\n\\t\\r\u{0}-\u{1f}éß✓]{0,12}".prop_map(|word| word.replace('\0', "")),
        prop::sample::select(vec![
            "'", "''", "\\", "\\'", "$(id)", "`id`", "!!", "-n", "--", "*", "~", "a\n", "\n", "%s"
        ])
        .prop_map(str::to_owned),
        "[\\PC]{0,8}".prop_map(|word| word.replace('\0', "")),
    ];
    let mut runner = TestRunner::new(ProptestConfig::with_cases(40));
    let words = prop::collection::vec(word, 0..6);
    runner
        .run(&words, |words| {
            let head = ["printf", "%s\\0", "."].map(str::to_owned);
            let command = Command::new(head.into_iter().chain(words.clone()));
            let out = runtime.block_on(ssh.run(&command)).unwrap();
            let expected: String =
                [".".to_owned()].iter().chain(&words).map(|w| w.clone() + "\0").collect();
            prop_assert_eq!(String::from_utf8_lossy(&out.stdout), expected);
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_limit_of_time_kills_the_command_and_its_children() {
    let server = server!();
    let ssh = server.ssh();
    let began = Instant::now();
    let command = stubborn(server.folder.path()).timeout(Duration::from_secs(2));
    let error = ssh.run(&command).await.unwrap_err();
    assert!(matches!(error, TransportError::Timeout { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    gone(&pids(server.folder.path()));
    // The connection is as good as before.
    assert!(ssh.run(&Command::new(["true"])).await.unwrap().ok());
}

#[tokio::test]
async fn what_nobody_waits_for_is_killed() {
    let server = server!();
    let ssh = server.ssh();
    ssh.run(&Command::new(["true"])).await.unwrap();
    let command = stubborn(server.folder.path());
    let waited = tokio::time::timeout(Duration::from_secs(2), ssh.run(&command)).await;
    assert!(waited.is_err());
    gone(&pids(server.folder.path()));
}

#[tokio::test]
async fn a_lost_connection_is_told_from_a_failed_command_and_made_again() {
    let server = server!();
    let ssh = server.ssh();
    // Ends the sshd process that carries this very connection.
    let cut = "
        pid=$$
        while [ \"$(cat /proc/$pid/comm)\" != sshd ] && [ \"$pid\" -gt 1 ]; do
            pid=$(sed 's/.*) . //; s/ .*//' /proc/$pid/stat)
        done
        echo $$ > \"$1\"
        kill -9 $pid
        sleep 300";
    let file = server.path("pids");
    let error = ssh.run(&Command::script(cut, [file.display().to_string()])).await.unwrap_err();
    assert!(matches!(error, TransportError::Lost { .. }), "{error:?}");
    // What ran there does not go on alone.
    gone(&pids(server.folder.path()));
    assert!(ssh.run(&Command::new(["true"])).await.unwrap().ok());
}

#[tokio::test]
async fn host_keys_are_verified() {
    let mut server = server!();
    let strict = server.dialing();
    let unknown = server.path("unknown");
    let nowhere = Dialing { known_hosts: Some(unknown.clone()), ..strict.clone() };
    let text = refused(&ssh_with(nowhere.clone(), &server.host("h1"))).await;
    let by_hand = format!("`ssh -p {} root@127.0.0.1`", server.port);
    assert!(text.starts_with("h1: its host key is not known; "), "{text}");
    assert!(text.contains(&by_hand) && text.contains("--accept-new"), "{text}");

    // Learned once, known from then on.
    let learn = Dialing { accept_new: true, ..nowhere.clone() };
    for dialing in [learn.clone(), nowhere] {
        let ssh = ssh_with(dialing, &server.host("h1"));
        assert!(ssh.run(&Command::new(["true"])).await.unwrap().ok());
    }

    // Another machine at the same address is never accepted.
    server.change_key();
    for dialing in [strict, learn] {
        let text = refused(&ssh_with(dialing, &server.host("h1"))).await;
        assert!(text.contains("its host key is not the one in known_hosts"), "{text}");
        assert!(text.contains("ssh-keygen -R"), "{text}");
    }
}

#[tokio::test]
async fn a_login_that_is_refused_has_one_line_with_the_remedy() {
    let server = server!();
    let mut host = server.host("h1");
    host.ssh.identity_file = Some(server.path("stranger"));
    let text = refused(&ssh_with(server.dialing(), &host)).await;
    assert!(text.contains("the login was refused") && text.contains("ssh.identityFile"), "{text}");

    host.ssh.identity_file = Some(server.path("no-such-key"));
    let text = refused(&ssh_with(server.dialing(), &host)).await;
    let key = server.path("no-such-key").display().to_string();
    let expected = format!("h1: there is no private key {key}; correct ssh.identityFile");
    assert_eq!(text, expected);

    host.ssh.identity_file = Some(server.path("user"));
    host.ssh.port = Some(common::free_port());
    let text = refused(&ssh_with(server.dialing(), &host)).await;
    assert!(text.contains("refuses connections") && text.contains("ssh.port"), "{text}");
}

#[tokio::test]
async fn a_host_that_says_nothing_is_given_up_and_not_asked_again_at_once() {
    let server = server!();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = server.host("h1");
    host.ssh.port = Some(silent.local_addr().unwrap().port());
    let ssh = ssh_with(server.dialing(), &host);
    let began = Instant::now();
    let text = refused(&ssh).await;
    assert!(text.contains("it takes connections, and no command"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let again = Instant::now();
    assert_eq!(refused(&ssh).await, text);
    assert!(again.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn files_are_written_as_a_whole() {
    let server = server!();
    let ssh = server.ssh();
    let path = server.path("a folder/below/it's.conf");
    let name = path.display().to_string();
    assert_eq!(ssh.read(&name).await.unwrap(), None);
    let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let file = File::new(&*name, content.clone()).mode(0o640).owned_by("daemon", "adm");
    ssh.write(&file).await.unwrap();
    let found = ssh.read(&name).await.unwrap().unwrap();
    assert!(found.content == content);
    assert_eq!((found.mode, found.owner), (0o640, ("daemon".to_owned(), "adm".to_owned())));
    // In place of what was there, and without a trace.
    ssh.write(&File::secret(&*name, "")).await.unwrap();
    let found = ssh.read(&name).await.unwrap().unwrap();
    assert_eq!((found.content.len(), found.mode), (0, 0o600));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o755);
    // What cannot be, is one line.
    let error = ssh.write(&File::new("/proc/nothing", "x")).await.unwrap_err();
    assert!(matches!(error, TransportError::File { .. }), "{error:?}");
    let error = ssh.write(&File::new(&*name, "x").owned_by("nobody-at-all", "root")).await;
    assert!(error.unwrap_err().to_string().contains("nobody-at-all"));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(ssh.read("/").await.unwrap_err().to_string(), "h1: /: cat: /: Is a directory");
}

#[tokio::test]
async fn a_big_upload_is_checked_and_not_done_twice() {
    let server = server!();
    let ssh = server.ssh();
    let source = server.path("source");
    let content: Vec<u8> =
        (0..40_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(&source, &content).unwrap();
    let path = server.path("there/big");
    let name = path.display().to_string();
    ssh.upload(&source, &name, 0o755).await.unwrap();
    assert!(fs::read(&path).unwrap() == content);
    let first = fs::metadata(&path).unwrap();
    assert_eq!(first.permissions().mode() & 0o777, 0o755);
    ssh.upload(&source, &name, 0o700).await.unwrap();
    let second = fs::metadata(&path).unwrap();
    assert_eq!((first.ino(), second.permissions().mode() & 0o777), (second.ino(), 0o700));
    // Another content is another file.
    fs::write(&source, "small").unwrap();
    ssh.upload(&source, &name, 0o700).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"small");
    let error = ssh.upload(&server.path("nothing"), &name, 0o700).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");

    // Given up in the middle, nothing of it is seen.
    fs::write(&source, &content).unwrap();
    let waited =
        tokio::time::timeout(Duration::from_millis(150), ssh.upload(&source, &name, 0o700));
    if waited.await.is_err() {
        common::wait_for("nothing is left over", Duration::from_secs(10), || {
            (fs::read_dir(path.parent().unwrap()).unwrap().count() == 1).then_some(())
        });
        assert_eq!(fs::read(&path).unwrap(), b"small");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left_over() {
    let server = server!();
    let folder = server.path("disk");
    fs::create_dir(&folder).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "apx"];
    let mounted = std::process::Command::new("mount").args(mount).arg(&folder).status().unwrap();
    if !mounted.success() {
        skip!("a small file system cannot be mounted here");
    }
    let ssh = server.ssh();
    let name = folder.join("file").display().to_string();
    ssh.write(&File::new(&*name, "old")).await.unwrap();
    let error = ssh.write(&File::new(&*name, vec![7; 2 << 20])).await;
    let left = fs::read_dir(&folder).unwrap().count();
    let content = fs::read(folder.join("file")).unwrap();
    assert!(std::process::Command::new("umount").arg(&folder).status().unwrap().success());
    let text = error.unwrap_err().to_string();
    assert!(text.ends_with("the disk is full; free some space there and run this again"), "{text}");
    assert_eq!((left, content), (1, b"old".to_vec()));
}

/// A host that lets us in and on which, while there is the file `hang`, no command comes to its end.
fn may_hang(folder: &Path) -> String {
    let program = folder.join("session");
    let hang = folder.join("hang").display().to_string();
    let script =
        format!("#!/bin/sh\n[ -e {hang} ] && exec sleep 300\neval \"$SSH_ORIGINAL_COMMAND\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("ForceCommand {}", program.display())
}

#[tokio::test]
async fn a_host_that_hangs_is_found_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = server!(&may_hang(folder.path()));
    let ssh = server.ssh();
    let slow = sh("sleep 30").timeout(Duration::from_secs(1));
    // A command that takes too long on a host that answers is a matter of its own.
    let error = ssh.run(&slow).await.unwrap_err();
    assert!(matches!(error, TransportError::Timeout { .. }), "{error:?}");
    assert!(ssh.run(&sh("true")).await.unwrap().ok());

    fs::write(folder.path().join("hang"), "").unwrap();
    let begun = Instant::now();
    let error = ssh.run(&slow).await.unwrap_err();
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("no command there comes to its end; see"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // From now on it costs nothing, though it would answer.
    fs::remove_file(folder.path().join("hang")).unwrap();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(ssh.run(&sh("true")).await.unwrap_err(), error);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_host_that_hangs_from_the_start_is_not_waited_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let server = server!(&may_hang(folder.path()));
    fs::write(folder.path().join("hang"), "").unwrap();
    let ssh = server.ssh();
    let begun = Instant::now();
    let text = refused(&ssh).await;
    assert!(text.contains("no command there comes to its end"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let begun = Instant::now();
    refused(&ssh).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn many_hosts_do_not_overrun_a_small_sshd() {
    // It drops whoever comes while four logins are under way.
    let server = server!("MaxStartups 4");
    let dialing = Dialing { at_once: 3, ..server.dialing() };
    let dialer = Arc::new(Dialer::new(dialing).unwrap());
    let hosts: Vec<_> =
        (0..24).map(|n| Ssh::new(&server.host(&format!("h{n}")), &dialer)).collect();
    let command = Command::new(["true"]);
    let runs = futures_util::future::join_all(hosts.iter().map(|host| host.run(&command))).await;
    assert!(
        runs.iter().all(|run| run.as_ref().is_ok_and(apiproxy::bootstrap::transport::Output::ok)),
        "{runs:?}"
    );
    let log = fs::read_to_string(server.path("sshd.log")).unwrap();
    assert!(!log.contains("drop connection") && !log.contains("beginning MaxStartups"), "{log}");
    // Commands of one host at the same time use its one connection, which allows ten.
    let runs = (0..30).map(|_| hosts[0].run(&command));
    let runs = futures_util::future::join_all(runs).await;
    assert!(runs.iter().all(Result::is_ok), "{runs:?}");
}

#[tokio::test]
async fn root_is_reached_through_sudo() {
    let server = server!();
    if !common::has_program("sudo") {
        skip!("sudo is not installed");
    }
    let users = [Some("ALL=(ALL) NOPASSWD: ALL"), Some("ALL=(ALL) ALL"), None];
    let users: Vec<_> = (0..).zip(users).map(|(n, rule)| User::new(n, rule)).collect();
    let secret = |text: &str| Some(Secret(text.as_bytes().to_vec()));
    let with = |user: &User, sudo_password: Option<Secret>| {
        let mut host = server.host("h1");
        host.ssh.user = Some(user.name.clone());
        ssh_with(Dialing { sudo_password, ..server.dialing() }, &host)
    };
    let read = sh("id -u; cat").stdin("input\nNONE\n");
    // Without a password, also if one was given; with one; what is read is the command's alone.
    for ssh in [
        with(&users[0], None),
        with(&users[0], secret("anything")),
        with(&users[1], secret(User::PASSWORD)),
    ] {
        assert_eq!(ssh.run(&read).await.unwrap().text(), "0\ninput\nNONE");
        let name = server.path("of-root").display().to_string();
        ssh.write(&File::secret(&*name, "x")).await.unwrap();
        assert_eq!(ssh.read(&name).await.unwrap().unwrap().owner.0, "root");
        let command = stubborn(server.folder.path()).timeout(Duration::from_secs(2));
        ssh.run(&command).await.unwrap_err();
        gone(&pids(server.folder.path()));
        fs::remove_file(server.path("pids")).unwrap();
    }
    let text = refused(&with(&users[1], None)).await;
    assert!(text.contains("sudo asks for a password; give --ask-sudo-password"), "{text}");
    let text = refused(&with(&users[1], secret("wrong"))).await;
    assert!(text.contains("the sudo password is wrong"), "{text}");
    let text = refused(&with(&users[2], secret(User::PASSWORD))).await;
    assert!(text.contains("ssh.user may not use sudo"), "{text}");
    let mut plain = server.host("h1");
    plain.ssh.user = Some(users[0].name.clone());
    plain.ssh.sudo = false;
    let text = refused(&ssh_with(server.dialing(), &plain)).await;
    assert!(text.contains("set ssh.sudo to true, or ssh.user to root"), "{text}");
}
