//! The server's thread, and what stands in for its process: a runtime that one order ends whole.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::port::Port;
use super::routes::answer;
use super::shared::Shared;

/// Pause after `accept` failed for a reason of ours, such as having no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What the handle tells the thread.
pub(super) enum Order {
    /// Run this process, if none runs.
    Serve(Process),
    /// Do nothing at all until the next order.
    Hang,
    /// Go on after [`Order::Hang`].
    Resume,
    /// End the process as if killed, resetting every connection.
    Crash,
    /// End the process when its connections have ended, which are asked to; at most so much later.
    Leave(Duration),
    /// End the process, closing its connections, and then the thread.
    Stop,
}

/// An order, and where to say that it took effect.
pub(super) struct Message {
    pub(super) order: Order,
    pub(super) done: mpsc::Sender<()>,
}

/// Everything that dies with a process, ready to run.
pub(super) struct Process {
    runtime: Runtime,
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

enum End {
    Crashed(mpsc::Sender<()>),
    Leaving(Duration, mpsc::Sender<()>),
    Stopped,
}

impl Process {
    pub(super) fn new(port: &Port, tls: ServerConfig) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _runtime = runtime.enter();
            TcpListener::from_std(port.listen()?)?
        };
        Ok(Self { runtime, listener, acceptor: Arc::new(tls).into() })
    }

    fn run(self, orders: &mpsc::Receiver<Message>, bell: &Notify, shared: &Arc<Shared>) -> End {
        let Self { runtime, listener, acceptor } = self;
        let killed = Arc::new(AtomicBool::new(false));
        let leaving = watch::Sender::new(());
        let end = runtime.block_on(async {
            let calls = Calls { acceptor, killed: Arc::clone(&killed), leaving: leaving.clone() };
            let end = tokio::select! {
                biased;
                end = obey(orders, bell) => end,
                never = accept(&listener, &calls, shared) => match never {},
            };
            drop((listener, calls));
            if let End::Leaving(grace, _) = &end {
                leaving.send_replace(());
                // Those that are left at the end of the grace are closed as they are.
                let _ = timeout(*grace, leaving.closed()).await;
            }
            end
        });
        killed.store(matches!(end, End::Crashed(_)), Ordering::Relaxed);
        end
    }
}

/// The thread: runs one process after another, until told to stop or the handle is gone.
pub(super) fn serve(orders: &mpsc::Receiver<Message>, bell: &Notify, shared: &Arc<Shared>) {
    while let Ok(Message { order, done }) = orders.recv() {
        match order {
            Order::Serve(process) => {
                drop(done);
                match process.run(orders, bell, shared) {
                    End::Crashed(done) | End::Leaving(_, done) => drop(done),
                    End::Stopped => return,
                }
            }
            Order::Stop => return,
            Order::Hang | Order::Resume | Order::Crash | Order::Leave(_) => {}
        }
    }
}

/// Carries out the orders for a running process. To hang, it waits for the next order without
/// giving the thread back, so that nothing else on this runtime can run.
async fn obey(orders: &mpsc::Receiver<Message>, bell: &Notify) -> End {
    let mut hung = false;
    loop {
        let next = if hung {
            orders.recv().ok()
        } else {
            match orders.try_recv() {
                Ok(message) => Some(message),
                Err(mpsc::TryRecvError::Disconnected) => None,
                Err(mpsc::TryRecvError::Empty) => {
                    bell.notified().await;
                    continue;
                }
            }
        };
        let Some(Message { order, done }) = next else {
            return End::Stopped;
        };
        match order {
            Order::Hang => hung = true,
            Order::Resume => hung = false,
            Order::Crash => return End::Crashed(done),
            Order::Leave(grace) => return End::Leaving(grace, done),
            Order::Stop => return End::Stopped,
            Order::Serve(_) => {}
        }
    }
}

/// What every connection of a process shares.
struct Calls {
    acceptor: TlsAcceptor,
    killed: Arc<AtomicBool>,
    /// Told once, when the connections are to go. Closed when all have gone.
    leaving: watch::Sender<()>,
}

async fn accept(listener: &TcpListener, calls: &Calls, shared: &Arc<Shared>) -> Infallible {
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            shared.count(|counters| counters.connections += 1);
            let socket = Socket { tcp: socket, killed: Arc::clone(&calls.killed) };
            let leaving = calls.leaving.subscribe();
            tokio::spawn(converse(socket, calls.acceptor.clone(), Arc::clone(shared), leaving));
        } else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
        }
    }
}

/// One connection. Its errors are the client's to report: the server has nobody to tell.
async fn converse(
    socket: Socket,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    mut leaving: watch::Receiver<()>,
) {
    let _active = shared.hold(|counters| &mut counters.active);
    if socket.tcp.set_nodelay(true).is_err() {
        return;
    }
    let Ok(stream) = acceptor.accept(socket).await else {
        return;
    };
    let session = stream.get_ref().1;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    let client = session.peer_certificates().and_then(|chain| chain.first());
    if let Some(client) = client {
        shared.note_client(client);
    }
    let identified = client.is_some();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    shared.count(|counters| {
        counters.full_handshakes += u64::from(!resumed);
        counters.resumed_handshakes += u64::from(resumed);
    });
    let service = service_fn(move |request| answer(Arc::clone(&shared), identified, request));
    let io = TokioIo::new(stream);
    // An error of `changed` is the end of the process, which ends this as well.
    if is_http2 {
        let builder = http2::Builder::new(TokioExecutor::new());
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = &mut connection => {}
            _ = leaving.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    } else {
        let mut connection = pin!(http1::Builder::new().serve_connection(io, service));
        tokio::select! {
            _ = &mut connection => {}
            _ = leaving.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

/// A TCP stream that ends as its process does: reset if that was killed, closed otherwise.
struct Socket {
    tcp: TcpStream,
    killed: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.killed.load(Ordering::Relaxed) {
            // Fails only for a socket that is reset already.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
