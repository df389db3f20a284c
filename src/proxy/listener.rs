//! Accepting clients, and handing them to the threads that serve them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::connection::serve;
use super::{Server, room};
use crate::clock;
use crate::session::{Client, Facts, Session};

/// Connections that may wait for a thread to take them: more are refused by the system's backlog.
const HANDED_OUT_MAX: usize = 1024;

/// Why clients cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for clients on {address}: {error}: choose another with `bind` and `port`")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// What the system says.
    pub error: std::io::Error,
}

/// A socket that clients can connect to.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
}

impl Listener {
    /// Binds. Fails if the address is in use or not of this machine.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(4096)?;
            Ok(socket.into())
        };
        match bind() {
            Ok(socket) => Ok(Self { socket }),
            Err(error) => Err(BindError { address, error }),
        }
    }

    /// Where clients connect: with the port that the system has picked, if it was asked to.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts clients for ever, and gives them to the threads in turn.
    pub async fn run(self, server: Arc<Server>, threads: Vec<Thread>) -> std::io::Result<()> {
        let listener = TcpListener::from_std(self.socket)?;
        for turn in 0.. {
            let (mut stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, as a rule: some client has to leave first.
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            server.accepted.fetch_add(1, Ordering::Relaxed);
            if server.settings.read().clients_max <= server.clients.len() {
                server.refused.fetch_add(1, Ordering::Relaxed);
                let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
                let _ = stream.shutdown().await;
                continue;
            }
            let Some(client) = register(&server, &stream) else {
                continue;
            };
            let Some(stream) = stream.into_std().ok() else {
                continue;
            };
            let thread: &Thread = &threads[turn % threads.len()];
            if thread.sender.send((stream, client)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn register(server: &Server, stream: &TcpStream) -> Option<Arc<Client>> {
    stream.set_nodelay(true).ok()?;
    let id = server.client_id();
    let now_ms = clock::now_ms();
    let client = Arc::new(Client {
        id,
        address: stream.peer_addr().ok()?.to_string(),
        local: stream.local_addr().ok()?.to_string(),
        since_ms: now_ms,
        facts: parking_lot::Mutex::new(Facts {
            protocol: 2,
            queued: -1,
            ..Facts::default()
        }),
        active_ms: AtomicU64::new(now_ms),
        killed: AtomicBool::new(false),
        wake: tokio::sync::Notify::new(),
        waker: std::sync::OnceLock::new(),
    });
    server.clients.insert(id, Arc::clone(&client));
    Some(client)
}

/// How often limits are looked at that no command looks at.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

async fn keep_house(server: Arc<Server>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        room::keep(&server).await;
        server.drop_idle(clock::now_ms());
    }
}

/// A thread that serves clients.
#[derive(Debug)]
pub struct Thread {
    sender: mpsc::Sender<(std::net::TcpStream, Arc<Client>)>,
}

impl Thread {
    /// Starts one.
    pub fn start(server: Arc<Server>, number: usize) -> std::io::Result<Self> {
        let (sender, mut receiver) =
            mpsc::channel::<(std::net::TcpStream, Arc<Client>)>(HANDED_OUT_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let run = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                if number == 0 {
                    tokio::task::spawn_local(keep_house(Arc::clone(&server)));
                }
                while let Some((stream, client)) = receiver.recv().await {
                    let Ok(stream) = TcpStream::from_std(stream) else {
                        server.clients.remove(&client.id);
                        continue;
                    };
                    let open = server.settings.read().password.is_none();
                    let session = Session::new(client, open);
                    tokio::task::spawn_local(serve(Arc::clone(&server), stream, session));
                }
            });
        };
        std::thread::Builder::new()
            .name(format!("clients-{number}"))
            .spawn(run)?;
        Ok(Self { sender })
    }
}
