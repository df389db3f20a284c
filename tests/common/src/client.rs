//! A blocking connection to a server that speaks RESP.

use std::fmt;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Value, say};

/// No reply takes longer, or the test fails; longer than any wait that a test asks a server for.
const REPLY_LIMIT: Duration = Duration::from_mins(1);

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.stream.get_ref().peer_addr())
    }
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        let stream = BufReader::with_capacity(64 * 1024, stream);
        Ok(Self { stream })
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Panics
    /// When the connection breaks or what comes is not RESP: the test has nothing else to do.
    #[track_caller]
    pub fn run<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Value {
        match self.send(&[command]).and_then(|()| self.receive()) {
            Ok(reply) => reply,
            Err(error) => {
                say(&format!("{:?}: {error}", line(command)));
                panic!("{self:?}: {error}, after {}", line(command));
            }
        }
    }

    /// Sends commands in one write, without waiting for replies.
    pub fn send<A: AsRef<[u8]>>(&mut self, commands: &[impl AsRef<[A]>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            encode(command.as_ref(), &mut bytes);
        }
        self.send_raw(&bytes)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Waits for the next reply.
    pub fn receive(&mut self) -> io::Result<Value> {
        Value::read(&mut self.stream)
    }

    /// Sends all commands at once and waits for all their replies. Together they must fit the
    /// socket buffers, or both sides wait for each other.
    pub fn pipeline<A: AsRef<[u8]>>(
        &mut self,
        commands: &[impl AsRef<[A]>],
    ) -> io::Result<Vec<Value>> {
        self.send(commands)?;
        commands.iter().map(|_| self.receive()).collect()
    }
}

/// A command as a person would type it.
pub(crate) fn line<A: AsRef<[u8]>>(command: &[A]) -> String {
    let words = command
        .iter()
        .map(|word| word.as_ref().escape_ascii().to_string());
    words.collect::<Vec<_>>().join(" ")
}

fn encode<A: AsRef<[u8]>>(command: &[A], bytes: &mut Vec<u8>) {
    let head = |kind: char, len: usize| format!("{kind}{len}\r\n");
    bytes.extend_from_slice(head('*', command.len()).as_bytes());
    for word in command {
        let word = word.as_ref();
        bytes.extend_from_slice(head('$', word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}
