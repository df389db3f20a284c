//! Walking over a state, a piece at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::facts::Range;
use super::write::{Writer, kind_byte};
use super::{FORMAT, tag};
use crate::body::Kind;
use crate::codec::{put_origin, put_varint, put_version};
use crate::names::Kept;
use crate::position::Position;
use crate::slot::{Key, Slot};
use crate::state::State;
use crate::version::Version;

/// Keys of a slot: those with these tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The slot.
    pub slot: Slot,
    /// The lowest tag.
    pub first: u32,
    /// The highest tag, included.
    pub last: u32,
}

impl Span {
    /// All keys of a slot.
    pub const fn all(slot: Slot) -> Self {
        Self {
            slot,
            first: 0,
            last: u32::MAX,
        }
    }
}

/// What is left of a container.
#[derive(Clone, Debug)]
struct Run {
    slot: Slot,
    key: Box<[u8]>,
    kind: Kind,
    range: Range,
}

/// Where a walk stands. It stays valid whatever happens to the state, also after a restart.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Of the key that comes first.
    runs: VecDeque<Run>,
    spans: VecDeque<Span>,
    is_begun: bool,
}

impl Cursor {
    /// A walk over some keys.
    pub fn over(spans: impl IntoIterator<Item = Span>) -> Self {
        Self {
            runs: VecDeque::new(),
            spans: spans.into_iter().collect(),
            is_begun: false,
        }
    }

    /// Takes the span that comes next off a walk, for who writes pieces of something else.
    pub fn take_span(&mut self) -> Option<Span> {
        self.spans.pop_front()
    }
}

impl State {
    /// Whether a walk is over keys of this shard.
    pub fn has_all_of(&self, walk: &Cursor) -> bool {
        walk.spans.iter().all(|span| self.has_slot(span.slot))
    }

    /// A walk over all keys.
    pub fn walk(&self) -> Cursor {
        Cursor::over(self.slots().map(Span::all))
    }

    /// Writes a piece of about `budget` bytes; a single value may be larger. `version` is what this
    /// replica holds now. Returns where to go on, or `None` at the end.
    pub fn piece(
        &self,
        version: &Version,
        mut cursor: Cursor,
        budget: usize,
    ) -> (Bytes, Option<Cursor>) {
        let mut writer = Writer::new(&self.origins, &self.seed);
        if !cursor.is_begun && !self.reissued.is_empty() {
            writer.out.push(tag::REISSUED);
            writer.varint(self.reissued.len() as u64);
            for (&of, &again) in &self.reissued {
                writer.stamp(of);
                writer.stamp(again);
            }
        }
        cursor.is_begun = true;
        let budget = budget.max(1);
        while writer.len() < budget {
            let left = budget - writer.len();
            if let Some(run) = cursor.runs.pop_front() {
                let rest = self.write_run(run, &mut writer, left);
                cursor.runs.extend(rest);
            } else if let Some(span) = cursor.spans.pop_front() {
                let rest = self.write_span(span, &mut writer, (left, budget), &mut cursor.runs);
                if let Some(rest) = rest {
                    cursor.spans.push_front(rest);
                }
            } else {
                break;
            }
        }
        let mut bytes = vec![FORMAT];
        put_version(&mut bytes, version);
        put_varint(&mut bytes, writer.met.len() as u64);
        for &origin in &writer.met {
            put_origin(&mut bytes, origin);
        }
        bytes.append(&mut writer.out);
        let is_at_end = cursor.runs.is_empty() && cursor.spans.is_empty();
        (bytes.into(), (!is_at_end).then_some(cursor))
    }

    /// Writes keys of a span until `left` bytes are used, or one has containers that take more than
    /// `most`: these are put on the list of runs. Returns what is left of the span.
    fn write_span(
        &self,
        span: Span,
        writer: &mut Writer<'_>,
        (left, most): (usize, usize),
        runs: &mut VecDeque<Run>,
    ) -> Option<Span> {
        let Span { slot, first, last } = span;
        let keys = &self.slots[self.slot_index(slot)].keys;
        let end = writer.len().saturating_add(left);
        writer.out.push(tag::SPAN);
        writer.varint(slot.number().into());
        writer.varint(first.into());
        let (mut from, mut done) = (Some(first), last);
        'steps: while let Some(step) = from {
            let (things, next) = keys.step(step, &self.seed);
            for (at, &(tag, id)) in things.iter().enumerate() {
                if last < tag {
                    break 'steps;
                }
                let Some((name, kept)) = keys.at(id) else {
                    continue;
                };
                let left_out = writer.key(name, kept, most);
                runs.extend(left_out.into_iter().map(|kind| Run {
                    slot,
                    key: name.into(),
                    kind,
                    range: Range::all(kind),
                }));
                let is_last_of_tag = things.get(at + 1).is_none_or(|other| other.0 != tag);
                if is_last_of_tag && (end <= writer.len() || !runs.is_empty()) {
                    done = tag;
                    break 'steps;
                }
            }
            from = next.filter(|&next| next <= last);
        }
        writer.out.push(tag::END);
        writer.varint(done.into());
        (done < last).then(|| Span {
            slot,
            first: done + 1,
            last,
        })
    }

    /// Writes some of a container. Returns what is left of it.
    fn write_run(&self, run: Run, writer: &mut Writer<'_>, left: usize) -> Option<Run> {
        let key: Key<'_> = self.seed.key(&run.key);
        writer.out.push(tag::RUN);
        writer.varint(run.slot.number().into());
        writer.name(&run.key);
        writer.out.push(kind_byte(run.kind));
        let kept = self.key(&key);
        match kept {
            Some(kept) => writer.register_of(kept),
            None => writer.out.push(tag::END),
        }
        put_from(writer, &run.range);
        let body = match kept {
            Some(Kept::Full(state)) => state.body(run.kind),
            Some(Kept::Compact(_) | Kept::Counter(_)) | None => None,
        };
        let done = if let Some(body) = body {
            writer.body(body, &run.range, left)
        } else {
            writer.out.push(tag::END);
            run.range.clone()
        };
        put_until(writer, &done);
        let range = rest(&run.range, &done)?;
        Some(Run { range, ..run })
    }
}

fn put_from(writer: &mut Writer<'_>, range: &Range) {
    match range {
        Range::Names(first, _) => writer.varint((*first).into()),
        Range::Elements(after, _) => writer.some_position(after.as_ref()),
    }
}

fn put_until(writer: &mut Writer<'_>, range: &Range) {
    match range {
        Range::Names(_, last) => writer.varint((*last).into()),
        Range::Elements(_, until) => writer.some_position(until.as_ref()),
    }
}

/// What of a range is behind the part of it that is done.
fn rest(wanted: &Range, done: &Range) -> Option<Range> {
    let is_done = |wanted: &Option<Position>, done: &Option<Position>| wanted == done;
    match (wanted, done) {
        (Range::Names(_, last), Range::Names(_, done)) => {
            (done < last).then(|| Range::Names(done + 1, *last))
        }
        (Range::Elements(_, until), Range::Elements(_, done)) => {
            (!is_done(until, done)).then(|| Range::Elements(done.clone(), until.clone()))
        }
        (Range::Names(..), Range::Elements(..)) | (Range::Elements(..), Range::Names(..)) => None,
    }
}
