//! One HTTP request over TCP: how our own commands reach a node's admin port and the control port
//! of a playground.
//!
//! The request has no body, the answer ends with the connection, and both are bounded. What does
//! not answer in HTTP is an error, never an empty answer.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Such as 200.
    pub(crate) status: u16,
    /// What follows the head.
    pub(crate) body: String,
}

/// Sends `method path`, with a bearer token if one is given, and waits for so long for the answer.
pub(crate) fn exchange(
    address: impl ToSocketAddrs,
    (method, path): (&str, &str),
    token: Option<&str>,
    limit: Duration,
) -> io::Result<Answer> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n");
    if let Some(token) = token {
        let _ = write!(head, "Authorization: Bearer {token}\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    read(&bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "what answers there is no HTTP server",
        )
    })
}

/// Tries the addresses in turn.
fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The answer in these bytes, if they are one.
fn read(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Answer {
        status: status.parse().ok()?,
        body: body.to_owned(),
    })
}

/// Percent-encodes all but what may stand in a path and a query alike.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_nothing_else_is() {
        let answer = read(b"HTTP/1.0 404 Not Found\r\nserver: x\r\n\r\nno\r\n\r\nmore");
        let expected = Answer {
            status: 404,
            body: "no\r\n\r\nmore".to_owned(),
        };
        assert_eq!(answer, Some(expected));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "-ERR unknown command\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
