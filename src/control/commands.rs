//! Taking backends out and putting them back.

use std::time::Duration;

use super::protocol::{Answer, Code, Refusal};
use crate::events::{Event, Events};
use crate::model::{Entry, Reason, Snapshot, Standing, Writer};

/// Takes a backend out: no new clients; those that it has leave at quiet moments `within` this time.
pub(super) fn drain(
    writer: &Writer,
    events: &Events,
    name: &str,
    force: bool,
    within: Duration,
) -> Answer {
    let snapshot = writer.reader().load().clone();
    let (index, entry) = match find(&snapshot, name) {
        Ok(found) => found,
        Err(refusal) => return Answer::Refused(refusal),
    };
    let changed = match entry.standing {
        Standing::Serving => true,
        Standing::Drained => false,
        Standing::Leaving => return Answer::Refused(leaving(name)),
    };
    let others = || snapshot.entries.iter().enumerate().filter(|(other, _)| *other != index);
    let ready = others().filter(|(_, entry)| entry.is_ready()).count();
    if changed && ready == 0 && !force {
        return Answer::Refused(last(name, others().map(|(_, entry)| entry)));
    }
    if changed {
        stand(writer, events, index, Standing::Drained, "drained by an operator");
    }
    Answer::Drained {
        backend: name.to_owned(),
        changed,
        connections: entry.backend.counters.active(),
        others: ready,
        within_seconds: within.as_secs(),
    }
}

/// Puts a backend back.
pub(super) fn undrain(writer: &Writer, events: &Events, name: &str) -> Answer {
    let snapshot = writer.reader().load().clone();
    let (index, entry) = match find(&snapshot, name) {
        Ok(found) => found,
        Err(refusal) => return Answer::Refused(refusal),
    };
    let changed = match entry.standing {
        Standing::Serving => false,
        Standing::Drained => true,
        Standing::Leaving => return Answer::Refused(leaving(name)),
    };
    if changed {
        stand(writer, events, index, Standing::Serving, "put back by an operator");
    }
    Answer::Undrained {
        backend: name.to_owned(),
        changed,
        state: entry.condition.state,
        reason: entry.condition.reason.message.clone(),
    }
}

fn stand(writer: &Writer, events: &Events, index: usize, standing: Standing, why: &str) {
    let now = tokio::time::Instant::now().into_std();
    let entry = |writer: &Writer| writer.reader().load().entries[index].clone();
    let from = entry(writer).state();
    writer.update(|snapshot| snapshot.entries[index].stand(standing, now));
    let entry = entry(writer);
    let (backend, to) = (entry.backend.name.clone(), entry.state());
    let reason = Reason::new("operator", why);
    events.record(Event::State { backend, from, to, reason });
}

fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Result<(usize, &'a Entry), Refusal> {
    let mut entries = snapshot.entries.iter().enumerate();
    entries.find(|(_, entry)| entry.backend.name.as_str() == name).ok_or_else(|| {
        let names = snapshot.entries.iter().map(|entry| entry.backend.name.as_str());
        let names: Vec<_> = names.collect();
        let shown: String = name.chars().take(100).collect();
        let refusal = Refusal::new(Code::UnknownBackend, format!("there is no backend {shown:?}"));
        match nearest(&shown, &names) {
            Some(near) => refusal.hint(format!("did you mean `{near}`?")),
            None => refusal.hint(format!("the backends are {}", names.join(", "))),
        }
    })
}

/// The name that was meant, if one is near enough; the part before the port counts as well.
fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(wrong, name);
    let names = names.iter().copied();
    let best = names.min_by_key(|name| distance(name))?;
    let near = distance(best) <= best.chars().count().max(3) / 3;
    (near || best.split(':').next() == Some(wrong)).then_some(best)
}

fn leaving(name: &str) -> Refusal {
    Refusal::new(Code::Busy, format!("{name} is no longer in the configuration and is leaving"))
        .hint("put it into the configuration again to keep it")
}

fn last<'a>(name: &str, others: impl Iterator<Item = &'a Entry>) -> Refusal {
    let state = |entry: &Entry| format!("{} is {}", entry.backend.name, entry.state());
    let others: Vec<_> = others.map(state).collect();
    let all = others.len() + 1;
    let rest = if others.is_empty() { "it is the only one".to_owned() } else { others.join(", ") };
    let message = format!("0 of {all} backends would be ready without {name}: {rest}");
    Refusal::new(Code::LastBackend, message)
        .hint("wait until another one is ready, or drain it all the same with --force: its connections then stay until one is")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::time::Instant;

    use super::*;
    use crate::model::{Active, Backend, BackendName, Condition, Policy, Reader, State, store};

    fn cluster(states: &[State]) -> (Writer, Reader, Active) {
        let now = Instant::now();
        let entries = states.iter().enumerate().map(|(number, state)| {
            let name = BackendName::new(format!("cp{}", number + 1));
            let address = format!("10.0.0.{number}:6443").parse().unwrap();
            let condition = Condition { state: *state, ..Condition::unknown(now) };
            Entry::new(Arc::new(Backend::new(name, address, None)), [].into(), condition)
        });
        let entries: Vec<_> = entries.collect();
        let active = entries[0].backend.occupy();
        let (writer, reader) =
            store(Snapshot { generation: 0, zone: None, policy: Policy::default(), entries });
        (writer, reader, active)
    }

    fn refusal(answer: Answer) -> Refusal {
        match answer {
            Answer::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_backend_is_taken_out_and_put_back() {
        let (writer, reader, _active) = cluster(&[State::Ready, State::Ready, State::Dead]);
        let drained = |changed| Answer::Drained {
            backend: "cp1".to_owned(),
            changed,
            connections: 1,
            others: 1,
            within_seconds: 60,
        };
        assert_eq!(drain(&writer, &Events::default(), "cp1", false, MINUTE), drained(true));
        assert_eq!(drain(&writer, &Events::default(), "cp1", false, MINUTE), drained(false));
        let snapshot = reader.load().clone();
        assert_eq!(snapshot.generation, 1);
        assert_eq!(snapshot.entries[0].state(), State::Drained);
        let reason = snapshot.entries[0].reason().message;
        assert_eq!(reason, "taken out by an operator; its health: ready (not probed yet)");
        let answer = undrain(&writer, &Events::default(), "cp1");
        assert!(matches!(answer, Answer::Undrained { changed: true, state: State::Ready, .. }));
        let entry = reader.load().entries[0].clone();
        assert_eq!(entry.state(), State::Ready);
        let now = tokio::time::Instant::now().into_std();
        assert_eq!(entry.recovered_at(), Some(now), "its share grows slowly, and is made up for");
        assert!(matches!(
            undrain(&writer, &Events::default(), "cp1"),
            Answer::Undrained { changed: false, .. }
        ));
    }

    #[tokio::test]
    async fn the_last_one_is_drained_by_force_only() {
        let (writer, reader, _active) = cluster(&[State::Ready, State::NotReady, State::Dead]);
        let refused = refusal(drain(&writer, &Events::default(), "cp1", false, MINUTE));
        assert_eq!(refused.code, Code::LastBackend);
        let message = "0 of 3 backends would be ready without cp1: cp2 is notReady, cp3 is dead";
        assert_eq!(refused.message, message);
        assert_eq!(reader.load().generation, 0);
        assert!(matches!(
            drain(&writer, &Events::default(), "cp1", true, MINUTE),
            Answer::Drained { others: 0, .. }
        ));
        assert!(
            matches!(
                drain(&writer, &Events::default(), "cp1", false, MINUTE),
                Answer::Drained { .. }
            ),
            "it is"
        );
    }

    #[tokio::test]
    async fn an_unknown_name_is_answered_with_the_near_one() {
        let (writer, ..) = cluster(&[State::Ready, State::Ready]);
        let refused = refusal(drain(&writer, &Events::default(), "pc1", false, MINUTE));
        assert_eq!(refused.code, Code::UnknownBackend);
        assert_eq!(refused.to_string(), "there is no backend \"pc1\"\n  did you mean `cp1`?");
        let refused = refusal(undrain(&writer, &Events::default(), "master-17"));
        assert_eq!(refused.hint.unwrap(), "the backends are cp1, cp2");
    }
}
