//! The node: commands gathered and sent many at a time, replies in their order.
//!
//! How many replies are waited for is bounded, and so is what has gathered: a node that is slow
//! makes us slow. Replies are short, so they fit what the system keeps for a connection while we
//! send.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::ImportError;
use crate::limits::KIB;
use crate::resp::encode;

/// Replies that may be waited for; past it, half of them are taken, so that what is sent meanwhile
/// goes many at a time.
const WAITING_MAX: usize = 512;
/// Bytes of commands that gather before they are sent.
const GATHERED_BYTES_MAX: usize = 256 * KIB;
/// Bytes of a reply: nothing that we ask has a longer one.
const REPLY_BYTES_MAX: u64 = 64 * KIB as u64;
/// How long a node may take to say anything.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// What a reply will be about.
#[derive(Debug)]
pub(super) enum Sent {
    /// A key, and what it holds.
    Key { key: Vec<u8>, kind: &'static str },
    /// More of a key that is there.
    Rest,
}

/// Why there is nothing to talk to.
#[derive(Debug)]
pub(super) enum TargetError {
    Connection(io::Error),
    Refused(String),
}

impl From<io::Error> for TargetError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl TargetError {
    /// With the address of the node.
    pub(super) fn at(self, address: &str) -> ImportError {
        let address = address.to_owned();
        match self {
            Self::Connection(source) => ImportError::Connection { address, source },
            Self::Refused(line) => ImportError::Refused { address, line },
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Target {
    stream: BufReader<TcpStream>,
    gathered: Vec<u8>,
    waiting: VecDeque<Sent>,
}

impl Target {
    /// Connects, says the password if there is one, and asks for a sign of life.
    pub(super) fn connect(address: &str, password: Option<&str>) -> Result<Self, TargetError> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let mut target = Self {
            stream: BufReader::new(stream),
            gathered: Vec::new(),
            waiting: VecDeque::new(),
        };
        if let Some(password) = password {
            target.put(&["AUTH", password], Sent::Rest);
        }
        target.put(&["PING"], Sent::Rest);
        while let Some((_, error)) = target.settle(0)? {
            if let Some(line) = error {
                return Err(TargetError::Refused(line));
            }
        }
        Ok(target)
    }

    /// Adds a command to what has gathered.
    pub(super) fn put(&mut self, words: &[impl AsRef<[u8]>], about: Sent) {
        encode::header(&mut self.gathered, b'*', words.len() as i64);
        for word in words {
            encode::bulk(&mut self.gathered, word.as_ref());
        }
        self.waiting.push_back(about);
    }

    /// Whether no more should be put before replies are taken, down to [`Self::LOW`].
    pub(super) fn is_full(&self) -> bool {
        WAITING_MAX < self.waiting.len() || GATHERED_BYTES_MAX <= self.gathered.len()
    }

    /// How many replies may be waited for after a full target was settled.
    pub(super) const LOW: usize = WAITING_MAX / 2;

    /// Sends what has gathered, and returns a reply with what it is about while more than `waiting`
    /// are waited for: an error without its sign, if it is one.
    pub(super) fn settle(
        &mut self,
        waiting: usize,
    ) -> Result<Option<(Sent, Option<String>)>, TargetError> {
        if !self.gathered.is_empty() {
            self.stream.get_mut().write_all(&self.gathered)?;
            self.gathered.clear();
        }
        if self.waiting.len() <= waiting {
            return Ok(None);
        }
        let error = self.reply()?;
        Ok(self.waiting.pop_front().map(|sent| (sent, error)))
    }

    /// Takes a reply: a line, or an array of them.
    fn reply(&mut self) -> Result<Option<String>, TargetError> {
        let mut wanted: u64 = 1;
        let mut error = None;
        while 0 < wanted {
            wanted -= 1;
            let mut line = Vec::new();
            let mut limited = io::Read::take(&mut self.stream, REPLY_BYTES_MAX);
            limited.read_until(b'\n', &mut line)?;
            let line = line.strip_suffix(b"\r\n").unwrap_or_default();
            let text = String::from_utf8_lossy(line.get(1..).unwrap_or_default());
            match line.first() {
                Some(b'+' | b':') => {}
                Some(b'-') => error = Some(text.into_owned()),
                Some(b'*') => wanted += text.parse().unwrap_or(0).min(REPLY_BYTES_MAX),
                Some(_) => {
                    let what = "what answers does not speak the protocol of Redis";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
                }
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
        Ok(error)
    }
}
