//! The nodes of a playground: processes that are started, stopped, killed, paused and resumed.
//!
//! A node never outlives the playground: it ends with its parent. A signal only goes to a process
//! that has not been waited for, so never to a stranger with the same id.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::admin;

/// How long a node may take until it answers; a debug build on a busy machine is slow.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a node may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long one `PING` may take.
const PING_LIMIT: Duration = Duration::from_secs(1);
/// Between two looks at a process that starts or ends.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why a node is not in the state that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It runs already, or does not run: the request makes no sense now.
    #[error("{node} {what}")]
    State {
        /// Which.
        node: String,
        /// What it does, such as `runs already`.
        what: &'static str,
    },
    /// It ended before it answered: its settings, its port, or a crash.
    #[error("{node} ended before it answered ({status}): {said}")]
    Ended {
        /// Which.
        node: String,
        /// How.
        status: ExitStatus,
        /// The line of its stderr that says why.
        said: String,
    },
    /// It is there but does not do what it should in time.
    #[error("{node} {what} within {limit:?}")]
    Late {
        /// Which.
        node: String,
        /// What it does not do.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// Something else has its port: choose others for the playground.
    #[error("{node} cannot have port {port}: {cause}")]
    Port {
        /// Which.
        node: String,
        /// The port for its clients.
        port: u16,
        /// What the system says.
        cause: io::Error,
    },
    /// The operating system refuses a process or a signal.
    #[error("{node}: {cause}")]
    System {
        /// Which.
        node: String,
        /// What it says.
        cause: io::Error,
    },
}

/// A node, whether it runs or not.
#[derive(Debug)]
pub(super) struct Node {
    /// Such as `us-east-1`.
    pub(super) id: String,
    /// Its region's name.
    pub(super) region: String,
    /// Where it answers clients, on loopback.
    pub(super) client_port: u16,
    /// Its file of settings.
    config: PathBuf,
    /// Flags that win over the file.
    flags: Vec<String>,
    /// Held by who changes its state, so that one does at a time.
    turn: tokio::sync::Mutex<()>,
    process: Mutex<Option<Process>>,
}

/// A process that has been started and not waited for.
#[derive(Debug)]
struct Process {
    child: Child,
    stderr: JoinHandle<()>,
    said: Arc<Mutex<String>>,
}

impl Node {
    /// A node that does not run yet.
    pub(super) fn new(region: &super::plan::Region, config: PathBuf, flags: Vec<String>) -> Self {
        Self {
            id: region.node.clone(),
            region: region.name.clone(),
            client_port: region.client_port,
            config,
            flags,
            turn: tokio::sync::Mutex::default(),
            process: Mutex::default(),
        }
    }

    /// The id of its process, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        let mut process = self.process.lock();
        let process = process.as_mut()?;
        matches!(process.child.try_wait(), Ok(None)).then(|| process.child.id())
    }

    /// Where its files are: its settings, and the token of its admin port.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.config.parent()
    }

    /// Its admin port, if it runs.
    pub(super) fn admin_port(&self) -> Option<u16> {
        self.pid()?;
        let file = self.folder()?.join(admin::ADDRESS_FILE);
        let address = std::fs::read_to_string(file).ok()?;
        let address: SocketAddr = address.trim_end().parse().ok()?;
        Some(address.port())
    }

    /// How it ended, if it did so by itself since the last look.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        let _turn = self.turn.try_lock().ok()?;
        self.reap().map(|(status, _)| status)
    }

    /// Starts it and waits until it serves clients.
    pub(super) async fn start(&self) -> Result<(), NodeError> {
        let _turn = self.turn.lock().await;
        if self.pid().is_some() {
            return Err(self.state("runs already"));
        }
        self.reap();
        self.check_port()?;
        let process = self.spawn().map_err(|cause| self.system(cause))?;
        *self.process.lock() = Some(process);
        let answers = async {
            loop {
                if let Some((status, said)) = self.reap() {
                    return Err(NodeError::Ended {
                        node: self.id.clone(),
                        status,
                        said,
                    });
                }
                if serves(self.client_port).await {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let late = self.late("does not serve clients", START_LIMIT);
        timeout(START_LIMIT, answers).await.unwrap_or(Err(late))
    }

    /// Stops it cleanly, even if it is paused.
    pub(super) async fn stop(&self) -> Result<(), NodeError> {
        let _turn = self.turn.lock().await;
        self.signal(Signal::TERM)?;
        self.signal(Signal::CONT)?;
        if self.ends_within(STOP_LIMIT).await {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        self.ends_within(STOP_LIMIT).await;
        Err(self.late("has not stopped and was killed", STOP_LIMIT))
    }

    /// Kills it.
    pub(super) async fn kill(&self) -> Result<(), NodeError> {
        let _turn = self.turn.lock().await;
        self.signal(Signal::KILL)?;
        let has_ended = self.ends_within(STOP_LIMIT).await;
        if has_ended {
            Ok(())
        } else {
            Err(self.late("has not ended", STOP_LIMIT))
        }
    }

    /// Makes it stand still as it is.
    pub(super) fn pause(&self) -> Result<(), NodeError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn resume(&self) -> Result<(), NodeError> {
        self.signal(Signal::CONT)
    }

    fn spawn(&self) -> io::Result<Process> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .args(["--exit-with-parent", &std::process::id().to_string()])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C at the terminal is for us, who stop it then.
            .process_group(0)
            .spawn()?;
        let said = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let (id, heard) = (self.id.clone(), Arc::clone(&said));
        let stderr = thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || pass_on(&id, stderr, &heard))?;
        Ok(Process {
            child,
            stderr,
            said,
        })
    }

    /// Takes leave of a process that has ended: how it ended, and the last that it said.
    fn reap(&self) -> Option<(ExitStatus, String)> {
        let mut process = self.process.lock();
        let status = process.as_mut()?.child.try_wait().ok()??;
        let Process { stderr, said, .. } = process.take()?;
        drop(process);
        // Its end of the pipe is closed, so the thread is about to end.
        let _ = stderr.join();
        let said = said.lock().clone();
        Some((status, said))
    }

    async fn ends_within(&self, limit: Duration) -> bool {
        let has_ended = async {
            while self.reap().is_none() {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(limit, has_ended).await.is_ok()
    }

    fn signal(&self, signal: Signal) -> Result<(), NodeError> {
        let mut process = self.process.lock();
        let process = process.as_mut().ok_or_else(|| self.state("does not run"))?;
        // While it has not been waited for, its id is its own.
        if !matches!(process.child.try_wait(), Ok(None)) {
            return Err(self.state("does not run"));
        }
        kill_process(Pid::from_child(&process.child), signal)
            .map_err(|error| self.system(error.into()))
    }

    fn state(&self, what: &'static str) -> NodeError {
        NodeError::State {
            node: self.id.clone(),
            what,
        }
    }

    fn late(&self, what: &'static str, limit: Duration) -> NodeError {
        NodeError::Late {
            node: self.id.clone(),
            what,
            limit,
        }
    }

    fn system(&self, cause: io::Error) -> NodeError {
        NodeError::System {
            node: self.id.clone(),
            cause,
        }
    }

    /// Whoever else answers on its port must not be taken for it.
    fn check_port(&self) -> Result<(), NodeError> {
        let port = self.client_port;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(()),
            Err(cause) => Err(NodeError::Port {
                node: self.id.clone(),
                port,
                cause,
            }),
        }
    }
}

/// Whether something there speaks RESP and is done loading; a demand for a password will do.
async fn serves(port: u16) -> bool {
    let ping = async {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
        let mut reply = [0; 8];
        stream.read_exact(&mut reply[..7]).await?;
        io::Result::Ok(reply)
    };
    match timeout(PING_LIMIT, ping).await {
        Ok(Ok(reply)) => reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH"),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Passes a node's stderr on to ours, and keeps the line that says why it ended.
fn pass_on(id: &str, stderr: ChildStderr, said: &Mutex<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        // A closed stderr of ours must not stop the node.
        let _ = writeln!(io::stderr(), "{id}: {line}");
        let mut said = said.lock();
        // After a usage error comes advice, of more lines than one.
        if !said.starts_with("error: ") && !line.trim().is_empty() {
            *said = line;
        }
    }
}
