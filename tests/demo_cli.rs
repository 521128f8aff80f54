//! `apiproxy demo`, as its user starts it.

mod common;

use std::process::Command;

#[test]
fn runs_for_a_while_and_says_how_it_went() {
    let output = common::run(Command::new(common::program()).args(["demo", "--duration", "20s"]));
    assert!(output.contains("curl --cacert"), "{output}");
    assert!(output.contains("alpha hangs"), "{output}");
    assert!(output.contains("apiproxy alpha: ready -> dead"), "{output}");
    assert!(output.contains("apiproxy alpha: dead -> ready"), "{output}");
    assert!(output.contains("bravo crashes"), "{output}");
    assert!(output.contains("apiproxy bravo: ready -> dead"), "{output}");
    assert!(output.lines().last().unwrap().contains("requests ok"), "{output}");
}
