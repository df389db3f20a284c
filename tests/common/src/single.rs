//! One `meridian serve`, without other regions.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::playground::{START_TRIES, StartError, stop};
use crate::{Client, Value, ports, say, wait_for};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A node that is stopped when dropped.
#[derive(Debug)]
pub struct SingleNode {
    binary: String,
    process: Child,
    address: SocketAddr,
    /// Its settings, and what it printed to stderr.
    folder: tempfile::TempDir,
}

impl SingleNode {
    /// Starts it with these settings (lines of TOML; the port is set) and waits until it answers.
    pub fn start(binary: &str, settings: &str) -> Result<Self, StartError> {
        let mut last = String::new();
        for _ in 0..START_TRIES {
            match Self::try_start(binary, settings) {
                Ok(started) => return Ok(started),
                Err(StartError(text)) if text.contains("in use") => last = text,
                Err(error) => return Err(error),
            }
        }
        Err(StartError(last))
    }

    fn try_start(binary: &str, settings: &str) -> Result<Self, StartError> {
        let port = ports::free(&[0]);
        let failed = |error: io::Error| StartError(format!("{binary}: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let file = folder.path().join("meridian.toml");
        fs::write(&file, format!("port = {port}\n{settings}\n")).map_err(failed)?;
        let process = spawn(binary, folder.path()).map_err(failed)?;
        let mut started = Self {
            binary: binary.to_owned(),
            process,
            address: ports::local(port),
            folder,
        };
        started.wait()?;
        Ok(started)
    }

    /// Kills the process, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Stops the process as an operator would.
    pub fn stop(&mut self) {
        stop(&mut self.process);
    }

    /// Starts it again, with the same settings in the same folder, and waits until it answers.
    pub fn start_again(&mut self) -> Result<(), StartError> {
        let spawned = spawn(&self.binary, self.folder.path());
        self.process = spawned.map_err(|error| StartError(error.to_string()))?;
        self.wait()
    }

    /// Where its settings are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait(&mut self) -> Result<(), StartError> {
        let (process, address) = (&mut self.process, self.address);
        let answers = wait_for(START_LIMIT, || {
            if matches!(process.try_wait(), Ok(Some(_))) {
                return Some(false);
            }
            let pong = Client::connect(address).ok()?.run(&["PING"]);
            (pong == Value::Simple(b"PONG".to_vec())).then_some(true)
        });
        if answers == Some(true) {
            Ok(())
        } else {
            Err(StartError(self.log()))
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it printed to stderr.
    pub fn log(&self) -> String {
        let text = fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn spawn(binary: &str, folder: &Path) -> io::Result<Child> {
    let stderr = File::options()
        .create(true)
        .append(true)
        .open(folder.join("stderr"))?;
    Command::new(binary)
        .args(["serve", "--config"])
        .arg(folder.join("meridian.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
}

impl Drop for SingleNode {
    fn drop(&mut self) {
        stop(&mut self.process);
        if thread::panicking() {
            say(&format!("what it logged:\n{}", self.log()));
        }
    }
}
