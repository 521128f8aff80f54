//! What a host runs of monitoring, with what it reads: checked by its own programs before it is put in
//! place, so that a fault loses nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::look::Look;
use super::{PLACE, PROGRAMS, RIGHTS, leave};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::kubernetes::is_ending;
use crate::bootstrap::render::monitoring::{
    ALERTMANAGER, CA, CERT, FOLDER, INSTALLED, KEY, MAIL_PASSWORD, Program, ROLE, SLACK_URL, USER,
    configuration, programs, unit_files,
};
use crate::bootstrap::spec::{Host, Role, Topology};
use crate::bootstrap::steps::control_plane::STEP as CONTROL_PLANE;
use crate::bootstrap::steps::etcd;
use crate::bootstrap::steps::hosts::files::difference;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::workers::credentials;
use crate::bootstrap::transport::{Command, File};

/// How long a program may take until it answers: Prometheus reads what it has recorded first.
const ANSWERS: Duration = Duration::from_mins(5);

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
}

/// What was found, and what is to be done.
#[derive(Default)]
struct Todo {
    look: Look,
    why: Vec<String>,
    diffs: Vec<String>,
    /// Units of other content.
    units: Vec<(Program, File)>,
    /// Programs that do not run.
    idle: Vec<Program>,
    /// Programs that are not to run.
    gone: Vec<Program>,
    /// Files to be written as they are, before the rest.
    secrets: Vec<File>,
    /// Is the configuration another one?
    configuration: bool,
    /// Has the cluster to sign a certificate? None while there is no cluster.
    credentials: bool,
    /// The step without which it cannot be told.
    lacking: Option<StepId>,
}

impl Place {
    fn wanted(&self) -> Vec<Program> {
        programs(&self.shared.cluster, &self.host)
    }

    fn watches(&self) -> bool {
        self.wanted().contains(&Program::Prometheus)
    }

    async fn look(&self, cx: &Context) -> Result<Todo, StepError> {
        let name = &self.host.name;
        let mut todo = Todo { look: Look::at(cx, name).await?, ..Todo::default() };
        let wanted = self.wanted();
        for program in Program::ALL {
            if !wanted.contains(&program) && todo.look.has_unit(program) {
                todo.why.push(format!("{} is not wished", program.unit()));
                todo.gone.push(program);
            }
        }
        if wanted.is_empty() {
            if todo.look.has_folder() {
                todo.why.push(format!("{FOLDER} is not wished"));
            }
            return Ok(todo);
        }
        let units = unit_files(&self.shared.cluster, &self.host);
        for (program, file) in wanted.iter().copied().zip(units) {
            if self.differs(cx, &file, &mut todo).await? {
                todo.units.push((program, file));
            } else if !todo.look.runs(program) {
                todo.why.push(format!("{} does not run", program.unit()));
                todo.idle.push(program);
            }
        }
        if self.watches() {
            self.look_at_files(cx, &mut todo).await?;
        }
        Ok(todo)
    }

    /// Is a file other than wished?
    async fn differs(&self, cx: &Context, file: &File, todo: &mut Todo) -> Result<bool, StepError> {
        let found = cx.host(&self.host.name)?.read(&file.path).await?;
        let Some(diff) = difference(file, found.as_ref()) else { return Ok(false) };
        todo.why.push(format!("{} is not as wished", file.path));
        // What was in a file of secrets is one too.
        todo.diffs.extend(Some(diff).filter(|_| !file.secret));
        Ok(true)
    }

    async fn look_at_files(&self, cx: &Context, todo: &mut Todo) -> Result<(), StepError> {
        for file in self.secrets().await? {
            if self.differs(cx, &file, todo).await? {
                todo.secrets.push(file);
            }
        }
        let mut rules = Vec::new();
        for file in self.configuration().await? {
            rules.extend(file.path.strip_prefix("rules/").map(str::to_owned));
            let placed = File { path: format!("{FOLDER}/{}", file.path), ..file };
            todo.configuration |= self.differs(cx, &placed, todo).await?;
        }
        if todo.look.rules().any(|name| rules.iter().all(|rule| rule != name)) {
            todo.why.push("there are rules that are not wished".to_owned());
            todo.configuration = true;
        }
        if let Some(why) = fault(todo.look.certificate().as_deref()) {
            todo.why.push(why);
            todo.credentials = true;
        }
        match self.shared.serving(cx).await {
            Ok(Some(via)) => {
                let ca = self.shared.authority(cx, &via).await?;
                let ca = File::new(CA, ca.as_bytes());
                if self.differs(cx, &ca, todo).await? {
                    todo.secrets.push(ca);
                }
            }
            Ok(None) => todo.lacking = self.first_control_plane(),
            // It watches the more while the control plane is ill.
            Err(_) if !todo.credentials => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn first_control_plane(&self) -> Option<StepId> {
        let first = self.shared.cluster.with_role(Role::ControlPlane).next();
        first.map(|host| StepId::new(&host.name, CONTROL_PLANE))
    }

    async fn configuration(&self) -> Result<Vec<File>, StepError> {
        let cluster = &self.shared.cluster;
        let raw = match &cluster.monitoring.alerts.config_file {
            Some(path) => Some(own_file(path).await?),
            None => None,
        };
        configuration(cluster, &self.host, raw.as_deref()).map_err(|error| StepError::Refused {
            reason: error.to_string(),
            remedy: "change the file".to_owned(),
        })
    }

    /// What comes from files of this machine.
    async fn secrets(&self) -> Result<Vec<File>, StepError> {
        let alerts = &self.shared.cluster.monitoring.alerts;
        let slack = alerts.slack.as_ref().map(|slack| (SLACK_URL, &slack.url_file));
        let mail = alerts.email.as_ref().and_then(|email| email.password_file.as_ref());
        let mut files = Vec::new();
        for (path, source) in slack.into_iter().chain(mail.map(|file| (MAIL_PASSWORD, file))) {
            let text = own_file(source).await?;
            files.push(File::secret(path, text.trim_ascii()).owned_by(USER, USER));
        }
        Ok(files)
    }

    /// Has the cluster sign a certificate. One that does not fit its key is never there.
    async fn sign(&self, cx: &Context) -> Result<(), StepError> {
        let name = &self.host.name;
        let via = self.shared.through(cx).await?;
        let ca = self.shared.authority(cx, &via).await?;
        let identity = credentials::mint(cx, &via, ROLE, name, ca.to_string()).await?;
        cx.run(name, &Command::new(["rm", "-f", "--", CERT])).await?;
        let host = cx.host(name)?;
        host.write(&File::secret(KEY, identity.key).owned_by(USER, USER)).await?;
        host.write(&File::new(CERT, identity.certificate)).await?;
        Ok(())
    }

    /// Writes the configuration beside the old one, has it checked, and puts it in its place.
    async fn configure(&self, cx: &Context) -> Result<(), StepError> {
        const SCRIPT: &str = r#"
# check the configuration and put it in place
new="$1.new"
trap 'rm -rf -- "$new"' EXIT
mkdir -p "$1/pki" "$1/rules"
ln -sfnT "$1/pki" "$new/pki"
told=$(promtool check config "$new/prometheus.yml" 2>&1) ||
    { printf '%s\n' "$told" | sed '/^$/d' >&2; exit 2; }
told=$(amtool check-config "$new/alertmanager.yml" 2>&1) ||
    { printf '%s\n' "$told" | sed '/^$/d' >&2; exit 3; }
for file in "$1"/rules/*; do
    if [ -e "$file" ] && [ ! -e "$new/rules/${file##*/}" ]; then rm -f -- "$file"; fi
done
for file in "$new"/rules/*; do mv -f -- "$file" "$1/rules/"; done
mv -f -- "$new/prometheus.yml" "$new/alertmanager.yml" "$1/"
"#;
        let name = &self.host.name;
        let host = cx.host(name)?;
        let new = format!("{FOLDER}.new");
        cx.run(name, &Command::new(["rm", "-rf", "--", &new])).await?;
        for file in self.configuration().await? {
            host.write(&File { path: format!("{new}/{}", file.path), ..file }).await?;
        }
        let output = host.run(&Command::script(SCRIPT, [FOLDER])).await?;
        let raw = self.shared.cluster.monitoring.alerts.config_file.as_ref();
        let refused = |program: &str, what: &str, remedy: String| StepError::Refused {
            reason: format!("{name}: {program} refuses {what}: {}", output.complaint()),
            remedy,
        };
        match output.code {
            0 => Ok(()),
            2 => Err(refused(
                "promtool",
                "the configuration",
                "the one before stays in force; is Prometheus there older than 2.42?".to_owned(),
            )),
            3 => Err(refused(
                "amtool",
                ALERTMANAGER,
                match raw {
                    Some(path) => format!("the one before stays in force; mend {}", path.display()),
                    None => "the one before stays in force; see `monitoring.alerts`".to_owned(),
                },
            )),
            code => Err(StepError::Command {
                host: name.clone(),
                command: "put the configuration in place".to_owned(),
                code,
                complaint: output.complaint(),
            }),
        }
    }

    async fn start(&self, cx: &Context, todo: &Todo) -> Result<(), StepError> {
        const START: &str = r#"
# start what is to run
systemctl daemon-reload
for unit; do
    systemctl enable --quiet "$unit"
    systemctl restart "$unit"
done
"#;
        let name = &self.host.name;
        let changed: Vec<_> = todo.units.iter().map(|(program, _)| *program).collect();
        let all: Vec<_> = changed.iter().chain(&todo.idle).map(|program| program.unit()).collect();
        if !all.is_empty() {
            cx.run(name, &Command::script(START, all.iter().copied())).await?;
        }
        // They read certificates anew for each connection, and the rest when they are told.
        let reads = [Program::Alertmanager, Program::Prometheus];
        let reads: Vec<_> =
            reads.into_iter().map(Program::unit).filter(|unit| !all.contains(unit)).collect();
        if (todo.configuration || !todo.secrets.is_empty()) && !reads.is_empty() {
            let words = ["systemctl", "reload-or-restart"].into_iter().chain(reads);
            cx.run(name, &Command::new(words)).await?;
        }
        if self.watches() { self.answers(cx).await } else { Ok(()) }
    }

    async fn answers(&self, cx: &Context) -> Result<(), StepError> {
        const SCRIPT: &str = r#"
# wait for Prometheus and Alertmanager
end=$(($(date +%s) + $3))
until promtool query instant "http://$1" 'vector(1)' >/dev/null 2>&1 &&
    amtool --alertmanager.url "http://$2" config show >/dev/null 2>&1; do
    if [ "$(date +%s)" -ge "$end" ]; then
        echo "they do not answer on $1 and $2; see journalctl -u apiproxy-prometheus -u apiproxy-alertmanager" >&2
        exit 1
    fi
    sleep 0.5
done
"#;
        let at = |program: Program| {
            std::net::SocketAddr::new(self.host.address, program.port()).to_string()
        };
        let arguments = [
            at(Program::Prometheus),
            at(Program::Alertmanager),
            (ANSWERS.as_secs() / 2).to_string(),
        ];
        let command = Command::script(SCRIPT, arguments).timeout(ANSWERS);
        cx.run(&self.host.name, &command).await.map(drop)
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let name = &self.host.name;
        let wanted = self.wanted();
        if wanted.is_empty() {
            return leave::leave(cx, name).await;
        }
        let todo = self.look(cx).await?;
        let gone: Vec<_> = todo.gone.iter().map(|program| program.unit()).collect();
        leave::units(cx, name, &gone).await?;
        let host = cx.host(name)?;
        for file in &todo.secrets {
            host.write(file).await?;
        }
        if todo.credentials {
            self.sign(cx).await?;
        }
        if todo.configuration {
            self.configure(cx).await?;
        }
        for (_, file) in &todo.units {
            host.write(file).await?;
        }
        self.start(cx, &todo).await?;
        if gone.is_empty() {
            return Ok(());
        }
        self.tidy(cx, &todo.look, &wanted).await
    }

    /// Takes away what only the programs needed that are not wished any more.
    async fn tidy(&self, cx: &Context, look: &Look, wanted: &[Program]) -> Result<(), StepError> {
        let name = &self.host.name;
        let kept = leave::packages(cx, name, look, wanted).await?;
        if !self.watches() {
            cx.run(name, &Command::new(["rm", "-rf", "--", FOLDER])).await?;
        }
        if !kept.is_empty() {
            let list = kept.into_iter().map(|name| name + "\n").collect::<String>();
            cx.host(name)?.write(&File::new(INSTALLED, list)).await?;
        }
        Ok(())
    }
}

/// A file of this machine that the spec names.
async fn own_file(path: &std::path::Path) -> Result<Vec<u8>, StepError> {
    tokio::fs::read(path).await.map_err(|error| StepError::Refused {
        reason: format!("{}: {error}", path.display()),
        remedy: "see what `monitoring.alerts` names".to_owned(),
    })
}

/// What is wrong with the certificate that apiservers are shown.
fn fault(certificate: Option<&[u8]>) -> Option<String> {
    match certificate.map(is_ending) {
        None => Some("Prometheus has no certificate that the cluster signed".to_owned()),
        Some(Ok(false)) => None,
        Some(Ok(true)) => Some("Prometheus' certificate ends soon".to_owned()),
        Some(Err(error)) => Some(format!("Prometheus' certificate: {error}")),
    }
}

impl Step for Place {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, PLACE)
    }

    fn title(&self) -> String {
        let name = &self.host.name;
        match self.wanted()[..] {
            [] => format!("{name} is not watched"),
            _ if self.watches() => format!("run Prometheus and Alertmanager on {name}"),
            _ => format!("have {name} tell its metrics"),
        }
    }

    fn needs(&self) -> Vec<StepId> {
        let name = &self.host.name;
        if self.wanted().is_empty() {
            return Vec::new();
        }
        let mut needs = vec![StepId::new(name, PROGRAMS)];
        if self.watches() && self.shared.cluster.topology == Topology::External {
            needs.push(StepId::new(name, etcd::CLIENT));
        }
        needs
    }

    fn follows(&self) -> Vec<StepId> {
        if !self.watches() {
            return Vec::new();
        }
        let planes: Vec<_> = self.shared.cluster.with_role(Role::ControlPlane).collect();
        let first = planes.first().map(|host| StepId::new(&host.name, RIGHTS));
        let planes = planes.iter().map(|host| StepId::new(&host.name, CONTROL_PLANE));
        planes.chain(first).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let Todo { why, diffs, lacking, .. } = self.look(cx).await?;
            Ok(match lacking {
                Some(step) => Check::After(step),
                None if why.is_empty() => Check::Done,
                None => Check::Needed(Change { why: why.join("; "), diffs }),
            })
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}
