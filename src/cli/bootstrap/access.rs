//! The flags that say which hosts are meant and how they are reached, and what is made of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::prompt;
use crate::bootstrap::engine::{Context, PARALLEL, RunLog, Step, reach, reach_host};
use crate::bootstrap::pki::Store;
use crate::bootstrap::spec::{Cluster, Host, Loaded, Selection, SourceFile};
use crate::bootstrap::steps;
use crate::bootstrap::steps::documents::Rendered;
use crate::bootstrap::steps::etcd::{KeyHome, Keys, Renewal};
use crate::bootstrap::steps::remove::Extra;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::transport::{Dialer, Dialing};
use crate::cli::CliError;

/// The cluster file, unless the user names another.
pub(super) const FILE: &str = "cluster.yaml";

/// The form of what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// For programs.
    Json,
}

/// Flags of all commands that reach hosts: how.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// The cluster file.
    #[arg(long, short, value_name = "FILE", default_value = FILE)]
    pub(super) file: PathBuf,
    /// Learn host keys that are not known yet. One that has changed is never accepted.
    #[arg(long)]
    accept_new: bool,
    /// Ask for the password that sudo wants, once for all hosts.
    #[arg(long)]
    ask_sudo_password: bool,
    /// Configuration of ssh in place of ~/.ssh/config.
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Where the log of the run goes [default: ~/.local/state/apiproxy/runs]; of each command the newest 50
    /// are kept.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

/// Flags of commands that look at hosts or work on them: how, and which.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    #[command(flatten)]
    whole: Whole,
    /// Only these hosts, by name or range such as `w[1-20]`; repeat for more [default: all].
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
}

/// The same of commands that know themselves which hosts they are about.
#[derive(Debug, clap::Args)]
pub(super) struct Whole {
    #[command(flatten)]
    reach: Reach,
    /// How many hosts are worked on at the same time.
    #[arg(long, short = 'j', value_name = "N", default_value_t = PARALLEL, value_parser = count_of_hosts)]
    parallel: usize,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

/// How many hosts at the same time, from a flag.
pub(super) fn count_of_hosts(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("it is a number from 1 to 1024".to_owned()),
    }
}

/// A cluster and the way to its hosts.
pub(super) struct Site {
    pub(super) cluster: Arc<Cluster>,
    /// What its steps share.
    pub(super) shared: Arc<Shared>,
    /// The authority of its etcd.
    pub(super) keys: Arc<Keys>,
    /// The texts of its file, which go into its backups.
    pub(super) sources: Vec<SourceFile>,
    /// The hosts that the user chose; none for all.
    pub(super) chosen: Option<BTreeSet<String>>,
    /// How many hosts at the same time.
    pub(super) parallel: usize,
    pub(super) form: Form,
    pub(super) cx: Context,
    pub(super) log: Arc<RunLog>,
    /// How hosts are reached.
    dialer: Arc<Dialer>,
}

impl Site {
    /// Reaches a host that the file does not name.
    pub(super) fn reach_too(&mut self, host: &Host) {
        let (dialer, log) = (&self.dialer, &self.log);
        let reached = || reach_host(host, dialer, log);
        self.cx.hosts.entry(host.name.clone()).or_insert_with(reached);
    }

    /// The steps of everything that the file wishes, renewing etcd's certificates as they need it.
    pub(super) fn all_steps(&self) -> Vec<Arc<dyn Step>> {
        steps::all(&self.shared, &self.keys, &self.sources, Renewal::WhenDue)
    }

    /// The same, and what takes these out, which the file does not name.
    pub(super) fn steps_without(&self, extras: &[Extra]) -> Vec<Arc<dyn Step>> {
        steps::without(&self.shared, &self.keys, &self.sources, extras)
    }
}

impl Reach {
    /// Reads the file and begins the log. No host is reached yet.
    pub(super) fn open(&self, command: &str) -> Result<Site, CliError> {
        let loaded = load(&self.file)?;
        let sources = loaded.sources();
        self.begin(Arc::new(loaded.cluster), sources, command)
    }

    fn begin(
        &self,
        cluster: Arc<Cluster>,
        sources: Vec<SourceFile>,
        command: &str,
    ) -> Result<Site, CliError> {
        let dialing = Dialing {
            accept_new: self.accept_new,
            sudo_password: self.ask_sudo_password.then(prompt::sudo_password).transpose()?,
            config_file: self.ssh_config.clone(),
            ..Dialing::default()
        };
        let dialer = Dialer::new(dialing).map_err(|error| {
            CliError::Failed(format!("cannot make a folder for the sockets of ssh: {error}"))
        })?;
        let keys = Arc::new(keys(&cluster)?);
        let log = Arc::new(self.log(command)?);
        let dialer = Arc::new(dialer);
        let cx = reach(&cluster, &dialer, &log);
        let shared = Shared::new(Arc::clone(&cluster), Arc::new(Rendered));
        let (chosen, parallel, form) = (None, PARALLEL, Form::default());
        Ok(Site { cluster, shared, keys, sources, chosen, parallel, form, cx, log, dialer })
    }

    fn log(&self, command: &str) -> Result<RunLog, CliError> {
        let folder = match &self.log_dir {
            Some(folder) => folder.clone(),
            None => default_log_dir()?,
        };
        RunLog::create(&folder, command).map_err(|error| {
            let folder = folder.display();
            CliError::Failed(format!("cannot write a log in {folder}: {error}; give --log-dir"))
        })
    }
}

impl Whole {
    /// The cluster file.
    pub(super) fn file(&self) -> &Path {
        &self.reach.file
    }

    /// The form of the output.
    pub(super) fn form(&self) -> Form {
        self.output
    }

    /// Begins the log of a command about this cluster, which was read from these texts. No host is reached
    /// yet.
    pub(super) fn open(
        &self,
        cluster: Arc<Cluster>,
        sources: Vec<SourceFile>,
        command: &str,
    ) -> Result<Site, CliError> {
        let site = self.reach.begin(cluster, sources, command)?;
        Ok(Site { parallel: self.parallel, form: self.output, ..site })
    }
}

impl Access {
    /// Reads the file and begins the log. No host is reached yet.
    pub(super) fn open(&self, command: &str) -> Result<Site, CliError> {
        self.open_if(command, |_| Ok(()))
    }

    /// The same, if what was read is found to do.
    pub(super) fn open_if(
        &self,
        command: &str,
        does: impl FnOnce(&Loaded) -> Result<(), CliError>,
    ) -> Result<Site, CliError> {
        let loaded = load(self.whole.file())?;
        let chosen = self.chosen(&loaded.cluster)?;
        does(&loaded)?;
        let sources = loaded.sources();
        Ok(Site { chosen, ..self.whole.open(Arc::new(loaded.cluster), sources, command)? })
    }

    /// The form of the output.
    pub(super) fn form(&self) -> Form {
        self.whole.form()
    }

    /// Did the user choose hosts?
    pub(super) fn has_choice(&self) -> bool {
        !self.hosts.is_empty()
    }

    fn chosen(&self, cluster: &Cluster) -> Result<Option<BTreeSet<String>>, CliError> {
        let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
        let selection = Selection::parse(&self.hosts).map_err(|error| usage(&error))?;
        if selection.is_everything() {
            return Ok(None);
        }
        let hosts = selection.of(cluster).map_err(|error| usage(&error))?;
        Ok(Some(hosts.into_iter().map(|host| host.name.clone()).collect()))
    }
}

/// Reads a cluster file: once in a run.
pub(super) fn load(file: &Path) -> Result<Loaded, CliError> {
    if file == Path::new(FILE) && !file.exists() {
        return Err(CliError::Usage(format!(
            "there is no {FILE} here; name the file with --file, or begin one with \
             `apiproxy bootstrap new --output {FILE}`"
        )));
    }
    Loaded::read(file).map_err(|error| CliError::Usage(error.to_string()))
}

/// Looks at what the file names on this machine, for commands that use it.
pub(super) fn inputs(loaded: &Loaded) -> Result<(), CliError> {
    loaded.inputs().map_err(|error| CliError::Usage(error.to_string()))
}

/// The authority of the cluster's etcd, which stays with the operator.
fn keys(cluster: &Cluster) -> Result<Keys, CliError> {
    let [state, home] = ["XDG_STATE_HOME", "HOME"].map(std::env::var_os);
    let store = Store::of_cluster(&cluster.name, state.as_deref(), home.as_deref())
        .map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(Keys::new(KeyHome::Operator(store)))
}

/// As the XDG base directory specification says: relative values do not count.
fn default_log_dir() -> Result<PathBuf, CliError> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .ok_or_else(|| CliError::Usage("HOME is not set; give --log-dir".to_owned()))?;
    Ok(state.join("apiproxy/runs"))
}
