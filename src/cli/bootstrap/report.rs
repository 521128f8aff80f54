//! The plan and the summary for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::document::{Around, why};
use crate::bootstrap::engine::{Outcome, Plan, Planned, Prediction, State, Summary};

/// The plan, host by host: what is not done, why, and what will be noticed meanwhile; then the hosts that
/// are not fit for it, and the notes.
pub(super) fn plan(plan: &Plan, around: Around<'_>, diffs: bool) -> String {
    let Around { predictions, unfit, notes } = around;
    let mut text = headline(plan);
    let mut hosts: BTreeMap<&str, Vec<(usize, &Planned)>> = BTreeMap::new();
    let mut order = Vec::new();
    for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| shown(step)) {
        let steps = hosts.entry(&step.id.host).or_default();
        if steps.is_empty() {
            order.push(step.id.host.as_str());
        }
        steps.push((at, step));
    }
    for host in order {
        let _ = writeln!(text, "\n{host}");
        let width = hosts[host].iter().map(|(_, step)| step.title.chars().count()).max();
        let width = width.unwrap_or(0).min(48);
        for (at, step) in &hosts[host] {
            let reason = why(&step.state).unwrap_or_default();
            let mark = if matches!(step.state, State::Failed(_)) { '!' } else { '+' };
            let _ = writeln!(text, "  {mark} {:width$}  {reason}", step.title);
            let prediction = predictions.get(at).map(Prediction::text);
            if let Some(prediction) = prediction.filter(|prediction| !prediction.is_empty()) {
                let _ = writeln!(text, "      {prediction}");
            }
            if let State::Needed(change) = &step.state {
                for line in change.diffs.iter().filter(|_| diffs).flat_map(|diff| diff.lines()) {
                    let _ = writeln!(text, "      {line}");
                }
            }
        }
    }
    if !unfit.is_empty() {
        text.push('\n');
    }
    for why in unfit.values() {
        let _ = writeln!(text, "not fit, and left alone: {why}");
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// Of a host that was not reached, one line is enough.
fn shown(step: &Planned) -> bool {
    step.chosen && !matches!(step.state, State::Done | State::Unknown)
}

/// The plan in a line or two.
pub(super) fn headline(plan: &Plan) -> String {
    let chosen: Vec<_> = plan.steps.iter().filter(|step| step.chosen).collect();
    let hosts: BTreeSet<_> = chosen.iter().map(|step| &step.id.host).collect();
    let of = format!("{} on {}", count(chosen.len(), "step"), count(hosts.len(), "host"));
    if plan.is_done() {
        return format!("Nothing to do: {of}, all done.\n");
    }
    let needed: BTreeSet<_> = plan.needed().map(|step| &step.id.host).collect();
    let mut text = match plan.needed().count() {
        0 => format!("{of}: nothing could be planned.\n"),
        steps => {
            format!("{of}: {} to do on {}.\n", count(steps, "step"), count(needed.len(), "host"))
        }
    };
    let faults = plan.faults().filter(|(step, _)| step.chosen).count();
    if faults > 0 {
        let _ = writeln!(text, "{} could not be looked at.", count(faults, "step"));
    }
    text
}

/// What became of a run: each fault with its reason, then the numbers.
pub(super) fn summary(summary: &Summary, log: &Path) -> String {
    let mut text = String::new();
    for (id, outcome) in &summary.steps {
        if let Outcome::Failed(_) | Outcome::Interrupted = outcome {
            let _ = writeln!(text, "{id}: {}", outcome.why().unwrap_or_default());
        }
    }
    let words = ["applied", "unchanged", "failed", "skipped", "interrupted"];
    let counts = words.iter().map(|word| (summary.count(word), word));
    let counts: Vec<_> = counts.filter(|(n, _)| *n > 0).map(|(n, w)| format!("{n} {w}")).collect();
    let counts = if counts.is_empty() { "no steps".to_owned() } else { counts.join(", ") };
    let time = humantime::format_duration(Duration::from_secs(summary.time.as_secs()));
    let _ = writeln!(text, "{counts} in {time}; every command is in {}", log.display());
    if !summary.is_done() {
        text += "Running the same command again goes on from here.\n";
    }
    text
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::engine::{Change, Lane, StepError, StepId};
    use crate::bootstrap::transport::TransportError;

    fn step(host: &str, name: &str, state: State) -> Planned {
        let (id, title) = (StepId::new(host, name), format!("make {name}"));
        Planned { id, title, lane: Lane::Parallel, disruption: None, chosen: true, state }
    }

    #[test]
    fn a_plan_says_what_and_why_host_by_host() {
        let mut change = Change::new("the file differs");
        change.diffs.push("-a\n+b".to_owned());
        let gone = TransportError::Unreachable {
            host: "w1".to_owned(),
            reason: "no answer on port 22".to_owned(),
            remedy: "is it up?".to_owned(),
        };
        let found = Plan {
            steps: vec![
                step("cp1", "a", State::Done),
                step("cp1", "config", State::Needed(change)),
                step("w1", "x", State::Failed(StepError::Transport(gone))),
                step("w1", "y", State::Unknown),
                step("cp1", "z", State::After(StepId::new("cp1", "config"))),
            ],
        };
        let refused = StepError::Refused {
            reason: "cp1: port 6443 is taken".to_owned(),
            remedy: "stop what listens there".to_owned(),
        };
        let around = Around {
            predictions: &BTreeMap::new(),
            unfit: &[("cp1".to_owned(), refused)].into(),
            notes: &["e9 is not in the file".to_owned()],
        };
        let text = plan(&found, around, true);
        assert_eq!(
            text,
            "5 steps on 2 hosts: 2 steps to do on 1 host.\n1 step could not be looked at.\n\n\
             cp1\n  + make config  the file differs\n      -a\n      +b\n  \
             + make z       seen after cp1/config\n\n\
             w1\n  ! make x  w1: no answer on port 22; is it up?\n\n\
             not fit, and left alone: cp1: port 6443 is taken; stop what listens there\n\n\
             e9 is not in the file\n"
        );
        let done = Plan { steps: vec![step("cp1", "a", State::Done)] };
        assert_eq!(headline(&done), "Nothing to do: 1 step on 1 host, all done.\n");
    }

    #[test]
    fn a_summary_ends_with_the_numbers_and_what_to_do() {
        let error = StepError::Unverified("it is not so".to_owned());
        let steps = vec![
            (StepId::new("a", "1"), Outcome::Applied),
            (StepId::new("a", "2"), Outcome::Failed(error)),
            (StepId::new("a", "3"), Outcome::Skipped("a/2 has failed".to_owned())),
        ];
        let text = summary(&Summary { steps, time: Duration::from_secs(75) }, Path::new("/log"));
        assert_eq!(
            text,
            "a/2: it is not so\n1 applied, 1 failed, 1 skipped in 1m 15s; every command is in \
             /log\nRunning the same command again goes on from here.\n"
        );
    }
}
