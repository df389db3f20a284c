//! `meridian playground`, started for a test and driven over its control port.
//!
//! A playground of one region is a single node. Ports are drawn at random and drawn again when
//! another process was faster.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{Client, Deadline, http, ports, say, wait_until};

/// From the start to the line `ready`; debug builds on a busy machine are slow.
const START_LIMIT: Duration = Duration::from_mins(1);
/// From SIGTERM to the end, before SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// When another process takes a port between our look and the bind.
pub(crate) const START_TRIES: usize = 5;

/// What to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Names of the regions, in order.
    pub regions: Vec<String>,
    /// `enterprise`, `non-clustered` or `oss`.
    pub policy: String,
    /// More flags of `meridian playground`, such as `--rtt 80ms`.
    pub flags: Vec<String>,
}

impl Setup {
    /// The regions `one`, `two`, `three`, … under the default policy.
    pub fn regions(count: usize) -> Self {
        let names = ["one", "two", "three", "four", "five"];
        Self {
            regions: names[..count].iter().map(ToString::to_string).collect(),
            policy: "enterprise".to_owned(),
            flags: Vec::new(),
        }
    }

    /// The same under another policy.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.policy);
        self
    }

    /// The same with more flags.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }
}

/// Why it did not start, with what it printed.
#[derive(Debug)]
pub struct StartError(pub String);

/// `GET /status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The regions.
    pub regions: Vec<RegionName>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The links, one entry a direction.
    pub links: Vec<Link>,
}

/// A region of a [`Status`].
#[derive(Clone, Debug, Deserialize)]
pub struct RegionName {
    /// Such as `eu-west`.
    pub name: String,
    /// 1 to 255.
    pub id: u8,
}

/// A node of a [`Status`].
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Such as `eu-west-1`.
    pub id: String,
    /// Its region's name.
    pub region: String,
    /// Its process, if there is one.
    pub pid: Option<u32>,
    /// Where clients connect.
    pub client_port: u16,
    /// Its admin port, if it runs.
    pub admin_port: Option<u16>,
    /// Where the token of that is.
    pub admin_dir: PathBuf,
    /// Whether the process runs.
    pub alive: bool,
}

/// A direction of a link in a [`Status`].
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// A region's name.
    pub from: String,
    /// Another's.
    pub to: String,
    /// Whether nothing passes.
    pub cut: bool,
}

/// A running playground; stopped when dropped.
#[derive(Debug)]
pub struct Playground {
    process: Child,
    setup: Setup,
    control: SocketAddr,
    first_port: u16,
    /// What it printed to stderr; the folder goes with it.
    folder: tempfile::TempDir,
}

impl Playground {
    /// Starts it and waits until it is ready.
    pub fn start(binary: &str, setup: &Setup) -> Result<Self, StartError> {
        let mut last = String::new();
        for _ in 0..START_TRIES {
            match Self::try_start(binary, setup) {
                Ok(started) => return Ok(started),
                Err(StartError(text)) if text.contains("in use") => last = text,
                Err(error) => return Err(error),
            }
        }
        Err(StartError(last))
    }

    fn try_start(binary: &str, setup: &Setup) -> Result<Self, StartError> {
        let offsets: Vec<u16> = (0..=setup.regions.len() as u16)
            .map(|region| region * 10)
            .collect();
        let control = ports::free(&offsets);
        let first_port = control + 10;
        let failed = |error: io::Error| StartError(format!("{binary}: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let log = File::create(folder.path().join("stderr")).map_err(failed)?;
        let mut process = Command::new(binary)
            .arg("playground")
            .args(["--regions", &setup.regions.join(",")])
            .args(["--policy", &setup.policy])
            .args(["--port", &first_port.to_string()])
            .args(["--control-port", &control.to_string()])
            .args(&setup.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stdout = process.stdout.take().expect("stdout is piped");
        let control = ports::local(control);
        let started = Self {
            process,
            setup: setup.clone(),
            control,
            first_port,
            folder,
        };
        match wait_ready(&lines_of(stdout)) {
            Ok(()) => Ok(started),
            Err(printed) => Err(StartError(format!(
                "not ready: {printed}\n{}",
                started.log()
            ))),
        }
    }

    /// How many regions it has.
    pub fn regions(&self) -> usize {
        self.setup.regions.len()
    }

    /// The name of a region, counted from 1.
    pub fn name(&self, region: usize) -> &str {
        &self.setup.regions[region - 1]
    }

    /// Where clients of a region, counted from 1, connect.
    pub fn address(&self, region: usize) -> SocketAddr {
        ports::local(self.first_port + 10 * (region as u16 - 1))
    }

    /// A connection to a region, counted from 1.
    ///
    /// # Panics
    /// When it does not accept any within a few seconds.
    #[track_caller]
    pub fn client(&self, region: usize) -> Client {
        let address = self.address(region);
        crate::wait_for(Duration::from_secs(10), || Client::connect(address).ok())
            .unwrap_or_else(|| panic!("{address} accepts no connection\n{}", self.log()))
    }

    /// Cuts the link between two regions, both directions.
    #[track_caller]
    pub fn cut(&self, a: usize, b: usize) {
        self.post(&format!("/links/{}/{}/cut", self.name(a), self.name(b)));
    }

    /// Cuts one direction.
    #[track_caller]
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.post(&format!(
            "/links/{}/{}/cut?one-way=true",
            self.name(from),
            self.name(to)
        ));
    }

    /// Heals the link between two regions.
    #[track_caller]
    pub fn heal(&self, a: usize, b: usize) {
        self.post(&format!("/links/{}/{}/heal", self.name(a), self.name(b)));
    }

    /// Heals all links.
    #[track_caller]
    pub fn heal_all(&self) {
        self.post("/links/heal");
    }

    /// Changes a link; `shape` is a query such as `rtt=80ms&loss=0.01`.
    #[track_caller]
    pub fn shape(&self, a: usize, b: usize, shape: &str) {
        self.post(&format!(
            "/links/{}/{}/shape?{shape}",
            self.name(a),
            self.name(b)
        ));
    }

    /// `kill`, `stop`, `start`, `pause` or `resume` of the first node of a region.
    #[track_caller]
    pub fn node(&self, region: usize, action: &str) {
        self.post(&format!("/nodes/{}-1/{action}", self.name(region)));
    }

    /// What it says of itself.
    #[track_caller]
    pub fn status(&self) -> Status {
        let text = http::request(self.control, "GET", "/status").expect("GET /status answers");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Whether these regions hold the same: nothing pending on links that `linked` says are up,
    /// and equal digests. Looks once.
    #[track_caller]
    pub fn in_sync(
        &self,
        clients: &mut [(usize, Client)],
        linked: impl Fn(usize, usize) -> bool,
    ) -> bool {
        let regions: Vec<usize> = clients.iter().map(|(region, _)| *region).collect();
        for (region, client) in clients.iter_mut() {
            let list = client.run(&["REGION", "LIST"]);
            let rows = list
                .items()
                .unwrap_or_else(|| panic!("REGION LIST: {list:?}"));
            for other in regions.iter().filter(|other| *other != region) {
                let name = self.name(*other).as_bytes();
                let is_row =
                    |row: &&&crate::Value| row.field("name").and_then(|n| n.bytes()) == Some(name);
                let Some(row) = rows.iter().find(is_row) else {
                    return false;
                };
                let pending = row.field("pending-ops").and_then(crate::Value::int);
                if linked(*region, *other) && pending != Some(0) {
                    return false;
                }
            }
        }
        let mut digests = clients
            .iter_mut()
            .map(|(_, client)| client.run(&["REGION", "DIGEST"]));
        let first = digests.next();
        digests.all(|digest| Some(&digest) == first.as_ref() && digest.error().is_none())
    }

    /// The last of what it printed to stderr.
    pub fn log(&self) -> String {
        let path: PathBuf = self.folder.path().join("stderr");
        let text = fs::read(path).unwrap_or_default();
        let from = text.len().saturating_sub(8 * 1024);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    #[track_caller]
    fn post(&self, path: &str) {
        if let Err(error) = http::request(self.control, "POST", path) {
            panic!("{error}\n{}", self.log());
        }
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        stop(&mut self.process);
        if thread::panicking() {
            say(&format!("what it logged:\n{}", self.log()));
        }
    }
}

/// SIGTERM, and SIGKILL if that is not enough.
pub(crate) fn stop(process: &mut Child) {
    let _ = kill_process(Pid::from_child(process), Signal::TERM);
    let ended = wait_until(STOP_LIMIT, || matches!(process.try_wait(), Ok(Some(_))));
    if !ended {
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Lines as they come, and for as long as they come: a full pipe would stop the process.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = sync_channel(64);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more once it is ready.
            let _ = sender.try_send(line);
        }
    });
    receiver
}

/// Until a line that starts with `ready`; else what was printed.
fn wait_ready(lines: &Receiver<String>) -> Result<(), String> {
    let deadline = Deadline::after(START_LIMIT);
    let mut printed = String::new();
    while let Ok(line) = lines.recv_timeout(deadline.left()) {
        if line.starts_with("ready") {
            return Ok(());
        }
        printed.push_str(&line);
        printed.push('\n');
    }
    Err(printed)
}
