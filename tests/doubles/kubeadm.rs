//! A double of kubeadm.

mod certificates;
mod config;
mod init;
mod join;
mod manifests;
mod node;
mod objects;
mod preflight;
mod reset;
mod tokens;
mod upgrade;

use std::fs;
use std::path::Path;

use crate::flags::{Flags, Line};
use crate::schema;
use crate::token::CertificateKey;
use crate::version::Version;

const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Flags of every command.
const COMMON: [&str; 3] = ["v", "rootfs", "kubeconfig"];

pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let words: Vec<_> =
        arguments.iter().take_while(|word| !word.starts_with('-')).map(String::as_str).collect();
    let rest = &arguments[words.len()..];
    let line = |known: &[&str]| Flags::check(&[&COMMON[..], known].concat(), rest);
    match words[..] {
        ["version"] => version(&line(&["output"])?),
        ["init"] => init::run(&line(init::FLAGS)?),
        ["init", "phase", "upload-certs"] => {
            let line = line(&[
                "config",
                "upload-certs!",
                "certificate-key",
                "skip-certificate-key-print!",
                "dry-run!",
            ])?;
            init::upload_certificates(&line)
        }
        ["init", "phase", "upload-config", "kubeadm"] => {
            init::upload_configuration(&line(&["config", "dry-run!"])?)
        }
        ["init", "phase", "control-plane", "all"] => {
            init::write_control_plane(&line(&["config", "dry-run!"])?)
        }
        ["join"] => join::run(&line(join::FLAGS)?),
        ["join", server] => Err(format!("join {server}: this double joins by --config alone")),
        ["reset"] => reset::run(&line(reset::FLAGS)?),
        ["token", "create"] => tokens::create(&line(tokens::FLAGS)?, None),
        ["token", "create", token] => tokens::create(&line(tokens::FLAGS)?, Some(token)),
        ["token", "list"] => tokens::list(&line(&["output"])?),
        ["token", "delete", token] => tokens::delete(&line(&[])?, token),
        ["token", "generate"] => {
            line(&[]).map(|_| println!("{}", crate::token::Token::random().text()))
        }
        ["certs", "certificate-key"] => line(&[]).map(|_| println!("{}", CertificateKey::random())),
        ["certs", "check-expiration"] => {
            certificates::check_expiration(&line(&["cert-dir", "config", "output"])?)
        }
        ["certs", "renew", which] => certificates::renew(&line(&["cert-dir", "config"])?, which),
        ["config", "validate"] => validate(&line(&["config", "allow-experimental-api!"])?),
        ["config", "images", "list"] => {
            images(&line(&["config", "kubernetes-version", "image-repository", "output"])?)
        }
        ["upgrade", ref command @ ..] => upgrade::run(command, rest),
        _ => Err(format!("unknown command {:?} for \"kubeadm\"", words.join(" "))),
    }
}

fn version(line: &Line) -> Result<(), String> {
    let version = Version::own();
    match line.get("output") {
        Some("short") => println!("{version}"),
        Some("json") => {
            let minor = version.minor.to_string();
            println!(
                "{:#}",
                serde_json::json!({
                    "clientVersion": { "major": "1", "minor": minor, "gitVersion": version.to_string() },
                })
            );
        }
        None => println!(
            "kubeadm version: &version.Info{{Major:\"1\", Minor:\"{}\", GitVersion:\"{version}\"}}",
            version.minor
        ),
        Some(other) => return Err(format!("invalid output format: {other}")),
    }
    Ok(())
}

/// There is no such command before 1.26.
fn validate(line: &Line) -> Result<(), String> {
    let version = Version::own();
    if version.minor < 26 {
        return Err("unknown command \"validate\" for \"kubeadm config\"".to_owned());
    }
    let documents = read(line.need("config")?, version)?;
    config::values(&documents, version)?;
    println!("ok");
    Ok(())
}

fn images(line: &Line) -> Result<(), String> {
    let own = Version::own();
    let mut cluster = config::Cluster { version: own, ..config::Cluster::default() };
    if let Some(file) = line.get("config") {
        cluster = config::Cluster::read(&read(file, own)?, own)?;
    }
    if let Some(version) = line.get("kubernetes-version") {
        cluster.version = Version::parse(version).ok_or(format!("{version} is no version"))?;
    }
    if let Some(repository) = line.get("image-repository") {
        repository.clone_into(&mut cluster.repository);
    }
    for image in manifests::images(&cluster) {
        println!("{image}");
    }
    Ok(())
}

/// Reads a configuration file of a kubeadm of this version.
fn read(file: &str, version: Version) -> Result<Vec<schema::Document>, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("unable to read config from {file:?}: {error}"))?;
    schema::documents(&text, version)
}

/// A client of the cluster's admin.
fn admin(line: &Line) -> Result<crate::client::Client, String> {
    crate::kubeconfig::client(Path::new(line.get("kubeconfig").unwrap_or(ADMIN)))
}
