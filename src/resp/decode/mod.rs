//! Requests, found in place in a read buffer.
//!
//! [`Decoder::next`] is called with the bytes that follow the last request. While a request is
//! incomplete the decoder remembers how far it came, so that nothing is looked at twice however
//! small the pieces in which it arrives; a request comes out as [`Span`]s into the buffer, and no
//! argument is copied or allocated. Whatever the bytes, it never panics, and how they are cut into
//! pieces changes neither the requests nor the errors.
//!
//! Bounds: a line has at most `limits::INLINE_BYTES_MAX` bytes, a command `limits::ARGUMENTS_MAX`
//! arguments, a request `limits::QUERY_BUFFER_BYTES_MAX` bytes; past any of them, and wherever
//! Redis 7 says so, there is a [`ProtocolError`], after which the connection has to be closed.
//! As in Redis, what stands in place of the line feed of a header or after an argument is skipped.

#![deny(clippy::indexing_slicing)]

use smallvec::SmallVec;

use crate::limits;

#[cfg(test)]
mod tests;

/// Arguments that a request holds without allocating: most commands have fewer.
const SPANS_INLINE: usize = 8;

/// What a request may be, at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Bytes of a request (`client-query-buffer-limit`), at most `limits::QUERY_BUFFER_BYTES_MAX`.
    pub request_bytes_max: usize,
    /// Whether the client may send more than it takes to authenticate.
    pub authenticated: bool,
}

/// Where an argument lies, counted from the first byte of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn new(start: usize, len: usize) -> Self {
        debug_assert!(start + len <= limits::QUERY_BUFFER_BYTES_MAX + limits::INLINE_BYTES_MAX);
        Self {
            start: start as u32,
            len: len as u32,
        }
    }

    /// The argument's bytes, of the buffer that was given to [`Decoder::next`].
    ///
    /// Panics when it is a shorter one.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer
            .get(start..start + self.len as usize)
            .expect("a request is read from the buffer it was decoded from")
    }
}

/// One request of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The arguments, the command's name first. **May be empty**: an empty line or array asks for
    /// nothing and gets no reply.
    pub spans: SmallVec<[Span; SPANS_INLINE]>,
    /// Bytes of the buffer that it takes up: where the next request starts.
    pub consumed: usize,
}

impl Request {
    /// The arguments, of the buffer that was given to [`Decoder::next`].
    ///
    /// Panics when it is a shorter one.
    pub fn arguments<'b>(&self, buffer: &'b [u8]) -> SmallVec<[&'b [u8]; SPANS_INLINE]> {
        self.spans.iter().map(|span| span.of(buffer)).collect()
    }
}

/// Why a client's bytes are not a request. Reply with `-ERR` and this text, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count of arguments is not a number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// The length of an argument is not a number, negative or too large.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An argument does not begin with its length.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// A count line that does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// A length line that does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// An inline command that does not end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A quote of an inline command that does not end, or with something right after it.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// More arguments than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulk,
    /// A longer argument than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulk,
    /// The request as a whole does not fit the query buffer. Redis closes without a word.
    #[error("Protocol error: request exceeds the query buffer limit")]
    RequestTooBig,
}

/// Reads the requests of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    stage: Stage,
    /// Bytes of the request that are dealt with.
    position: usize,
    /// Bytes of the line at `position` known not to end it.
    searched: usize,
    spans: SmallVec<[Span; SPANS_INLINE]>,
}

/// What comes next in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Its first byte.
    #[default]
    Start,
    /// The header of an argument; `left` are to come, this one included.
    Header { left: usize },
    /// The `len` bytes of an argument; `left` are to come, this one included.
    Argument { left: usize, len: usize },
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first request of `buffer`, or `None` until more of it has arrived.
    ///
    /// `buffer` begins where the last request ended; while this returns `None`, calls must be with
    /// the same bytes and more after them (wherever they may have moved to). The arguments of an
    /// inline command with quotes are unquoted in place. Cost: linear in the bytes that are new,
    /// those of arguments not counted.
    pub fn next(
        &mut self,
        buffer: &mut [u8],
        rules: Rules,
    ) -> Result<Option<Request>, ProtocolError> {
        if self.stage == Stage::Start {
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => return self.inline(buffer),
            }
        }
        self.multibulk(buffer, rules)
    }

    /// Bytes that `buffer` must at least hold, counted from the start of the request, before
    /// [`next`](Self::next) can return it: how much to make room for. The client says so, so it
    /// is no reason to set memory aside that it has not begun to fill.
    pub fn wanted(&self) -> usize {
        match self.stage {
            Stage::Start | Stage::Header { .. } => self.position + self.searched + 1,
            Stage::Argument { len, .. } => self.position + len + 2,
        }
    }

    fn multibulk(&mut self, buffer: &[u8], rules: Rules) -> Result<Option<Request>, ProtocolError> {
        loop {
            match self.stage {
                Stage::Start => {
                    let Some(line) = self.header(buffer, ProtocolError::MultibulkLine)? else {
                        return Ok(None);
                    };
                    let left = multibulk_count(line, rules)?;
                    self.pass(line.len() + 2);
                    if left == 0 {
                        return Ok(Some(self.finish()));
                    }
                    self.stage = Stage::Header { left };
                }
                Stage::Header { left } => {
                    let Some(line) = self.header(buffer, ProtocolError::BulkLine)? else {
                        return Ok(None);
                    };
                    let len = bulk_len(line, rules)?;
                    self.pass(line.len() + 2);
                    if rules.request_bytes_max < self.position + len + 2 {
                        return Err(ProtocolError::RequestTooBig);
                    }
                    self.stage = Stage::Argument { left, len };
                }
                Stage::Argument { left, len } => {
                    if buffer.len() < self.position + len + 2 {
                        return Ok(None);
                    }
                    self.spans.push(Span::new(self.position, len));
                    self.pass(len + 2);
                    if left == 1 {
                        return Ok(Some(self.finish()));
                    }
                    self.stage = Stage::Header { left: left - 1 };
                }
            }
        }
    }

    /// The line at the current position up to its carriage return, once the byte after that has
    /// arrived too; `too_long` if it does not end in time.
    #[inline]
    fn header<'b>(
        &mut self,
        buffer: &'b [u8],
        too_long: ProtocolError,
    ) -> Result<Option<&'b [u8]>, ProtocolError> {
        let rest = buffer.get(self.position..).unwrap_or_default();
        let end = match *rest {
            // Nearly all numbers have one digit or two.
            [a, b, b'\r', ..] if a != b'\r' && b != b'\r' => Some(2),
            [a, b, c, b'\r', ..] if a != b'\r' && b != b'\r' && c != b'\r' => Some(3),
            _ => self.search(rest, b'\r', too_long)?,
        };
        // The line feed has to be there as well.
        Ok(end.and_then(|end| rest.get(..=end + 1)?.get(..end)))
    }

    /// Where `rest` has its first `end`, remembering what has been searched in vain.
    fn search(
        &mut self,
        rest: &[u8],
        end: u8,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let unsearched = rest.get(self.searched..).unwrap_or_default();
        let found = memchr::memchr(end, unsearched).map(|at| self.searched + at);
        self.searched = found.unwrap_or(rest.len());
        if limits::INLINE_BYTES_MAX < self.searched {
            return Err(too_long);
        }
        Ok(found)
    }

    fn pass(&mut self, bytes: usize) {
        self.position += bytes;
        self.searched = 0;
    }

    /// Hands the request over and starts the next one.
    fn finish(&mut self) -> Request {
        self.stage = Stage::Start;
        self.searched = 0;
        Request {
            spans: std::mem::take(&mut self.spans),
            consumed: std::mem::take(&mut self.position),
        }
    }

    fn inline(&mut self, buffer: &mut [u8]) -> Result<Option<Request>, ProtocolError> {
        let Some(end) = self.search(buffer, b'\n', ProtocolError::InlineTooBig)? else {
            return Ok(None);
        };
        let line = buffer.get_mut(..end).unwrap_or_default();
        self.spans = split_line(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.pass(end + 1);
        Ok(Some(self.finish()))
    }
}

/// The number of arguments that `*<count>` announces; a negative one is none.
fn multibulk_count(line: &[u8], rules: Rules) -> Result<usize, ProtocolError> {
    let count = line
        .get(1..)
        .and_then(length)
        .ok_or(ProtocolError::MultibulkLength)?;
    let count = usize::try_from(count).unwrap_or(0);
    if limits::ARGUMENTS_MAX < count {
        return Err(ProtocolError::MultibulkLength);
    }
    if !rules.authenticated && limits::UNAUTHENTICATED_ARGUMENTS_MAX < count {
        return Err(ProtocolError::UnauthenticatedMultibulk);
    }
    Ok(count)
}

/// The number of bytes that `$<length>` announces.
fn bulk_len(line: &[u8], rules: Rules) -> Result<usize, ProtocolError> {
    let [b'$', digits @ ..] = line else {
        // Of an empty line, the carriage return stands where the dollar should.
        let got = line.first().copied().unwrap_or(b'\r');
        return Err(ProtocolError::ExpectedBulk(got));
    };
    let len = length(digits)
        .and_then(|len| usize::try_from(len).ok())
        .filter(|&len| len <= rules.bulk_bytes_max)
        .ok_or(ProtocolError::BulkLength)?;
    if !rules.authenticated && limits::UNAUTHENTICATED_BULK_BYTES_MAX < len {
        return Err(ProtocolError::UnauthenticatedBulk);
    }
    Ok(len)
}

/// A number as Redis takes it, with a quick way for the lengths that nearly all of them are.
#[inline]
fn length(digits: &[u8]) -> Option<i64> {
    match *digits {
        [a @ b'0'..=b'9'] => Some(i64::from(a - b'0')),
        [a @ b'1'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => crdt::parse_integer(digits),
    }
}

/// Splits an inline command into arguments, unquoting them in place; `None` if quotes do not match.
///
/// Double quotes know `\n \r \t \b \a \xHH` and take any other escaped byte as it is; single quotes
/// know `\'`; both may begin inside a word, and a closing one ends it.
/// Source: `sdssplitargs` of Redis.
fn split_line(line: &mut [u8]) -> Option<SmallVec<[Span; SPANS_INLINE]>> {
    let mut words = SmallVec::new();
    let mut read = 0;
    loop {
        while line.get(read).is_some_and(|&b| is_blank(b)) {
            read += 1;
        }
        if line.len() <= read {
            return Some(words);
        }
        let mut word = Word {
            start: read,
            write: read,
            read,
        };
        word.unquote(line)?;
        words.push(Span::new(word.start, word.write - word.start));
        read = word.read;
    }
}

/// A word of an inline command being unquoted: `start <= write <= read`.
struct Word {
    start: usize,
    write: usize,
    read: usize,
}

impl Word {
    fn unquote(&mut self, line: &mut [u8]) -> Option<()> {
        while let Some(&byte) = line.get(self.read) {
            self.read += 1;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' | b'\'' => {
                    self.quoted(line, byte)?;
                    // A closing quote is followed by a blank or by nothing.
                    let next = line.get(self.read).copied();
                    return next.is_none_or(is_blank).then_some(());
                }
                byte => self.put(line, byte),
            }
        }
        Some(())
    }

    /// Reads up to the closing `quote` and past it.
    fn quoted(&mut self, line: &mut [u8], quote: u8) -> Option<()> {
        loop {
            let rest = line.get(self.read..)?;
            let (byte, taken) = match *rest {
                [] => return None,
                [b, ..] if b == quote => {
                    self.read += 1;
                    return Some(());
                }
                [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
                [b'\\', b'x', high, low, ..]
                    if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    ((hex(high) << 4) | hex(low), 4)
                }
                [b'\\', escaped, ..] if quote == b'"' => (unescape(escaped), 2),
                [b, ..] => (b, 1),
            };
            self.read += taken;
            self.put(line, byte);
        }
    }

    fn put(&mut self, line: &mut [u8], byte: u8) {
        if let Some(place) = line.get_mut(self.write) {
            *place = byte;
        }
        self.write += 1;
    }
}

/// What C's `isspace` says.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.saturating_sub(b'A') + 10,
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}
