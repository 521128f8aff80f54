//! The flags that say what to proxy, shared by `run`, `check` and `manifest`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::CliError;
use crate::app::Source;
use crate::config::{Config, LogFormat, LogLevel, Overrides};

/// Read when neither `--config` nor `--backend` is given.
pub(super) const DEFAULT_CONFIG: &str = "/etc/apiproxy/config.yaml";

/// What to proxy. Flags replace what the file says.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ProxyArgs {
    /// Configuration file [default: /etc/apiproxy/config.yaml, unless --backend is given].
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A kube-apiserver; repeat for each. An IP address or a DNS name, with its port.
    #[arg(long = "backend", short, value_name = "HOST:PORT")]
    pub(super) backends: Vec<String>,
    /// CAs that signed the apiservers' certificates [default: /etc/kubernetes/pki/ca.crt].
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Do not verify the apiservers' certificates in health checks. Clients still do.
    #[arg(long)]
    pub(super) insecure_skip_verify: bool,
    /// Where clients connect; repeat for each [default: port 6443 of `127.0.0.1` and `::1`].
    #[arg(long, short, value_name = "IP:PORT")]
    pub(super) listen: Vec<String>,
    /// Where metrics and status are served [default: 127.0.0.1:10242].
    #[arg(long, value_name = "IP:PORT")]
    pub(super) admin_listen: Option<String>,
    /// Where `drain`, `undrain` and `reload` are heard; "" for none [default:
    /// /run/apiproxy/control.sock].
    #[arg(long, value_name = "PATH", env = "APIPROXY_CONTROL_SOCKET")]
    pub(super) control_socket: Option<String>,
    /// This node's zone: backends of the same zone are preferred.
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
    /// Data threads [default: 1].
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// The least severe level that is logged [default: info].
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(super) log_level: Option<LogLevel>,
    /// Shape of log lines [default: text].
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(super) log_format: Option<LogFormat>,
}

/// A time as a flag gives it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |error| format!("{error}; write it as 30s, 2m or 1m30s");
    humantime::parse_duration(text).map_err(wrong)
}

fn level(text: &str) -> Result<LogLevel, String> {
    Ok(match text {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => return Err("it is one of error, warn, info, debug and trace".to_owned()),
    })
}

fn format(text: &str) -> Result<LogFormat, String> {
    Ok(match text {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err("it is text or json".to_owned()),
    })
}

impl ProxyArgs {
    /// Reads the file, lays the flags over it and validates the whole.
    pub(super) fn load(&self) -> Result<Config, CliError> {
        Ok(self.source()?.load()?)
    }

    /// Where the configuration comes from.
    pub(super) fn source(&self) -> Result<Source, CliError> {
        let fall_back = Path::new(DEFAULT_CONFIG);
        let file = match &self.config {
            Some(file) => Some(file.as_path()),
            None if self.backends.is_empty() && fall_back.exists() => Some(fall_back),
            None => None,
        };
        if file.is_none() && self.backends.is_empty() {
            return Err(CliError::Usage(format!(
                "nothing to proxy: give --backend HOST:PORT for each kube-apiserver, or --config \
                 FILE ({DEFAULT_CONFIG} does not exist)\n  try `apiproxy demo` to see it work \
                 without a cluster"
            )));
        }
        Ok(Source::new(file.map(ToOwned::to_owned), self.overrides()))
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            backends: self.backends.clone(),
            ca_file: self.ca_file.clone(),
            listen: self.listen.clone(),
            zone: self.zone.clone(),
            admin_listen: self.admin_listen.clone(),
            control_socket: self.control_socket.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
            log_level: self.log_level,
            log_format: self.log_format,
            threads: self.threads,
        }
    }
}
