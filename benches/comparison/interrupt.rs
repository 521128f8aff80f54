//! Ctrl-C and SIGTERM as errors of whatever is waited for, so that all is cleaned up on the way out.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

static INTERRUPTED: OnceLock<watch::Receiver<bool>> = OnceLock::new();

/// Listens from now on.
pub(crate) fn listen() -> io::Result<()> {
    let (tell, interrupted) = watch::channel(false);
    let runtime = runtime()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut signals = signal(SignalKind::interrupt())
                .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)))?;
            tokio::select! {
                _ = signals.0.recv() => {}
                _ = signals.1.recv() => {}
            }
            tell.send_replace(true);
            // Whoever looks later must find it.
            tell.closed().await;
            io::Result::Ok(())
        })
    })?;
    INTERRUPTED.get_or_init(|| interrupted);
    Ok(())
}

/// A runtime for one thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs a future to its end on this thread, or until the user has had enough.
pub(crate) fn run<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    runtime()?.block_on(async {
        tokio::select! {
            biased;
            () = interrupted() => Err(io::ErrorKind::Interrupted.into()),
            result = future => result,
        }
    })
}

async fn interrupted() {
    let Some(interrupted) = INTERRUPTED.get() else { return std::future::pending().await };
    if interrupted.clone().wait_for(|interrupted| *interrupted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits.
pub(crate) fn pause(time: Duration) -> io::Result<()> {
    run(async {
        tokio::time::sleep(time).await;
        Ok(())
    })
}
