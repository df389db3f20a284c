//! One `meridian serve`, without other regions.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::playground::{START_TRIES, StartError, stop};
use crate::{Client, Value, ports, say, wait_for};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A node that is stopped when dropped.
#[derive(Debug)]
pub struct SingleNode {
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
        let process = Command::new(binary)
            .args(["serve", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("stderr")).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let address = ports::local(port);
        let mut started = Self {
            process,
            address,
            folder,
        };
        let process = &mut started.process;
        let answers = wait_for(START_LIMIT, || {
            if matches!(process.try_wait(), Ok(Some(_))) {
                return Some(false);
            }
            let pong = Client::connect(address).ok()?.run(&["PING"]);
            (pong == Value::Simple(b"PONG".to_vec())).then_some(true)
        });
        if answers == Some(true) {
            Ok(started)
        } else {
            Err(StartError(started.log()))
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

impl Drop for SingleNode {
    fn drop(&mut self) {
        stop(&mut self.process);
        if thread::panicking() {
            say(&format!("what it logged:\n{}", self.log()));
        }
    }
}
