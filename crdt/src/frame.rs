//! Op frames: a run of ops of one origin of one shard, sealed once.
//!
//! The same bytes go into the log, to the other regions and, later, to disk and standbys. A frame
//! is validated whole when it is parsed, so that reading its ops cannot fail. Specified in
//! docs/protocol.md.

#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_effect, put_origin, put_varint, put_version};
use crate::effect::Effect;
use crate::origin::Origin;
use crate::stamp::{Stamp, Time};
use crate::version::Version;

/// The format that this build writes, and the only one that it reads.
const FORMAT: u8 = 1;
/// Bytes before the content: length, format, checksum.
const HEADER: usize = 4 + 1 + 4;
/// Bytes of the length in front.
const LENGTH: usize = 4;
/// A buffer that is larger is not kept for the next frame, bytes.
const KEPT_BYTES: usize = 1 << 17;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Their length is not what they say.
    Length,
    /// Another build wrote them, in this format.
    Format(u8),
    /// They have changed on their way.
    Checksum,
    /// They are not what a frame is made of.
    Content(DecodeError),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length => write!(f, "a frame's length is not what it says"),
            Self::Format(format) => {
                write!(
                    f,
                    "frame format {format} is not {FORMAT}, the one that this build reads"
                )
            }
            Self::Checksum => write!(f, "a frame's checksum is wrong"),
            Self::Content(error) => write!(f, "a frame is malformed: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<DecodeError> for FrameError {
    fn from(error: DecodeError) -> Self {
        Self::Content(error)
    }
}

/// A sealed frame. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    bytes: Bytes,
    shard: u16,
    origin: Origin,
    prev: Time,
    first: Time,
    last: Time,
    ops: u32,
    deps: Arc<Version>,
    /// Where the ops start.
    body: usize,
}

impl Frame {
    /// Takes bytes for a frame, if they are one. Costs a pass over them.
    pub fn parse(bytes: Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(&bytes);
        let length = reader.take(LENGTH)?.try_into().map(u32::from_le_bytes);
        if length.is_ok_and(|length| length as usize != bytes.len() - LENGTH) {
            return Err(FrameError::Length);
        }
        match reader.byte()? {
            FORMAT => {}
            other => return Err(FrameError::Format(other)),
        }
        let checksum = reader.take(4)?.try_into().map(u32::from_le_bytes);
        if checksum.ok() != Some(crc32c::crc32c(reader.rest())) {
            return Err(FrameError::Checksum);
        }
        let shard = u16::try_from(reader.varint()?)
            .map_err(|_| DecodeError::Bad("a shard's number is too large"))?;
        let origin = reader.origin()?;
        let prev = Time(reader.varint()?);
        let body = bytes.len() - reader.rest().len();
        let mut ops = RawOps {
            reader,
            time: prev,
            deps: None,
        };
        let (mut count, mut first) = (0, None);
        while let Some(raw) = ops.next()? {
            let mut effects = Effects {
                reader: raw,
                key: None,
            };
            while effects.read()?.is_some() {}
            ops.reader = effects.reader;
            first.get_or_insert(ops.time);
            count += 1;
        }
        let (last, deps) = (ops.time, ops.deps.unwrap_or_default());
        let first = first.ok_or(DecodeError::Bad("a frame has no ops"))?;
        Ok(Self {
            shard,
            origin,
            prev,
            first,
            last,
            ops: count,
            deps,
            body,
            bytes,
        })
    }

    /// Whose it is among the shards of a region.
    pub const fn shard(&self) -> u16 {
        self.shard
    }

    /// Who issued its ops.
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The time of the origin's op before the first of these.
    pub const fn prev(&self) -> Time {
        self.prev
    }

    /// The time of its first op.
    pub const fn first(&self) -> Time {
        self.first
    }

    /// The time of its last op.
    pub const fn last(&self) -> Time {
        self.last
    }

    /// How many ops it has.
    pub const fn ops(&self) -> u32 {
        self.ops
    }

    /// What its last op had seen of other origins, and so all of its ops.
    pub fn deps(&self) -> &Version {
        &self.deps
    }

    /// The bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, for whoever has no other use of it.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The same frame, in other memory, which it shares with `like` as far as they are alike.
    #[must_use]
    pub fn copied(mut self, mut memory: BytesMut, like: Option<&Self>) -> Self {
        memory.extend_from_slice(&self.bytes);
        self.bytes = memory.freeze();
        if let Some(like) = like.filter(|like| like.deps == self.deps) {
            self.deps = Arc::clone(&like.deps);
        }
        self
    }

    /// Its ops in order.
    pub fn iter(&self) -> Ops<'_> {
        let reader = Reader::new(self.bytes.get(self.body..).unwrap_or_default());
        Ops {
            origin: self.origin,
            raw: RawOps {
                reader,
                time: self.prev,
                deps: None,
            },
        }
    }
}

impl<'a> IntoIterator for &'a Frame {
    type Item = Op<'a>;
    type IntoIter = Ops<'a>;

    fn into_iter(self) -> Ops<'a> {
        self.iter()
    }
}

/// One op of a frame.
#[derive(Clone, Debug)]
pub struct Op<'a> {
    /// Its name and rank.
    pub stamp: Stamp,
    /// The last op of each other origin that its issuer had applied.
    pub deps: Arc<Version>,
    effects: Effects<'a>,
}

impl<'a> Op<'a> {
    /// What it does, in order.
    pub fn effects(&self) -> Effects<'a> {
        self.effects.clone()
    }
}

/// The ops of a frame.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    origin: Origin,
    raw: RawOps<'a>,
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        let reader = self
            .raw
            .next()
            .expect("a frame is validated when it is parsed")?;
        let effects = Effects { reader, key: None };
        let mut end = effects.clone();
        while end.next().is_some() {}
        self.raw.reader = end.reader;
        let stamp = Stamp {
            time: self.raw.time,
            origin: self.origin,
        };
        Some(Op {
            stamp,
            deps: self.raw.deps.clone().unwrap_or_default(),
            effects,
        })
    }
}

/// Heads of ops; whoever reads one moves the reader past its effects.
#[derive(Clone, Debug)]
struct RawOps<'a> {
    reader: Reader<'a>,
    time: Time,
    deps: Option<Arc<Version>>,
}

impl<'a> RawOps<'a> {
    /// Reads the head of the next op: returns where its effects start.
    fn next(&mut self) -> Result<Option<Reader<'a>>, DecodeError> {
        if self.reader.is_at_end() {
            return Ok(None);
        }
        let step = self.reader.varint()?;
        let time = self.time.0.checked_add(step).filter(|_| step != 0);
        self.time = Time(time.ok_or(DecodeError::Bad("times do not increase"))?);
        match (self.reader.byte()?, &self.deps) {
            (0, Some(_)) => {}
            (1, _) => self.deps = Some(Arc::new(self.reader.version()?)),
            _ => return Err(DecodeError::Bad("an op does not say what it had seen")),
        }
        Ok(Some(self.reader))
    }
}

/// The effects of an op.
#[derive(Clone, Debug)]
pub struct Effects<'a> {
    reader: Reader<'a>,
    key: Option<&'a [u8]>,
}

impl<'a> Effects<'a> {
    fn read(&mut self) -> Result<Option<Effect<'a>>, DecodeError> {
        let effect = self.reader.effect(self.key)?;
        if let Some(effect) = &effect
            && !effect.change.is_keyless()
        {
            self.key = Some(effect.key);
        }
        Ok(effect)
    }
}

impl<'a> Iterator for Effects<'a> {
    type Item = Effect<'a>;

    fn next(&mut self) -> Option<Effect<'a>> {
        self.read().expect("a frame is validated when it is parsed")
    }
}

/// The frame that a shard is writing: ops gather in it until somebody takes it.
#[derive(Debug)]
pub struct FrameWriter {
    shard: u16,
    origin: Origin,
    out: Vec<u8>,
    /// The time of the last op before this frame.
    prev: Time,
    /// The time of the first op in it.
    first: Time,
    /// The time of the last op, in this frame or before it.
    last: Time,
    /// Where the ops start.
    body: usize,
    ops: u32,
    /// Where the last op starts.
    op: usize,
    /// Where the key of the last effect of the open op is.
    key: Option<std::ops::Range<usize>>,
    in_op: bool,
    /// What the last op had seen, in this frame or before it.
    deps: Option<Arc<Version>>,
    /// Whether this frame says that.
    says_deps: bool,
}

impl FrameWriter {
    /// A writer for an origin that has issued nothing yet.
    pub const fn new(shard: u16, origin: Origin) -> Self {
        Self {
            shard,
            origin,
            out: Vec::new(),
            prev: Time::ZERO,
            first: Time::ZERO,
            last: Time::ZERO,
            body: 0,
            ops: 0,
            op: 0,
            key: None,
            in_op: false,
            deps: None,
            says_deps: false,
        }
    }

    /// How many ops wait to be sealed.
    pub const fn ops(&self) -> u32 {
        self.ops
    }

    /// How many bytes wait to be sealed.
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing waits to be sealed.
    pub const fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// Begins an op that has seen `deps`. Its time is above that of the last one.
    pub fn begin_op(&mut self, time: Time, deps: &Version) {
        debug_assert!(self.last < time && !self.in_op, "ops follow each other");
        if self.out.is_empty() {
            self.out.resize(HEADER, 0);
            put_varint(&mut self.out, self.shard.into());
            put_origin(&mut self.out, self.origin);
            put_varint(&mut self.out, self.last.0);
            self.body = self.out.len();
            self.prev = self.last;
            self.first = time;
        }
        self.op = self.out.len();
        put_varint(&mut self.out, time.0 - self.last.0);
        let is_same = self.deps.as_deref() == Some(deps);
        if is_same && self.says_deps {
            self.out.push(0);
        } else {
            self.out.push(1);
            put_version(&mut self.out, deps);
            self.says_deps = true;
        }
        if !is_same {
            self.deps = Some(Arc::new(deps.clone()));
        }
        self.last = time;
        self.in_op = true;
        self.key = None;
    }

    /// Adds an effect to the op.
    pub fn push(&mut self, effect: &Effect<'_>) {
        let before = self.key.clone().and_then(|span| self.out.get(span));
        let same_key = before == Some(effect.key);
        if let Some(key) = put_effect(&mut self.out, effect, same_key) {
            self.key = Some(key);
        }
    }

    /// Ends the op.
    pub fn end_op(&mut self) {
        self.out.push(0);
        self.ops += 1;
        self.in_op = false;
    }

    /// Seals what has gathered, if anything has.
    pub fn seal(&mut self) -> Option<Frame> {
        self.seal_in(BytesMut::new())
    }

    /// The same, in memory that has room for it, or gets some. Frames are kept for long, so they
    /// take up no more than they need; what they are written in first is warm, and used again.
    pub fn seal_in(&mut self, mut memory: BytesMut) -> Option<Frame> {
        if self.ops == 0 {
            return None;
        }
        write_header(&mut self.out);
        self.says_deps = false;
        let bytes = if self.out.len() <= KEPT_BYTES {
            memory.extend_from_slice(&self.out);
            self.out.clear();
            memory.freeze()
        } else {
            std::mem::take(&mut self.out).into_boxed_slice().into()
        };
        let frame = Frame {
            bytes,
            shard: self.shard,
            origin: self.origin,
            prev: self.prev,
            first: self.first,
            last: self.last,
            ops: std::mem::take(&mut self.ops),
            deps: self.deps.clone().unwrap_or_default(),
            body: self.body,
        };
        debug_assert_eq!(
            Frame::parse(frame.bytes.clone()).as_ref(),
            Ok(&frame),
            "read as written"
        );
        Some(frame)
    }

    /// Gives up the op that is open, if one is, and seals those before it. The writer has to be
    /// done with after that: what it knows is of the op that never was.
    pub fn abandon(&mut self) -> Option<Frame> {
        if !self.in_op {
            return self.seal();
        }
        let mut out = std::mem::take(&mut self.out);
        out.truncate(self.op);
        if std::mem::take(&mut self.ops) == 0 {
            return None;
        }
        write_header(&mut out);
        // It is called when something else has gone wrong: this must not panic in turn.
        Frame::parse(out.into()).ok()
    }
}

/// Fills in what stands before what the checksum covers.
fn write_header(out: &mut [u8]) {
    let checksum = crc32c::crc32c(out.get(HEADER..).unwrap_or_default());
    let length = (out.len() - LENGTH) as u32;
    let header = length
        .to_le_bytes()
        .into_iter()
        .chain([FORMAT])
        .chain(checksum.to_le_bytes());
    out.iter_mut().zip(header).for_each(|(to, from)| *to = from);
}
