//! Answering a peer that catches up: sums and pieces of a shard's state, as it asks for them.
//!
//! Nothing is kept for it but its questions, and where the walk of the one stands that is being
//! answered. Answers have a lane of their own, so that they hold up no frame and no frame them; not
//! more than a window of bytes is under way, and not more a second than a rate; and each costs a
//! short hold of the shard. A shard that is ahead of its version, out of service, or takes in state
//! itself, is busy: the peer asks again later, or another.

use std::collections::VecDeque;

use bytes::Bytes;
use crdt::{Cursor, Slot, Span};

use super::{Link, Transmit};
use crate::proto::error::LinkError;
use crate::proto::message::{Answer, Ask, Content};
use crate::proto::shards::Shards;
use crate::proto::{Instant, Span as Lapse};

/// Questions that a peer may have open.
const ASKS_MAX: usize = 16;
/// Keys that are looked at under one hold of a shard.
pub(super) const KEYS_AT_ONCE: usize = 2_048;
/// Parts of spans that are looked at together.
const PARTS_AT_ONCE: usize = 1_024;

/// See the module. Begins anew with every connection.
#[derive(Debug, Default)]
pub(super) struct Giving {
    asks: VecDeque<Ask>,
    /// How many of the parts that the first asks for have been answered.
    done: usize,
    /// Where the walk of the first stands.
    walk: Option<Cursor>,
    /// Bytes of answers that were sent, and of those that the peer has taken.
    sent: u64,
    taken: u64,
    /// Whether an answer goes before the next frame.
    pub(super) is_first: bool,
    /// When the rate allows more.
    next_at: Instant,
}

/// Spans in a question.
const SPANS_MAX: usize = 1_024;

/// Equal parts of a span, in order: as many as asked for, unless it has fewer tags.
pub(super) fn parts(span: Span, count: u8) -> impl Iterator<Item = Span> {
    let Span { slot, first, last } = span;
    let tags = u64::from(last) - u64::from(first) + 1;
    let count = u64::from(count).clamp(1, tags);
    let at = move |part: u64| (u64::from(first) + tags * part / count) as u32;
    (0..count).map(move |part| Span {
        slot,
        first: at(part),
        last: if part + 1 == count {
            last
        } else {
            at(part + 1) - 1
        },
    })
}

impl Link {
    /// Takes a question.
    pub(super) fn asked(&mut self, ask: Ask) -> Result<(), LinkError> {
        self.check_shard(ask.shard)?;
        let is_bad =
            |&(slot, first, last): &(u16, u32, u32)| Slot::new(slot).is_none() || last < first;
        if SPANS_MAX < ask.spans.len() || ask.spans.iter().any(is_bad) {
            return Err(LinkError::OutOfTurn("a span that is none"));
        }
        if ASKS_MAX <= self.talk.giving.asks.len() {
            return Err(LinkError::OutOfTurn("too many questions"));
        }
        self.talk.giving.asks.push_back(ask);
        Ok(())
    }

    /// The peer asks for no more of a shard.
    pub(super) fn asked_enough(&mut self, shard: u16, shards: &mut dyn Shards) {
        let giving = &mut self.talk.giving;
        if giving.asks.front().is_some_and(|ask| ask.shard == shard) {
            (giving.done, giving.walk) = (0, None);
        }
        giving.asks.retain(|ask| ask.shard != shard);
        let peer = self.peer;
        shards.delivery(shard, &mut |delivery| delivery.stop_giving(peer));
    }

    /// The peer has taken so many bytes.
    pub(super) fn answers_taken(&mut self, bytes: u64) {
        let giving = &mut self.talk.giving;
        giving.taken = bytes.clamp(giving.taken, giving.sent);
    }

    /// When more may be answered, if anything is asked and it is the rate that holds it up.
    pub(super) fn answers_at(&self) -> Option<Instant> {
        let giving = &self.talk.giving;
        // One that is refused gets none: it is not to be woken for that, again and again.
        (!self.is_refused && !giving.asks.is_empty() && self.has_window()).then_some(giving.next_at)
    }

    fn has_window(&self) -> bool {
        let giving = &self.talk.giving;
        giving.sent - giving.taken < self.config.state_window_bytes as u64
    }

    /// The next answer, if there is one and the window and the rate allow it.
    pub(super) fn next_answer(
        &mut self,
        now: Instant,
        shards: &mut dyn Shards,
    ) -> Option<Transmit> {
        if now < self.talk.giving.next_at || !self.has_window() {
            return None;
        }
        let ask = self.talk.giving.asks.front()?;
        let (id, shard, peer) = (ask.id, ask.shard, self.peer);
        let mut may_give = false;
        shards.delivery(shard, &mut |delivery| {
            may_give = delivery.may_give(peer, now);
        });
        let answer = if may_give { self.answer(shards) } else { None };
        let (content, piece, is_over) =
            answer.unwrap_or_else(|| (Content::Busy, Bytes::new(), true));
        if content == Content::Busy {
            shards.delivery(shard, &mut |delivery| delivery.stop_giving(peer));
        }
        let giving = &mut self.talk.giving;
        if is_over {
            giving.asks.pop_front();
            (giving.done, giving.walk) = (0, None);
        }
        let offset = giving.sent;
        let bytes = Answer {
            offset,
            id,
            content,
        }
        .encode(&piece);
        let length = bytes.len() as u64;
        giving.sent += length;
        let per_s = self.config.state_bytes_per_s.max(1);
        let takes = Lapse(length.saturating_mul(1_000_000_000) / per_s);
        giving.next_at = giving.next_at.max(now) + takes;
        self.stats.state_bytes_sent += length;
        let lane = self.config.lanes.max(1) + 1;
        Some(Transmit::Frame { lane, bytes })
    }

    /// The next answer to the first question, the piece in it, and whether it is the last. `None`
    /// if the shard cannot be asked.
    fn answer(&mut self, shards: &mut dyn Shards) -> Option<(Content, Bytes, bool)> {
        let giving = &mut self.talk.giving;
        let ask = giving.asks.front()?;
        let shard = ask.shard;
        if ask.parts == 0 {
            let from = giving.walk.take();
            let from = from.unwrap_or_else(|| Cursor::over(spans_of(ask)));
            let (piece, rest) = shards.piece(shard, from)?;
            let is_last = rest.is_none();
            giving.walk = rest;
            return Some((Content::Piece { is_last }, piece, is_last));
        }
        let all = spans_of(ask).flat_map(|span| parts(span, ask.parts));
        let mut rest = all.skip(giving.done);
        let wanted: Vec<Span> = rest.by_ref().take(PARTS_AT_ONCE).collect();
        let (version, sums) = shards.sums(shard, &wanted, KEYS_AT_ONCE)?;
        giving.done += sums.len();
        let is_over = sums.len() == wanted.len() && rest.next().is_none();
        let sums = sums.iter().map(|sum| (sum.keys, sum.sum.unwrap_or(0)));
        let sums = sums.collect();
        Some((Content::Sums { version, sums }, Bytes::new(), is_over))
    }

    /// Lets others ask for what this peer has asked for.
    pub(super) fn stop_giving(&mut self, shards: &mut dyn Shards) {
        let peer = self.peer;
        for shard in 0..shards.count() {
            shards.delivery(shard, &mut |delivery| delivery.stop_giving(peer));
        }
    }
}

fn spans_of(ask: &Ask) -> impl Iterator<Item = Span> + '_ {
    ask.spans.iter().filter_map(|&(slot, first, last)| {
        Some(Span {
            slot: Slot::new(slot)?,
            first,
            last,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_of_a_span_in_order() {
        let slot = Slot::new(7).expect("a slot");
        for (first, last, count) in [
            (0, u32::MAX, 8),
            (0, u32::MAX, 1),
            (5, 5, 8),
            (5, 8, 8),
            (3, 13, 8),
        ] {
            let parts: Vec<Span> = parts(Span { slot, first, last }, count).collect();
            let tags = u64::from(last - first) + 1;
            assert_eq!(parts.len() as u64, tags.min(count.into()));
            assert_eq!(parts[0].first, first);
            assert_eq!(parts[parts.len() - 1].last, last);
            for pair in parts.windows(2) {
                assert_eq!(pair[0].last + 1, pair[1].first);
            }
        }
    }
}
