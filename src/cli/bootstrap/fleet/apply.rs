//! `fleet apply`: wave by wave, until one is not well.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::child::{From, Outcome, Program};
use super::{Access, plan, status};
use crate::bootstrap::spec::{Fleet, Wave};
use crate::cli::bootstrap::access::Form;
use crate::cli::bootstrap::job::interrupts;
use crate::cli::bootstrap::prompt;
use crate::cli::{CliError, output, runtime};
use crate::signal::Terminations;

/// How long a cluster that was just changed may need until all in it is well: kubelets report every 10 s,
/// and new pods have to be fetched.
const WELL_WITHIN: Duration = Duration::from_mins(3);

/// Between two looks at a wave that settles.
const PAUSE: Duration = Duration::from_secs(10);

/// Flags of `fleet apply`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plans of all clusters are shown first. Then the clusters of a wave are applied at the same time, each as
`bootstrap apply` does it, and each line says whose it is. When all of the wave are applied they have to be
well, as `bootstrap status` says it, within 3 minutes, and from then on for as long as `settle` of the wave
says; only then the next wave begins. When one fails or is not well, those of its wave end what they do and
no other wave begins. Run it again to go on: what is done is not done again.

The first Ctrl-C lets running steps end and begins no other, the second kills them. Exit 0 when all clusters
are as their files say, and well; 1 when one is not; 2 when a file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// Do not ask, and do not show all plans first: each cluster shows its own.
    #[arg(long, short)]
    yes: bool,
    /// Show the plans and end: nothing is asked and nothing is changed.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Take out nodes and etcd members that a cluster has and its file has not.
    #[arg(long)]
    prune: bool,
    /// Do not look first whether the hosts that are to be changed are fit.
    #[arg(long)]
    skip_preflight: bool,
}

/// How far a cluster came.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Its wave was not reached.
    NotBegun,
    /// It is not as its file says: why.
    Failed(String),
    /// It is as its file says, and something is not well.
    Unwell(String),
    /// It is as its file says, and well.
    Done,
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::NotBegun => "not begun",
            Self::Failed(_) => "failed",
            Self::Unwell(_) => "not well",
            Self::Done => "done",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Self::Failed(why) | Self::Unwell(why) => Some(why),
            Self::NotBegun | Self::Done => None,
        }
    }
}

/// A cluster and what came of it.
#[derive(Debug)]
struct Entry {
    cluster: String,
    wave: usize,
    state: State,
    time: Duration,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let Access { reach, output: form } = &args.access;
    let fleet = reach.load()?;
    if !args.yes && !args.dry_run {
        prompt::terminal()?;
    }
    let program = reach.program()?;
    runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        if !args.yes {
            let more: &[&str] = if args.skip_preflight { &["--skip-preflight"] } else { &[] };
            let all_seen = plan::show(&program, &fleet, more, *form, &mut interrupts).await?;
            if args.dry_run {
                return if all_seen { Ok(()) } else { Err(CliError::Unwell) };
            }
            agreed(&fleet, &mut interrupts).await?;
        }
        let (words, form, patience) = (args.words(), *form, WELL_WITHIN);
        let rollout = Rollout { program: &program, fleet: &fleet, words, form, patience };
        let entries = rollout.carry_out(&mut interrupts).await?;
        match form {
            Form::Json => output::emit(&output::json_line(&document(&fleet, &entries))?)?,
            Form::Text => output::emit(&render(&entries))?,
        }
        let done = entries.iter().all(|entry| entry.state == State::Done);
        if done { Ok(()) } else { Err(CliError::Unwell) }
    })
}

async fn agreed(fleet: &Fleet, interrupts: &mut Terminations) -> Result<(), CliError> {
    let (clusters, waves) = (fleet.members().count(), fleet.waves.len());
    let question = format!("Apply this to {clusters} clusters in {waves} waves?");
    let yes = tokio::select! {
        yes = prompt::confirm(&question) => yes?,
        _ = interrupts.next() => false,
    };
    if yes { Ok(()) } else { Err(CliError::Failed("nothing was changed".to_owned())) }
}

impl Args {
    fn words(&self) -> Vec<&'static str> {
        let mut words = vec!["apply", "--yes"];
        words.extend(self.prune.then_some("--prune"));
        words.extend(self.skip_preflight.then_some("--skip-preflight"));
        words
    }
}

/// What is carried out.
struct Rollout<'a> {
    program: &'a Program,
    fleet: &'a Fleet,
    /// The command for each cluster.
    words: Vec<&'a str>,
    form: Form,
    /// How long a cluster that was just changed may need until all in it is well.
    patience: Duration,
}

impl Rollout<'_> {
    async fn carry_out(&self, interrupts: &mut Terminations) -> Result<Vec<Entry>, CliError> {
        let (mut entries, mut goes_on) = (Vec::new(), true);
        for (index, wave) in self.fleet.waves.iter().enumerate() {
            let begun = Instant::now();
            let states = if goes_on {
                self.tell(index, wave)?;
                self.wave(wave, interrupts).await?
            } else {
                vec![State::NotBegun; wave.clusters.len()]
            };
            goes_on = states.iter().all(|state| *state == State::Done);
            let time =
                if states.contains(&State::NotBegun) { Duration::ZERO } else { begun.elapsed() };
            entries.extend(wave.clusters.iter().zip(states).map(|(member, state)| Entry {
                cluster: member.name.clone(),
                wave: index + 1,
                state,
                time,
            }));
        }
        Ok(entries)
    }

    fn tell(&self, index: usize, wave: &Wave) -> Result<(), CliError> {
        let names: Vec<_> = wave.clusters.iter().map(|member| member.name.as_str()).collect();
        let number = index + 1;
        match self.form {
            Form::Json => {
                let event = json!({ "event": "wave", "wave": number, "clusters": names });
                output::emit(&output::json_line(&event)?)
            }
            Form::Text => {
                let waves = self.fleet.waves.len();
                output::emit(&format!("wave {number} of {waves}: {}\n", names.join(", ")))
            }
        }
    }

    async fn wave(
        &self,
        wave: &Wave,
        interrupts: &mut Terminations,
    ) -> Result<Vec<State>, CliError> {
        let mut words = self.words.clone();
        if self.form == Form::Json {
            words.extend(["-o", "json"]);
        }
        let form = self.form;
        let hear = |cluster: &str, from: From, line: &str| hear(form, cluster, from, line);
        let members = &wave.clusters;
        let (outcomes, ended) = self.program.each(members, &words, interrupts, hear).await?;
        let states = outcomes
            .iter()
            .map(|outcome| if outcome.is_ok() { State::Done } else { State::Failed(why(outcome)) });
        let states: Vec<_> = states.collect();
        if ended || states.iter().any(|state| *state != State::Done) {
            return Ok(states);
        }
        self.settled(wave, interrupts).await
    }

    /// Waits until all clusters of the wave are well, and have been for as long as they have to.
    async fn settled(
        &self,
        wave: &Wave,
        interrupts: &mut Terminations,
    ) -> Result<Vec<State>, CliError> {
        let (begun, mut well_since) = (Instant::now(), None);
        loop {
            let words = ["status", "-o", "json"];
            let looked = self.program.each(&wave.clusters, &words, interrupts, |_, _, _| Ok(()));
            let (outcomes, ended) = looked.await?;
            let states = outcomes.iter().map(|outcome| match status::faults(outcome).first() {
                None => State::Done,
                Some(fault) => State::Unwell(fault.clone()),
            });
            let states: Vec<_> = states.collect();
            let well = states.iter().all(|state| *state == State::Done);
            let stopped = |why: &str| vec![State::Unwell(why.to_owned()); wave.clusters.len()];
            if ended {
                return Ok(stopped("it was not waited for: a signal came"));
            }
            let since = *well_since.get_or_insert_with(Instant::now);
            match well {
                true if since.elapsed() >= wave.settle => return Ok(states),
                true => {}
                false if begun.elapsed() >= self.patience => return Ok(states),
                false => well_since = None,
            }
            tokio::select! {
                () = sleep(PAUSE.min(wave.settle.max(Duration::from_secs(1)))) => {}
                _ = interrupts.next() => return Ok(stopped("it was not waited for: a signal came")),
            }
        }
    }
}

/// Why a cluster failed, in the words of its own command.
fn why(outcome: &Outcome) -> String {
    let events = outcome.output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = events.filter_map(|event| Some(event["error"].as_str()?.to_owned())).next_back();
    told.unwrap_or_else(|| outcome.complaint())
}

/// Passes a line on, with the name of the cluster.
fn hear(form: Form, cluster: &str, from: From, line: &str) -> Result<(), CliError> {
    match (form, from) {
        (Form::Json, From::Output) => {
            let Ok(Value::Object(mut event)) = serde_json::from_str(line) else { return Ok(()) };
            event.insert("cluster".to_owned(), cluster.into());
            output::emit(&output::json_line(&event)?)
        }
        (Form::Text, From::Output) => output::emit(&format!("{cluster} | {line}\n")),
        (_, From::Errors) => {
            output::tell_beside(&format!("{cluster} | {line}"));
            Ok(())
        }
    }
}

fn document(fleet: &Fleet, entries: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "cluster": entry.cluster,
            "wave": entry.wave,
            "state": entry.state.word(),
            "error": entry.state.why(),
            "seconds": entry.time.as_secs_f64(),
        })
    };
    let done = entries.iter().all(|entry| entry.state == State::Done);
    let clusters: Vec<_> = entries.iter().map(entry).collect();
    json!({ "event": "fleetSummary", "fleet": fleet.name, "done": done, "clusters": clusters })
}

fn render(entries: &[Entry]) -> String {
    let row = |entry: &Entry| {
        let time = match entry.state {
            State::NotBegun => "-".to_owned(),
            _ => output::age(entry.time.as_secs()),
        };
        vec![entry.cluster.clone(), entry.wave.to_string(), entry.state.word().to_owned(), time]
    };
    let header = ["CLUSTER", "WAVE", "RESULT", "TIME"];
    let mut text = format!("\n{}", output::table(&header, entries.iter().map(row).collect()));
    for entry in entries {
        if let Some(why) = entry.state.why() {
            let _ = write!(text, "\n{}: {why}", entry.cluster);
        }
    }
    if entries.iter().any(|entry| entry.state != State::Done) {
        text += "\nMend that, and run this again: what is done is not done again.\n";
    }
    text
}

#[cfg(test)]
mod tests;
