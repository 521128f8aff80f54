//! Doubles of the programs of Kubernetes, for tests on hosts where the real ones are not given. What it is
//! is told by its name, as with busybox: kubeadm, kubelet, kube-apiserver, kube-controller-manager,
//! kube-scheduler.
//!
//! They refuse whatever the documented interface of their version does not have (flags, fields of
//! files, tokens, hashes, what must or must not be there before), and leave on disk, in etcd and on the
//! network what the real ones leave. They run no pods but static ones.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "programs talk to their users")]

mod apiserver;
mod client;
mod controller_manager;
mod etcd;
mod flags;
mod http;
mod kubeadm;
mod kubeconfig;
mod kubelet;
mod patch;
mod pki;
mod schema;
mod token;
mod version;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    let result = match name {
        "kubeadm" => kubeadm::main(&arguments),
        "kubelet" => kubelet::main(&arguments),
        "kube-apiserver" => apiserver::main(&arguments),
        "kube-controller-manager" => controller_manager::main(&arguments),
        "kube-scheduler" => flags::KUBE_SCHEDULER.parse(&arguments).map(|_| flags::idle()),
        _ => Err(format!("there is no double of {name:?}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
