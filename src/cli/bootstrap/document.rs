//! The plan and the summary for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::engine::{Disruption, Plan, Planned, Prediction, State, StepError, Summary};

/// What is shown around a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    /// What is expected at disruptive steps, by their places.
    pub(super) predictions: &'a BTreeMap<usize, Prediction>,
    /// The hosts that are to be changed and are not fit, each with why and what to do.
    pub(super) unfit: &'a BTreeMap<String, StepError>,
    /// What the user has to know besides, a line each.
    pub(super) notes: &'a [String],
}

/// A plan: stable keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanDocument {
    /// Nothing to do, as far as the user asked.
    done: bool,
    steps: Vec<StepDocument>,
    /// The hosts that are not fit, and would be left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unfit: Vec<UnfitDocument>,
    /// What the user has to know besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnfitDocument {
    host: String,
    why: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepDocument {
    host: String,
    step: String,
    title: String,
    state: &'static str,
    /// False for a step of a host that `--host` leaves out.
    chosen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diffs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disruption: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction>,
}

impl PlanDocument {
    pub(super) fn new(plan: &Plan, around: Around<'_>) -> Self {
        let Around { predictions, unfit, notes } = around;
        let steps = plan.steps.iter().enumerate();
        let steps = steps.map(|(at, step)| StepDocument::new(step, predictions.get(&at).cloned()));
        let unfit = unfit.iter();
        let unfit = unfit
            .map(|(host, why)| UnfitDocument { host: host.clone(), why: why.to_string() })
            .collect();
        Self { done: plan.is_done(), steps: steps.collect(), unfit, notes: notes.to_vec() }
    }
}

impl StepDocument {
    fn new(step: &Planned, prediction: Option<Prediction>) -> Self {
        let diffs = match &step.state {
            State::Needed(change) => change.diffs.clone(),
            _ => Vec::new(),
        };
        let disruption = step.disruption.as_ref().map(|disruption| match disruption {
            Disruption::EtcdMember => "etcdMember",
            Disruption::ApiServer => "apiServer",
            Disruption::Node => "node",
        });
        Self {
            host: step.id.host.clone(),
            step: step.id.name.clone(),
            title: step.title.clone(),
            state: step.state.word(),
            chosen: step.chosen,
            why: why(&step.state),
            diffs,
            disruption,
            prediction,
        }
    }
}

/// Why a step is not done, in one line.
pub(super) fn why(state: &State) -> Option<String> {
    match state {
        State::Done => None,
        State::Needed(change) => Some(change.why.clone()),
        State::After(step) => Some(format!("seen after {step}")),
        State::Failed(error) => Some(error.to_string()),
        State::Unknown => Some("its host was not reached".to_owned()),
    }
}

/// The last line of `apply -o json`, once the file was found good and could be agreed to.
#[derive(Debug, Default, Serialize)]
#[serde(tag = "event", rename = "summary", rename_all = "camelCase")]
pub(super) struct SummaryDocument {
    done: bool,
    applied: usize,
    unchanged: usize,
    failed: usize,
    skipped: usize,
    interrupted: usize,
    seconds: f64,
    log: String,
    /// Why nothing was begun, if nothing could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl SummaryDocument {
    pub(super) fn new(summary: &Summary, log: &std::path::Path) -> Self {
        Self {
            done: summary.is_done(),
            applied: summary.count("applied"),
            unchanged: summary.count("unchanged"),
            failed: summary.count("failed"),
            skipped: summary.count("skipped"),
            interrupted: summary.count("interrupted"),
            seconds: summary.time.as_secs_f64(),
            log: log.display().to_string(),
            error: None,
        }
    }

    /// Of a run in which nothing could be begun.
    pub(super) fn failed(error: String, log: &std::path::Path) -> Self {
        Self { error: Some(error), log: log.display().to_string(), ..Self::default() }
    }
}
