//! The scripts themselves, by the shell of the machine that tests run on, where they can do no harm.

use std::process::{Command as Process, Output as Ended};

use super::*;
use crate::bootstrap::transport::Command;

fn run(command: &Command) -> Ended {
    Process::new(&command.argv[0]).args(&command.argv[1..]).output().unwrap()
}

#[test]
fn this_machine_can_be_looked_at() {
    for cluster in [sample::stacked(), sample::offline(sample::external(), "/a")] {
        for host in [&cluster.hosts[0], &cluster.hosts[cluster.hosts.len() - 1]] {
            let ended = run(&look::command(&cluster, host));
            assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "it complains of nothing");
            let look = Look::read(&String::from_utf8_lossy(&ended.stdout)).expect("a whole answer");
            let hosts = &look.files[paths::ETC_HOSTS];
            assert_eq!(hosts.content, fs::read(paths::ETC_HOSTS).unwrap());
            assert_eq!(hosts.owner, ("root".to_owned(), "root".to_owned()));
            assert!(!look.facts.hostname.is_empty() && !look.facts.arch.is_empty());
            let node = crate::bootstrap::needs::is_node(host);
            assert_eq!(look.facts.modules.contains_key("overlay"), node);
            assert_eq!(look.facts.programs.contains_key("cp"), node);
        }
    }
}

#[test]
fn an_answer_that_broke_off_is_none() {
    assert_eq!(Look::read("hostname a\narch x86_64\n"), None);
    assert!(Look::read("hostname a\nend\n").is_some());
    let told = "unit a.service loaded active enabled \nunit b.service loaded inactive disabled \n\
                unit c.service\nend\n";
    let look = Look::read(told).unwrap();
    assert_eq!(look.unit("a.service"), Unit { active: true, enabled: true });
    for name in ["b.service", "c.service", "d.service"] {
        assert_eq!(look.unit(name), Unit::default(), "{name}");
    }
}
