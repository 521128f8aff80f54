//! Whatever a server answers to a probe, there is a verdict: no panic, no wait without end, and
//! "ready" only for a 200. The first byte of the input says how the answer is cut into pieces.
#![no_main]

use std::time::Duration;

use apiproxy::health::{Verdict, fuzzing};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};

/// Clock time never passes here: the paused clock jumps when nothing else is left to do, and
/// then the probe hangs.
const FOREVER: Duration = Duration::from_secs(3600);

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
}

async fn serve(mut stream: DuplexStream, answer: &[u8], piece: usize) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    for piece in answer.chunks(piece) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, answer)) = input.split_first() else { return };
    let piece = usize::from(cut) * 4 + 1;
    let verdict = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (ours, theirs) = tokio::io::duplex(1024);
            let both = async { tokio::join!(fuzzing::verdict(ours), serve(theirs, answer, piece)) };
            let (verdict, ()) =
                tokio::time::timeout(FOREVER, both).await.expect("the probe never ends");
            verdict
        })
    });
    match verdict {
        Verdict::Ready { .. } => {
            let told = |code: &[u8]| answer.windows(code.len()).any(|bytes| bytes == code);
            assert!(told(b" 200") || told(b" 429"), "ready without being told so");
        }
        Verdict::Alive(reason) | Verdict::NotReady(reason) | Verdict::Dead(_, reason) => {
            assert!(!reason.code.is_empty() && !reason.message.is_empty());
            assert!(reason.message.len() < 8192, "a reason of {} bytes", reason.message.len());
            assert!(!reason.message.contains(['\r', '\n']), "{:?}", reason.message);
        }
    }
});
