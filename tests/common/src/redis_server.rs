//! A real `redis-server`, to compare with.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Client, ports, wait_for};

/// Keeps nothing on disk; stopped when dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    address: SocketAddr,
    version: String,
}

impl RedisServer {
    /// Starts one on a free port; `None` when `redis-server` is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, with more options for its command line.
    pub fn start_with(options: &[&str]) -> Option<Self> {
        Command::new("redis-server")
            .arg("--version")
            .output()
            .ok()?;
        let port = ports::free(&[0]);
        let address = ports::local(port);
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .args(options)
            // SORT … ALPHA compares by locale; ours by bytes.
            .env("LC_ALL", "C")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let version = wait_for(Duration::from_secs(10), || {
            let info = Client::connect(address).ok()?.run(&["INFO", "server"]);
            let info = String::from_utf8_lossy(info.bytes()?).into_owned();
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix("redis_version:"))?;
            Some(line.to_owned())
        });
        if version.is_none() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let version = version?;
        Some(Self {
            process,
            address,
            version,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Such as `7.0.15`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
