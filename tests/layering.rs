//! The directions of imports: who may know whom. A cycle here is how a code base rots.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each top-level module and the modules of ours that it may import.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "admin",
            "app",
            "bootstrap",
            "config",
            "control",
            "demo",
            "discovery",
            "dropin",
            "hardening",
            "health",
            "image",
            "manifest",
            "model",
            "signal",
            "tls",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "config",
            "control",
            "discovery",
            "drain",
            "events",
            "health",
            "metrics",
            "model",
            "net",
            "proxy",
            "raw",
            "systemd",
            "tls",
            "watch",
        ],
    ),
    // It never imports the data plane.
    ("bootstrap", &["config", "image", "manifest", "model", "signal", "tls"]),
    // Throw-away servers and clients: they know nothing of the proxy.
    ("demo", &[]),
    ("dropin", &["config", "model"]),
    ("hardening", &["config"]),
    ("image", &[]),
    ("manifest", &[]),
    // It shows the data threads' signs of life.
    ("admin", &["drain", "events", "metrics", "model", "proxy", "seats", "throttle"]),
    ("discovery", &["config", "events", "model", "net", "tls", "watch"]),
    ("health", &["config", "events", "metrics", "model", "net", "tls"]),
    // What the data threads do by themselves is told from the same shares that they go by.
    ("events", &["model", "rebalance"]),
    ("rebalance", &["config", "model"]),
    ("proxy", &["balance", "rebalance", "config", "drain", "metrics", "model", "net", "throttle"]),
    // It answers with the status document, and tells what it does.
    ("control", &["admin", "drain", "events", "metrics", "model", "seats", "throttle"]),
    ("balance", &["model"]),
    ("config", &["model", "net", "tls"]),
    ("model", &[]),
    ("drain", &[]),
    ("metrics", &[]),
    ("net", &["raw"]),
    ("raw", &[]),
    ("seats", &[]),
    ("signal", &[]),
    ("systemd", &[]),
    ("throttle", &[]),
    ("tls", &[]),
    ("watch", &[]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The top-level module that a file belongs to.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that a source names with `crate::`; comments do not count, and nested
/// `use crate::{a, b::c}` does.
fn imports(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find("};").unwrap()];
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars().chain([',']) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        let module = name.trim().split("::").next().unwrap().to_owned();
                        if !module.is_empty() {
                            found.push(module);
                        }
                        name.clear();
                        continue;
                    }
                    _ => {}
                }
                name.push(c);
            }
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
            found.push(rest[..end].to_owned());
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut faults = Vec::new();
    for path in all_sources() {
        let module = module_of(&path);
        if module == "main" || module == "lib" {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            faults.push(format!("{}: module `{module}` is not in the table", path.display()));
            continue;
        };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if import != module && !may.contains(&import.as_str()) {
                faults.push(format!("{}: `{module}` must not import `{import}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn visit<'a>(module: &'a str, allowed: &BTreeMap<&'a str, &'a [&'a str]>, path: &mut Vec<&'a str>) {
    assert!(!path.contains(&module), "a cycle: {path:?} -> {module}");
    path.push(module);
    for next in allowed[module] {
        visit(next, allowed, path);
    }
    path.pop();
}

#[test]
fn the_table_has_no_cycle() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    for (module, _) in ALLOWED {
        visit(module, &allowed, &mut Vec::new());
    }
}

#[test]
fn the_reader_of_imports_sees_them_all() {
    let source =
        "use crate::a::B;\nuse crate::{c, d::{E, F}, g};\n// crate::h\nlet x = crate::i::j();";
    assert_eq!(imports(source), ["a", "c", "d", "g", "i"]);
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for path in all_sources() {
        let source = fs::read_to_string(&path).unwrap();
        assert!(source.starts_with("//!"), "{}: no //! line", path.display());
        let lines = source.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= 500, "{}: {lines} lines", path.display());
    }
}

#[test]
fn only_the_command_line_prints_and_one_module_is_unsafe() {
    for path in all_sources() {
        let source = fs::read_to_string(&path).unwrap();
        let prints = source.contains("io::stdout") || source.contains("println!(");
        assert!(!prints || module_of(&path) == "cli", "{} prints", path.display());
        let is_unsafe = source.contains("unsafe {");
        assert!(!is_unsafe || path.ends_with("src/raw.rs"), "{}: unsafe", path.display());
    }
}
