//! Maintenance is told to nobody: while a step disturbs a host, Alertmanager is silent about that host.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::bootstrap::engine::{Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::render::monitoring::Program;
use crate::bootstrap::spec::{Cluster, Role};
use crate::bootstrap::transport::Command;

/// It ends by itself then, should the run be killed: longer than any drain may take.
const LONGEST: &str = "1h";

/// What is well again may still be seen as it was for so long, and for some scrapes, in seconds.
const AFTER: u64 = 120;
/// Scrapes, and evaluations after them.
const SCRAPES: u64 = 4;

/// A step during which nobody is told of alerts of its host.
#[derive(Debug)]
struct Silenced {
    step: Arc<dyn Step>,
    cluster: Arc<Cluster>,
}

/// Silences in force: where they were made, and what they are called.
struct Silence {
    watcher: String,
    url: String,
    ids: Vec<String>,
    /// How long they last after a step that was done, as amtool takes it.
    after: String,
}

/// Lets those of these steps that disturb a host silence Alertmanager about it, where the cluster is watched.
/// One that cannot be reached keeps no step from anything.
pub fn silenced(cluster: &Arc<Cluster>, steps: Vec<Arc<dyn Step>>) -> Vec<Arc<dyn Step>> {
    if !cluster.monitoring.enabled {
        return steps;
    }
    let wrap = |step: Arc<dyn Step>| -> Arc<dyn Step> {
        let cluster = Arc::clone(cluster);
        if step.disruption().is_some() { Arc::new(Silenced { step, cluster }) } else { step }
    };
    steps.into_iter().map(wrap).collect()
}

impl Silence {
    /// Alertmanagers tell each other: one of them has to be told. None if none of them can be.
    async fn begin(cx: &Context, cluster: &Cluster, host: &str) -> Option<Self> {
        const SCRIPT: &str = r#"
# nobody is told of a host for a while: the second is what others say of it
for label in instance backend; do
    amtool --alertmanager.url "$1" silence add --author 'apiproxy bootstrap' \
        --comment "maintenance of $3" --duration "$4" "cluster=$2" "$label=$3"
done
"#;
        for watcher in cluster.with_role(Role::Monitoring) {
            let port = Program::Alertmanager.port();
            let url = format!("http://{}", std::net::SocketAddr::new(watcher.address, port));
            let arguments = [&url, &cluster.name, host, LONGEST];
            if let Ok(output) = cx.run(&watcher.name, &Command::script(SCRIPT, arguments)).await {
                let ids = output.text().split_whitespace().map(str::to_owned).collect();
                let after = AFTER.max(SCRAPES * cluster.monitoring.interval.as_secs());
                let (watcher, after) = (watcher.name.clone(), format!("{after}s"));
                return Some(Self { watcher, url, ids, after });
            }
        }
        None
    }

    /// It ends soon after a step that was done, and now after one that failed: that is to be told.
    async fn end(self, cx: &Context, done: bool) {
        const SCRIPT: &str = r#"
# people are told of it again
url=$1
shift
exec amtool --alertmanager.url "$url" silence "$@"
"#;
        let words: &[&str] =
            if done { &["update", "--duration", &self.after] } else { &["expire"] };
        let words = std::iter::once(self.url.as_str()).chain(words.iter().copied());
        let arguments = words.chain(self.ids.iter().map(String::as_str));
        // If it cannot be: it ends by itself.
        let _ = cx.run(&self.watcher, &Command::script(SCRIPT, arguments)).await;
    }
}

impl Silenced {
    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let silence = Silence::begin(cx, &self.cluster, &self.step.id().host).await;
        let result = self.step.apply(cx).await;
        if let Some(silence) = silence {
            silence.end(cx, result.is_ok()).await;
        }
        result
    }
}

impl Step for Silenced {
    fn id(&self) -> StepId {
        self.step.id()
    }

    fn title(&self) -> String {
        self.step.title()
    }

    fn needs(&self) -> Vec<StepId> {
        self.step.needs()
    }

    fn follows(&self) -> Vec<StepId> {
        self.step.follows()
    }

    fn lane(&self) -> Lane {
        self.step.lane()
    }

    fn disruption(&self) -> Option<Disruption> {
        self.step.disruption()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.step.check(cx)
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(self.make(cx))
    }

    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.step.verify(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::engine::Change;
    use crate::bootstrap::steps::monitoring::tests::{cluster, hosts};
    use crate::bootstrap::transport::recording::Answer;

    /// Restarts what runs on cp1.
    #[derive(Debug)]
    struct Restart(Option<Disruption>);

    impl Step for Restart {
        fn id(&self) -> StepId {
            StepId::new("cp1", "restart")
        }

        fn title(&self) -> String {
            "restart it".to_owned()
        }

        fn needs(&self) -> Vec<StepId> {
            Vec::new()
        }

        fn disruption(&self) -> Option<Disruption> {
            self.0.clone()
        }

        fn check<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
            Box::pin(std::future::ready(Ok(Check::Needed(Change::new("old")))))
        }

        fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
            Box::pin(async { cx.run("cp1", &Command::new(["restart"])).await.map(drop) })
        }
    }

    /// What m1 and cp1 were asked when such a step was applied.
    async fn applied(
        disruption: Option<Disruption>,
        restart: Answer,
        (add, monitoring): (Answer, &str),
    ) -> (bool, Vec<String>, usize) {
        let cluster = Arc::new(cluster(monitoring));
        let (cx, hosts) = hosts(&cluster);
        let (m1, cp1) = (&hosts["m1"], &hosts["cp1"]);
        cp1.on(["restart"], restart);
        m1.on("silence add", add).on("people are told", Answer::ok(""));
        let steps = silenced(&cluster, vec![Arc::new(Restart(disruption))]);
        let result = steps[0].apply(&cx).await;
        assert_eq!(m1.unexpected(), [""; 0]);
        let asked = m1.commands().into_iter().map(|command| command.argv[4..].join(" "));
        (result.is_ok(), asked.collect(), cp1.ran("restart"))
    }

    #[tokio::test]
    async fn a_disturbed_host_is_silent_and_one_that_stays_ill_is_not() {
        let disturbs = || Some(Disruption::ApiServer);
        let added = || (Answer::ok("11-a\n22-b\n"), "{}");
        let begun = "http://10.0.0.71:9093 prod cp1 1h";
        let (ok, asked, restarts) = applied(disturbs(), Answer::ok(""), added()).await;
        let ended = "http://10.0.0.71:9093 update --duration 120s 11-a 22-b";
        assert_eq!((ok, asked, restarts), (true, vec![begun.to_owned(), ended.to_owned()], 1));
        let (ok, asked, _) = applied(disturbs(), Answer::fails(1, "no"), added()).await;
        let ended = "http://10.0.0.71:9093 expire 11-a 22-b";
        assert_eq!((ok, asked), (false, vec![begun.to_owned(), ended.to_owned()]));
        // What disturbs nobody is not to be hidden.
        let (ok, asked, restarts) = applied(None, Answer::ok(""), added()).await;
        assert_eq!((ok, asked, restarts), (true, Vec::new(), 1));
    }

    #[tokio::test]
    async fn nobody_waits_for_who_watches() {
        let disturbs = || Some(Disruption::ApiServer);
        let refused = (Answer::fails(1, "connection refused"), "{}");
        let (ok, asked, restarts) = applied(disturbs(), Answer::ok(""), refused).await;
        assert_eq!((ok, asked.len(), restarts), (true, 1, 1));
        let unwatched = (Answer::ok(""), "{ enabled: false }");
        let (ok, asked, restarts) = applied(disturbs(), Answer::ok(""), unwatched).await;
        assert_eq!((ok, asked.len(), restarts), (true, 0, 1));
    }
}
