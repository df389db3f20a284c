//! RESP2 and RESP3 as a client sees them, written for tests: simple, strict, blocking.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test asks for one kind of reply"
)]

use std::fmt;
use std::io::{self, BufRead, Error, ErrorKind};

/// A reply.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `+`: a status such as `OK`.
    Simple(Vec<u8>),
    /// `-` and `!`: an error with its whole text.
    Error(String),
    /// `:`.
    Int(i64),
    /// `$`, and `=` without its format.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`.
    Nil,
    /// `*`.
    Array(Vec<Self>),
    /// `%`: pairs in the order they came.
    Map(Vec<(Self, Self)>),
    /// `~`: members in the order they came.
    Set(Vec<Self>),
    /// `,`: the text of a double.
    Double(String),
    /// `#`.
    Bool(bool),
    /// `(`: the digits of a big number.
    Big(String),
    /// `>`: out of band.
    Push(Vec<Self>),
}

impl Value {
    /// Reads one reply. Fails on anything that is not RESP, and at the end of the stream.
    pub fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let line = read_line(input)?;
        let (&kind, rest) = line.split_first().ok_or_else(|| malformed(&line))?;
        Ok(match kind {
            b'+' => Self::Simple(rest.to_vec()),
            b'-' => Self::Error(error_text(rest)),
            b':' => Self::Int(number(rest)?),
            b',' => Self::Double(text(rest)?),
            b'(' => Self::Big(text(rest)?),
            b'#' => Self::Bool(rest == b"t"),
            b'_' => Self::Nil,
            b'$' | b'!' | b'=' => match number(rest)? {
                -1 => Self::Nil,
                len => {
                    let body = read_body(input, len)?;
                    match kind {
                        b'!' => Self::Error(error_text(&body)),
                        b'=' => Self::Bulk(body.get(4..).unwrap_or_default().to_vec()),
                        _ => Self::Bulk(body),
                    }
                }
            },
            b'*' | b'~' | b'>' => match number(rest)? {
                -1 => Self::Nil,
                len => {
                    let items = (0..len)
                        .map(|_| Self::read(input))
                        .collect::<io::Result<_>>()?;
                    match kind {
                        b'~' => Self::Set(items),
                        b'>' => Self::Push(items),
                        _ => Self::Array(items),
                    }
                }
            },
            b'%' => {
                let pair = |_| Ok((Self::read(input)?, Self::read(input)?));
                Self::Map((0..number(rest)?).map(pair).collect::<io::Result<_>>()?)
            }
            _ => return Err(malformed(&line)),
        })
    }

    /// The text of an error reply.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes of a bulk, a status or a double.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) => Some(bytes),
            Self::Double(text) | Self::Big(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// An integer reply.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The number in an integer reply, or the one that a string spells.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            other => std::str::from_utf8(other.bytes()?).ok()?.parse().ok(),
        }
    }

    /// The elements of an array or a set; of a map, keys and values by turns.
    pub fn items(&self) -> Option<Vec<&Self>> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => {
                Some(items.iter().collect())
            }
            Self::Map(pairs) => Some(pairs.iter().flat_map(|(key, value)| [key, value]).collect()),
            _ => None,
        }
    }

    /// What stands under `name` in a map, or in a flat array of pairs.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let items = self.items()?;
        let pair = items
            .chunks_exact(2)
            .find(|pair| pair[0].bytes() == Some(name.as_bytes()))?;
        Some(pair[1])
    }
}

/// As redis-cli would show it, on one line.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(bytes) => write!(f, "{}", bytes.escape_ascii()),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Int(int) => write!(f, "{int}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Nil => write!(f, "(nil)"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Map(pairs) => f
                .debug_map()
                .entries(pairs.iter().map(|(k, v)| (k, v)))
                .finish(),
            Self::Set(items) => f.debug_set().entries(items).finish(),
            Self::Double(text) => write!(f, "(double) {text}"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Big(text) => write!(f, "(big) {text}"),
            Self::Push(items) => write!(f, "(push) {items:?}"),
        }
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(Error::new(
            ErrorKind::UnexpectedEof,
            "the server closed the connection",
        ));
    }
    if !line.ends_with(b"\r\n") {
        return Err(malformed(&line));
    }
    line.truncate(line.len() - 2);
    Ok(line)
}

fn read_body(input: &mut impl BufRead, len: i64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| malformed(b"negative length"))?;
    let mut body = vec![0; len + 2];
    input.read_exact(&mut body)?;
    if !body.ends_with(b"\r\n") {
        return Err(malformed(b"a body that does not end with CRLF"));
    }
    body.truncate(len);
    Ok(body)
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed(bytes))
}

/// An error may quote bytes of the client's that are no text.
fn error_text(bytes: &[u8]) -> String {
    text(bytes).unwrap_or_else(|_| bytes.escape_ascii().to_string())
}

fn number(bytes: &[u8]) -> io::Result<i64> {
    text(bytes)?.parse().map_err(|_| malformed(bytes))
}

fn malformed(line: &[u8]) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("not RESP: {}", line.escape_ascii()),
    )
}

#[cfg(test)]
mod tests {
    use super::Value;

    fn read(mut bytes: &[u8]) -> Value {
        let value = Value::read(&mut bytes).unwrap();
        assert!(bytes.is_empty(), "left over: {bytes:?}");
        value
    }

    #[test]
    fn reads_resp2() {
        assert_eq!(read(b"+OK\r\n"), Value::Simple(b"OK".to_vec()));
        assert_eq!(read(b"-ERR no\r\n"), Value::Error("ERR no".to_owned()));
        assert_eq!(read(b"$3\r\na\r\n\r\n"), Value::Bulk(b"a\r\n".to_vec()));
        assert_eq!(read(b"$-1\r\n"), Value::Nil);
        assert_eq!(read(b"*-1\r\n"), Value::Nil);
        let nested = Value::Array(vec![Value::Int(-1), Value::Array(vec![])]);
        assert_eq!(read(b"*2\r\n:-1\r\n*0\r\n"), nested);
    }

    #[test]
    fn reads_resp3() {
        let map = read(b"%1\r\n+a\r\n,1.5\r\n");
        assert_eq!(map.field("a").unwrap().number(), Some(1.5));
        assert_eq!(read(b"~1\r\n#t\r\n"), Value::Set(vec![Value::Bool(true)]));
        assert_eq!(read(b"=6\r\ntxt:hi\r\n"), Value::Bulk(b"hi".to_vec()));
        assert_eq!(read(b"_\r\n"), Value::Nil);
    }

    #[test]
    fn refuses_what_is_not_resp() {
        for bytes in [
            &b"?\r\n"[..],
            b"$3\r\nabcde\r\n",
            b":x\r\n",
            b"+OK\n",
            b"$-2\r\n",
            b"*1\r\n",
        ] {
            let mut input = bytes;
            assert!(Value::read(&mut input).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
