//! Plain TCP servers for tests in which TLS would only cost time and memory.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::ANY_PORT;

/// A server that greets with a byte and then sends back what it gets. Ends when dropped.
pub struct Echo {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts it; it says `greeting` to everyone first.
    pub fn start(greeting: u8) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(ANY_PORT)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, greeting) => {}
                    // Nothing is ever sent, so this is the end of the sender.
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn accept(listener: TcpListener, greeting: u8) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            let mut result = stream.write_all(&[greeting]).await;
            while result.is_ok() {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => result = stream.write_all(&buffer[..count]).await,
                }
            }
        });
    }
}
