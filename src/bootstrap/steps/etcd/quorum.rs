//! How many members may fail: the arithmetic that decides what may be done to one of them.

use std::fmt;

use super::members::View;

/// A cluster in numbers. Learners do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Members with a vote.
    pub voting: usize,
    /// Those of them that answer.
    pub healthy: usize,
}

/// What must not be done, with the numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member} must not {deed} now: {after}, and {needed} are needed for a quorum")]
pub struct Breaks {
    /// Whom it is about.
    pub member: String,
    /// `go down` or `be removed`.
    pub deed: &'static str,
    /// What would be left.
    pub after: String,
    /// How many would have to be.
    pub needed: usize,
}

impl Quorum {
    /// The numbers of a cluster.
    pub fn of(view: &View) -> Self {
        let voting = view.members.list.iter().filter(|member| !member.learner);
        let healthy = voting.clone().filter(|member| view.is_healthy(member.id)).count();
        Self { voting: voting.count(), healthy }
    }

    /// How many have to answer.
    pub fn needed(self) -> usize {
        self.voting / 2 + 1
    }

    /// Can it write?
    pub fn holds(self) -> bool {
        self.healthy >= self.needed()
    }

    /// How many more may fail.
    pub fn tolerated(self) -> usize {
        self.healthy.saturating_sub(self.needed())
    }

    fn left(self, verb: &str) -> String {
        format!("{} of {} voting members {verb}", self.healthy, self.voting)
    }

    /// The numbers while a voting member is down.
    #[must_use]
    pub fn without(self, healthy: bool) -> Self {
        Self { healthy: self.healthy - usize::from(healthy), ..self }
    }

    /// The numbers when a voting member has been removed.
    #[must_use]
    pub fn removed(self, healthy: bool) -> Self {
        let after = self.without(healthy);
        Self { voting: after.voting.saturating_sub(1), ..after }
    }

    /// The numbers when a learner that answers has been promoted.
    #[must_use]
    pub fn promoted(self) -> Self {
        Self { voting: self.voting + 1, healthy: self.healthy + 1 }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (healthy, voting, needed) = (self.healthy, self.voting, self.needed());
        write!(f, "{healthy} of {voting} voting members answer, {needed} are needed")
    }
}

/// May this member be down for a moment?
///
/// Of one or two members none ever may: who has so few has chosen that, so a restart is allowed then.
///
/// # Errors
/// If the others would be no quorum.
pub fn may_go_down(view: &View, id: u64) -> Result<(), Breaks> {
    let Some(member) = voter(view, id) else { return Ok(()) };
    let now = Quorum::of(view);
    let after = now.without(view.is_healthy(id));
    if after.holds() || after == now || now.voting < 3 {
        return Ok(());
    }
    Err(breaks(member, "go down", after))
}

/// May this member be removed for good? The cluster has to agree to it, so it needs its quorum before
/// as well as afterwards.
///
/// # Errors
/// If there is no quorum, or would be none, or nobody would be left.
pub fn may_be_removed(view: &View, id: u64) -> Result<(), Breaks> {
    let now = Quorum::of(view);
    let Some(member) = view.members.list.iter().find(|member| member.id == id) else {
        return Ok(());
    };
    let after = if member.learner { now } else { now.removed(view.is_healthy(id)) };
    if !now.holds() {
        return Err(Breaks {
            after: now.left("answer"),
            ..breaks(&member.title(), "be removed", now)
        });
    }
    if after.voting == 0 || !after.holds() {
        return Err(breaks(&member.title(), "be removed", after));
    }
    Ok(())
}

fn voter(view: &View, id: u64) -> Option<&str> {
    let found = view.members.list.iter().find(|member| member.id == id && !member.learner);
    found.map(|member| member.name.as_str())
}

fn breaks(member: &str, deed: &'static str, after: Quorum) -> Breaks {
    let left = after.left("would answer");
    Breaks { member: member.to_owned(), deed, after: left, needed: after.needed() }
}
