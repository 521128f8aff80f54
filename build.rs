//! Static programs are linked with code that a serving proxy never runs behind the rest: less of it is
//! resident (`cargo test --test memory`).

use std::env::var;

/// Only GNU ld takes the script.
const SCRIPT: &str = "packaging/cold-code.ld";

fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let target = ["CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ENV"].map(|name| var(name).ok());
    if target.each_ref().map(Option::as_deref) != [Some("linux"), Some("musl")] {
        return;
    }
    if let Ok(folder) = var("CARGO_MANIFEST_DIR") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/{SCRIPT}");
    }
}
