//! The server behind all peers: a process of its own, so that its CPU is told apart, and cheap, so
//! that the peers show.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use crate::veth::Veth;
use crate::wire;

/// The option of this program that makes it the server.
pub(crate) const SERVE: &str = "--serve";

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Serves at an address with any port, which it prints, until its parent ends.
pub(crate) fn serve(address: IpAddr) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    let record: &'static [u8] = wire::record().leak();
    runtime.block_on(async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind((address, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A client that breaks off ends its own connection and nothing else.
            spawn_local(async { drop(wire::answer_all(stream, record).await) });
        }
    })
}

/// The running server. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Backend {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Backend {
    /// Starts it, on the other host if there is one.
    pub(crate) fn start(veth: Option<&Veth>) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match veth {
            Some(veth) => veth.on_server(&program),
            None => Command::new(&program),
        };
        let address = veth.map_or(IpAddr::from([127, 0, 0, 1]), Veth::server);
        command.args([SERVE, &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse();
        let backend = Self { process, address: address.unwrap_or(([0, 0, 0, 0], 0).into()) };
        if backend.address.port() == 0 {
            return Err(io::Error::other("the server did not start"));
        }
        Ok(backend)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
