//! Tells when the files that discovery speaks to apiservers with have been replaced, so that a watch
//! does not go on with a certificate that expires under it.

use std::path::{Path, PathBuf};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::kubeconfig;
use crate::watch::{LOOK_EVERY, SETTLED, Stamp};

/// A kubeconfig and the files that it names, as they were when they were read.
pub(super) struct Files<'a> {
    kubeconfig: &'a Path,
    known: Stamps,
}

type Stamps = Vec<(PathBuf, Stamp)>;

impl<'a> Files<'a> {
    /// The files as they are now: to be called before they are read.
    pub(super) fn new(kubeconfig: &'a Path) -> Self {
        Self { kubeconfig, known: stamps(kubeconfig) }
    }

    /// Waits until they have been replaced by others that can be used. A certificate without its new key
    /// yet cannot.
    pub(super) async fn replaced(&mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changing: Option<(Stamps, Instant)> = None;
        loop {
            looks.tick().await;
            let (now, stamps) = (Instant::now(), stamps(self.kubeconfig));
            if stamps == self.known {
                changing = None;
                continue;
            }
            let since = match &changing {
                Some((seen, since)) if *seen == stamps => *since,
                _ => {
                    changing = Some((stamps, now));
                    continue;
                }
            };
            if now < since + SETTLED {
                continue;
            }
            let file = self.kubeconfig.display();
            match kubeconfig::read(self.kubeconfig) {
                Ok(_) => {
                    info!(%file, "the credentials of discovery were replaced; connecting anew");
                    return;
                }
                Err(problem) => {
                    warn!(%file, problem, "the new credentials of discovery are of no use; the watch goes on with the old ones");
                    self.known = stamps;
                }
            }
        }
    }
}

fn stamps(kubeconfig: &Path) -> Stamps {
    let named = kubeconfig::files(kubeconfig);
    let files = std::iter::once(kubeconfig.to_owned()).chain(named);
    files.map(|file| (file.clone(), Stamp::of(&file))).collect()
}
