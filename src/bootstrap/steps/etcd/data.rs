//! What becomes of the data of a member that is no more.

use std::time::Duration;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::transport::Command;

use super::paths::DATA;

/// 8 GiB, the most that etcd keeps, onto another file system at 20 MiB/s.
const PATIENCE: Duration = Duration::from_mins(7);

/// What becomes of the data of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// They are kept beside their folder, under a name that says when. Not in it: kubeadm makes no
    /// member where there is something.
    #[default]
    Aside,
    /// They are deleted.
    Deleted,
}

/// Does that; nothing if there are none.
///
/// # Errors
/// The host cannot be reached, or has no room.
pub async fn settle(cx: &Context, host: &str, data: Data) -> Result<(), StepError> {
    cx.run(host, &command(DATA, data)).await.map(drop)
}

/// The same for a folder.
fn command(folder: &str, data: Data) -> Command {
    const SCRIPT: &str = r#"
# settle the data of etcd
[ -d "$1/member" ] || exit 0
case $2 in
aside) mv "$1/member" "$1-removed-$(date -u +%Y%m%dT%H%M%SZ)" ;;
delete) rm -rf "$1/member" ;;
esac
"#;
    let word = match data {
        Data::Aside => "aside",
        Data::Deleted => "delete",
    };
    Command::script(SCRIPT, [folder, word]).timeout(PATIENCE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_real_shell_keeps_or_deletes_what_is_there_and_bears_that_there_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etcd");
        let run = |data| {
            let command = command(folder.to_str().unwrap(), data);
            let mut shell = std::process::Command::new(&command.argv[0]);
            assert!(shell.args(&command.argv[1..]).status().unwrap().success());
        };
        for data in [Data::Aside, Data::Deleted] {
            run(data);
            fs::create_dir_all(folder.join("member")).unwrap();
            fs::write(folder.join("member/wal"), "1").unwrap();
            run(data);
            assert!(!folder.join("member").exists());
        }
        let mut left: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().path()).collect();
        left.sort();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[1].to_str().unwrap().contains("/etcd-removed-20"), "{left:?}");
        assert!(left[1].join("wal").exists());
    }
}
