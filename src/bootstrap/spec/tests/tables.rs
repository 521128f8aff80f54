//! Hosts from a table beside the cluster file.

use super::*;

/// Reads a file that names this table.
fn with_table(table: &str) -> (tempfile::TempDir, Result<Cluster, SpecError>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("workers.csv"), table).unwrap();
    let read = read_in(folder.path(), &file("BASE\nhostsFrom: workers.csv"));
    (folder, read)
}

fn refused(table: &str) -> String {
    let (folder, read) = with_table(table);
    let base = folder.path().display().to_string();
    read.unwrap_err().to_string().replace(&format!("{base}/"), "")
}

#[test]
fn rows_are_hosts() {
    let table = "\u{feff}name,address,roles,zone,labels,taints\r\n\
                 w1,10.0.1.1,worker,a,disk=ssd;gpu=,gpu=a100:NoSchedule;x:NoExecute\r\n\
                 # the next ones are workers by default\r\n\
                 w[2-50],10.0.1.[2-50],,b\r\n\
                 \"v[1,3]\",\"10.0.2.[1,3]\"\r\n\
                 s1,10.0.3.1,spare\r\n";
    let cluster = with_table(table).1.unwrap();
    assert_eq!(cluster.hosts.len(), 54);
    let host = |name: &str| cluster.host(name).unwrap();
    assert_eq!(
        host("w1").labels,
        [("disk".to_owned(), "ssd".to_owned()), ("gpu".to_owned(), String::new())].into()
    );
    assert_eq!(host("w1").taints.len(), 2);
    assert_eq!(
        (host("w50").address.to_string(), host("w50").zone.as_deref()),
        ("10.0.1.50".to_owned(), Some("b"))
    );
    assert_eq!(host("v3").roles, [Role::Worker].into());
    assert_eq!(host("s1").roles, [Role::Spare].into());
    assert_eq!(host("s1").ssh, cluster.ssh);
}

#[test]
fn faults_are_told_at_the_line_of_the_table() {
    let table = "name,address,roles,zone,labels,taints\n\
                 w1,10.0.0.11,worker\n\
                 w1,10.0.1.2,wroker;etcd,a b,a;b=c d,x:Never\n\
                 ,10.0.1.3\n\
                 w[1-3],10.0.1.[4-9]\n\
                 x1,10.0.1.20,external,,a=b,c:NoExecute\n";
    insta::assert_snapshot!(refused(table));
}

#[test]
fn faults_of_both_files_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.csv"), "name,adress\nw1,10.0.0.1\n").unwrap();
    let text = file("BASE\nhostsFrom: w.csv\naudit: maybe");
    let lines = read_in(folder.path(), &text).unwrap_err().lines();
    let table = folder.path().join("w.csv").display().to_string();
    assert_eq!(
        lines,
        [
            "cluster.yaml:9:10: `spec.audit`: expected true or false, found the text `maybe`"
                .to_owned(),
            format!(
                "{table}:1:1: the table has no column `address` (name the columns in the first row: name,address,roles)"
            ),
            format!("{table}:1:6: unknown column `adress` (did you mean `address`?)"),
        ]
    );
}

#[test]
fn a_table_that_cannot_be_read_is_told_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = read_in(folder.path(), &file("BASE\nhostsFrom: none.csv")).unwrap_err();
    let path = folder.path().join("none.csv");
    let message = format!("cannot read {}: No such file or directory (os error 2)", path.display());
    assert_eq!(
        error.lines(),
        [format!("cluster.yaml:8:14: `spec.hostsFrom`: {message} (check the path)")]
    );
}

#[test]
fn a_table_alone_will_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("all.csv"),
        "name,address,roles\ncp1,10.0.0.1,controlPlane\n",
    )
    .unwrap();
    let cluster = read_in(folder.path(), &file("VERSION\nhostsFrom: all.csv")).unwrap();
    assert_eq!(cluster.hosts.len(), 1);
}
