//! The machine against a plain model: the design as a function of everything that has happened so far,
//! with no counters to keep.

use proptest::prelude::*;

use super::*;

/// What happens to a backend.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A probe that begins so much later answers: `r`eady, `a`live, `n`ot ready, `d`ead.
    Probe(char, Duration),
    /// The data path doubts it because of something before (or after) the last probe's start.
    Doubt(i64),
    /// A probe that began before the last one ends.
    Stale(char),
    /// The data path resets its connections.
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec!['r', 'a', 'n', 'd']);
    let gap = prop::sample::select(vec![500, 500, 500, 6000, 400_000]);
    let gap = gap.prop_map(Duration::from_millis);
    prop_oneof![
        8 => (kind.clone(), gap).prop_map(|(kind, gap)| Step::Probe(kind, gap)),
        2 => prop::sample::select(vec![-300, 0, 300]).prop_map(Step::Doubt),
        1 => kind.prop_map(Step::Stale),
        1 => Just(Step::Reset),
    ]
}

fn verdict(kind: char) -> Verdict {
    let reason = Reason::new("code", kind);
    match kind {
        'r' => Verdict::Ready { warning: None },
        'a' => Verdict::Alive(reason),
        'n' => Verdict::NotReady(reason),
        _ => Verdict::Dead(Failure::Timeout, reason),
    }
}

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(100);

/// All that has happened, and what the words of the design make of it.
struct Model {
    rise: usize,
    fall: usize,
    /// Kind and start of each probe that counts.
    probes: Vec<(char, Instant)>,
    /// The states entered so far, each with the number of the probe that did it.
    states: Vec<(State, usize)>,
    /// Doubts that were news when they came: how many probes there were, and since when.
    doubts: Vec<(usize, Instant)>,
    /// Resets: how many probes there were, and when.
    resets: Vec<(usize, Instant)>,
}

impl Model {
    fn state(&self) -> State {
        self.states.last().map_or(State::Unknown, |(state, _)| *state)
    }

    /// The last probes, back to the first whose kind is not among these.
    fn run(&self, kinds: &str) -> &[(char, Instant)] {
        let other = self.probes.iter().rposition(|(kind, _)| !kinds.contains(*kind));
        &self.probes[other.map_or(0, |index| index + 1)..]
    }

    fn probe(&mut self, kind: char, started: Instant) {
        self.probes.push((kind, started));
        let twice = |kinds: &str, times: usize| self.run(kinds).len() >= times;
        let (state, rise, fall) = (self.state(), self.rise, self.fall);
        let only_alive = self.run("a").first();
        let settled = only_alive.is_some_and(|(_, first)| started >= *first + SETTLING);
        let is_down = matches!(state, State::NotReady | State::Dead);
        let next = if state == State::Unknown && kind != 'd' {
            Some(if kind == 'n' { State::NotReady } else { State::Ready })
        } else if state != State::Dead && twice("d", fall) {
            Some(State::Dead)
        } else if state == State::Ready && twice("nd", fall) {
            Some(State::NotReady)
        } else if is_down && (twice("r", rise) || settled) {
            Some(State::Ready)
        } else if state == State::Dead && twice("ran", rise) {
            Some(State::NotReady)
        } else {
            None
        };
        self.states.extend(next.map(|next| (next, self.probes.len() - 1)));
    }

    fn doubt(&mut self, since: Instant) {
        let heard = self.probes.last().is_some_and(|(kind, at)| *kind != 'd' && *at >= since);
        if self.state() != State::Dead && !heard {
            self.doubts.push((self.probes.len(), since));
        }
    }

    /// Is there a doubt since which nothing has been heard, nor the state changed?
    fn is_doubted(&self) -> bool {
        self.doubts.iter().any(|(probes, since)| {
            let mut later = self.probes[*probes..].iter();
            let heard = later.any(|(kind, at)| *kind != 'd' && at >= since);
            let changed = self.states.last().is_some_and(|(_, probe)| probe >= probes);
            !heard && !changed
        })
    }

    fn is_failing(&self) -> bool {
        self.state() == State::Ready && !self.run("nd").is_empty()
    }

    /// When the state was entered.
    fn since(&self) -> Option<Instant> {
        self.states.last().map(|(_, probe)| self.probes[*probe].1 + LATENCY)
    }

    /// When the first probe began of the silence that the backend died of.
    fn failing_since(&self) -> Option<Instant> {
        let (_, probe) = self.states.last().filter(|(state, _)| *state == State::Dead)?;
        let other = self.probes[..*probe].iter().rposition(|(kind, _)| *kind != 'd');
        Some(self.probes[other.map_or(0, |index| index + 1)].1)
    }

    fn recovered_at(&self) -> Option<Instant> {
        let ready = self.states.iter().enumerate().rfind(|(_, (state, _))| *state == State::Ready);
        let (_, (_, probe)) = ready.filter(|(index, _)| *index > 0)?;
        Some(self.probes[*probe].1 + LATENCY)
    }

    /// When resets may begin: at once, or after as long as the silence had lasted, if there was a
    /// reset within five minutes before the death.
    fn reset_from(&self) -> Option<Instant> {
        let (died, failing) = (self.since()?, self.failing_since()?);
        let (_, probe) = self.states.last()?;
        let mut before = self.resets.iter().filter(|(probes, _)| probes <= probe);
        let again = before.any(|(_, at)| died < *at + RESET_MEMORY);
        Some(if again { died + (died - failing) } else { died })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn agrees_with_a_plain_model(
        (rise, fall) in (1_u32..=4, 1_u32..=4),
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let rules = Rules {
            rise: NonZeroU32::new(rise).unwrap(),
            fall: NonZeroU32::new(fall).unwrap(),
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_millis(500),
        };
        let mut now = Instant::now() + Duration::from_secs(1);
        let mut machine = Machine::new(rules, now);
        let mut model = Model {
            rise: rise as usize,
            fall: fall as usize,
            probes: Vec::new(),
            states: Vec::new(),
            doubts: Vec::new(),
            resets: Vec::new(),
        };
        for step in &steps {
            match *step {
                Step::Probe(kind, gap) => {
                    now += gap;
                    let (started, ended) = (now, now + LATENCY);
                    machine.observe(&Observation { started, ended, verdict: verdict(kind) });
                    model.probe(kind, started);
                }
                Step::Doubt(offset) => {
                    let far = Duration::from_millis(offset.unsigned_abs());
                    let since = if offset < 0 { now.checked_sub(far).unwrap() } else { now + far };
                    let doubted = model.is_doubted();
                    model.doubt(since);
                    let news = !doubted && model.is_doubted();
                    prop_assert_eq!(machine.doubt(since), news, "news? {:?}", steps);
                }
                Step::Stale(kind) if !model.probes.is_empty() => {
                    let started = now.checked_sub(Duration::from_millis(1)).unwrap();
                    let ended = now + LATENCY;
                    machine.observe(&Observation { started, ended, verdict: verdict(kind) });
                }
                Step::Stale(_) => {}
                Step::Reset => {
                    machine.note_resets(now);
                    model.resets.push((model.probes.len(), now));
                }
            }
            let condition = machine.condition();
            let state = model.state();
            prop_assert_eq!(condition.state, state, "{:?}", steps);
            prop_assert_eq!(condition.failing, model.is_failing(), "failing {:?}", steps);
            let suspect = model.is_failing() || model.is_doubted();
            prop_assert_eq!(condition.suspect, suspect, "suspect {:?}", steps);
            prop_assert_eq!(condition.failing_since, model.failing_since(), "{:?}", steps);
            prop_assert_eq!(condition.recovered_at, model.recovered_at(), "{:?}", steps);
            if let Some(since) = model.since() {
                prop_assert_eq!(condition.since, since, "{:?}", steps);
            }
            prop_assert_eq!(condition.reset_from, model.reset_from(), "reset {:?}", steps);
            let pace = machine.pace(now, false);
            prop_assert!(pace >= rules.fast_interval && pace <= rules.interval);
            prop_assert!(!suspect || pace == rules.fast_interval, "hurry {:?}", steps);
        }
    }
}
