//! What handlers reply: a sink that writes straight into the connection's output.
//!
//! A handler says what it means (a map, a double) and the client gets it in what it speaks: RESP3
//! types come down to RESP2 as Redis brings them down. A command replies with exactly one element;
//! whoever opens an array, map, set or push writes as many elements as it announced. A handler that
//! fails midway is rolled back to a [`Mark`], so that only its error is seen.
//!
//! A few words can ask for more than there is memory (`SRANDMEMBER k -2000000000`, or `MGET` of one
//! large value many times), so a reply has a limit: beyond it strings are left out, and whoever
//! writes for long looks at [`Reply::is_full`]. It is no reply then, and its client is sent away.

use super::CommandError;
use crate::resp::Protocol;
use crate::resp::encode::{bulk, format_double, header, line};

#[cfg(test)]
mod tests;

/// The reply to one command, or to one after the other.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
    bytes_max: usize,
}

/// Where a reply stood: what was written since can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// A collection whose length is told when its elements are written: see [`Reply::set_len`].
#[derive(Debug)]
#[must_use = "a collection without its length breaks the protocol"]
pub struct Deferred {
    at: usize,
    kind: Kind,
}

/// The kinds of collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Array,
    Map,
    Set,
    Push,
}

impl<'a> Reply<'a> {
    /// A sink that appends to `out` what a client of `protocol` understands.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self::within(out, protocol, usize::MAX)
    }

    /// The same, as long as `out` holds no more than so many bytes.
    pub fn within(out: &'a mut Vec<u8>, protocol: Protocol, bytes_max: usize) -> Self {
        Self {
            out,
            protocol,
            bytes_max,
        }
    }

    /// Whether it has become more than it may be: what is written now may be left out.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.bytes_max < self.out.len()
    }

    /// What the client speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes what the client speaks, from here on (`HELLO`).
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status: a word or two of ours, never a client's.
    pub fn simple(&mut self, text: &str) {
        line(self.out, b'+', text.as_bytes());
    }

    /// An error.
    pub fn error(&mut self, error: &CommandError) {
        line(self.out, b'-', error.to_string().as_bytes());
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        header(self.out, b':', value);
    }

    /// The integer that a count is.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.int(value as i64);
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        if !self.is_full() {
            bulk(self.out, bytes);
        }
    }

    /// A string of ours.
    pub fn bulk_text(&mut self, text: &str) {
        bulk(self.out, text.as_bytes());
    }

    /// An integer as a string.
    pub fn bulk_int(&mut self, value: i64) {
        bulk(self.out, itoa::Buffer::new().format(value).as_bytes());
    }

    /// A string, or null if there is none.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Nothing, where a string could be (RESP2: the null string).
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Nothing, where an array could be (RESP2: the null array).
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// A double (RESP2: its text as a string), in the fewest digits that read back the same.
    pub fn double(&mut self, value: f64) {
        let text = format_double(value);
        match self.protocol {
            Protocol::Resp2 => bulk(self.out, &text),
            Protocol::Resp3 => line(self.out, b',', &text),
        }
    }

    /// A truth value (RESP2: 1 or 0).
    pub fn boolean(&mut self, value: bool) {
        match (self.protocol, value) {
            (Protocol::Resp2, value) => self.int(value.into()),
            (Protocol::Resp3, true) => self.out.extend_from_slice(b"#t\r\n"),
            (Protocol::Resp3, false) => self.out.extend_from_slice(b"#f\r\n"),
        }
    }

    /// An integer of any size in decimal digits (RESP2: as a string).
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => bulk(self.out, digits.as_bytes()),
            Protocol::Resp3 => line(self.out, b'(', digits.as_bytes()),
        }
    }

    /// A text for people to read, as it is (RESP2: a string): `INFO` and its kin.
    pub fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => bulk(self.out, text.as_bytes()),
            Protocol::Resp3 => {
                header(self.out, b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Opens an array of `len` elements.
    #[inline]
    pub fn array(&mut self, len: usize) {
        header(self.out, b'*', len as i64);
    }

    /// Opens a map of `len` pairs, each a key and its value (RESP2: an array of both in turn).
    pub fn map(&mut self, len: usize) {
        self.open(Kind::Map, len);
    }

    /// Opens a set of `len` elements (RESP2: an array).
    pub fn set(&mut self, len: usize) {
        self.open(Kind::Set, len);
    }

    /// Opens a message of `len` elements that answers no request (RESP2: an array).
    pub fn push(&mut self, len: usize) {
        self.open(Kind::Push, len);
    }

    fn open(&mut self, kind: Kind, len: usize) {
        let (byte, len) = kind.header(self.protocol, len);
        header(self.out, byte, len);
    }

    /// Opens an array whose length is not known yet.
    pub fn array_deferred(&mut self) -> Deferred {
        self.deferred(Kind::Array)
    }

    /// Opens a map whose number of pairs is not known yet.
    pub fn map_deferred(&mut self) -> Deferred {
        self.deferred(Kind::Map)
    }

    /// Opens a set whose number of elements is not known yet.
    pub fn set_deferred(&mut self) -> Deferred {
        self.deferred(Kind::Set)
    }

    fn deferred(&self, kind: Kind) -> Deferred {
        let at = self.out.len();
        Deferred { at, kind }
    }

    /// Tells the length of a collection, after its elements. Of several that are open, the one
    /// opened last comes first. Cost: the elements move by the few bytes of the header.
    pub fn set_len(&mut self, deferred: Deferred, len: usize) {
        let (byte, len) = deferred.kind.header(self.protocol, len);
        let mut bytes = Vec::with_capacity(24);
        header(&mut bytes, byte, len);
        self.out.splice(deferred.at..deferred.at, bytes);
    }

    /// Where the reply stands.
    pub fn mark(&self) -> Mark {
        Mark(self.out.len())
    }

    /// Puts a whole reply in at a mark, before what was written since.
    pub fn insert(&mut self, at: Mark, reply: &[u8]) {
        self.out.splice(at.0..at.0, reply.iter().copied());
    }

    /// Takes back all that was written since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.out.truncate(mark.0);
    }

    /// Whether something was written since `mark`.
    pub fn has_written_since(&self, mark: Mark) -> bool {
        mark.0 < self.out.len()
    }

    /// Appends replies that are encoded already, such as those of another node.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

impl Kind {
    /// The first byte and the length of a header.
    fn header(self, protocol: Protocol, len: usize) -> (u8, i64) {
        let len = len as i64;
        match (protocol, self) {
            (Protocol::Resp2, Self::Map) => (b'*', 2 * len),
            (Protocol::Resp2, _) | (_, Self::Array) => (b'*', len),
            (Protocol::Resp3, Self::Map) => (b'%', len),
            (Protocol::Resp3, Self::Set) => (b'~', len),
            (Protocol::Resp3, Self::Push) => (b'>', len),
        }
    }
}
