//! Catching up by state: asking a peer for what its log no longer has.
//!
//! One shard at a time is compared with the peer's, key ranges against sums: first each slot as a
//! whole, then parts of those that differ, and smaller parts of these, until a part is so small
//! that sending its keys costs no more than asking on. The keys of what differs are merged, what is
//! equal is noted as such. When there is nothing left, every key is at least up to what the peer
//! held at its first answer; that joins the version of the shard, and the ops since then come from
//! logs as ever, each skipped where a later piece has brought what it left behind.
//!
//! Both sides go on meanwhile. A cut loses what was asked and is not answered; what was merged is
//! found equal the next time, so a catch-up goes on where it was at the price of sums.
//!
//! What can go wrong: the peer is busy (it takes in state itself, or is ahead of its version): it
//! is asked again after a while. It dies while part of what it alone had is here: see
//! `delivery::catch_up`.

use std::collections::VecDeque;

use bytes::Bytes;
use crdt::{Span, Version};

use super::give::{KEYS_AT_ONCE, parts};
use super::{Accept, CONTROL_MAX, EVENTS_MAX, Event, Link};
use crate::proto::error::LinkError;
use crate::proto::message::{Answer, Ask, CATCH_UP_LEVEL, Content, Message};
use crate::proto::shards::{Compared, Merged, Shards, SpanSum};
use crate::proto::{Instant, Span as Lapse};

/// Questions that are open at once: so that the answers to one are on their way while those to
/// another are taken.
const ASKS_MAX: usize = 4;
/// Spans in a question, by what is asked.
const COMPARED_MAX: usize = 512;
const SPLIT_MAX: usize = 256;
const FETCHED_MAX: usize = 64;
/// Parts that a span which differs is split into.
const PARTS: u8 = 8;
/// A span of so few keys is sent rather than split.
const FEW_KEYS: u32 = 2;
/// Parts after which it is looked whether splitting is worth it: not where nearly all differ.
const PARTS_TRIED: u32 = 64;
/// Between two tries where a peer was busy.
const AGAIN_AFTER: Lapse = Lapse::from_ms(300);
/// A peer that compares nothing for so long is taken to have forgotten the question.
const PATIENCE: Lapse = Lapse::from_ms(10_000);
/// A piece may take longer: it is as large as its largest value. So after each that did not come in
/// time the next is waited for twice as long, up to 64 times.
const PIECE_PATIENCE: Lapse = Lapse::from_ms(60_000);
const DOUBLED_MAX: u32 = 6;

/// A question that is not answered to its end.
#[derive(Debug)]
struct Asked {
    id: u32,
    /// The parts of which sums are due; none if it is pieces.
    parts: VecDeque<Span>,
    is_split: bool,
}

/// A shard that is being caught up.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) shard: u16,
    /// What the peer held at its first answer.
    first: Option<Version>,
    to_compare: VecDeque<Span>,
    to_split: VecDeque<Span>,
    to_fetch: VecDeque<Span>,
    asked: VecDeque<Asked>,
    /// Parts that were compared, and how many of them differed.
    compared: u32,
    differing: u32,
    /// Bytes of answers.
    pub(super) bytes: u64,
    /// Slots that were to be compared, and those that are.
    pub(super) slots: u32,
    pub(super) slots_done: u32,
    began: Instant,
    heard: Instant,
}

impl Taking {
    fn splits(&self) -> bool {
        self.compared < PARTS_TRIED || self.differing * 4 < self.compared * 3
    }

    /// What is to be done about a span, of which the peer has `theirs` and we have so many keys.
    fn sort(&mut self, span: Span, theirs: SpanSum, own: u32, is_split: bool) {
        if is_split {
            self.compared += 1;
            self.differing += 1;
        }
        let few = theirs.sum.is_some() && theirs.keys <= FEW_KEYS;
        let has_too_much = KEYS_AT_ONCE <= own as usize;
        let is_fetched = !has_too_much && (own == 0 || few || !self.splits());
        if is_fetched || span.first == span.last {
            self.to_fetch.push_back(span);
        } else {
            self.to_split.push_back(span);
        }
    }

    /// The next spans to ask about, and how: in how many parts. What was found is dealt with before
    /// more is looked for, so that little waits.
    fn next(&mut self) -> Option<(u8, bool, Vec<Span>)> {
        let is_full = |queue: &VecDeque<Span>, count| count <= queue.len();
        let (queue, parts, is_split, max) = if is_full(&self.to_fetch, FETCHED_MAX) {
            (&mut self.to_fetch, 0, false, FETCHED_MAX)
        } else if is_full(&self.to_split, SPLIT_MAX) {
            (&mut self.to_split, PARTS, true, SPLIT_MAX)
        } else if !self.to_compare.is_empty() {
            (&mut self.to_compare, 1, false, COMPARED_MAX)
        } else if !self.asked.is_empty() && self.asked.iter().any(|asked| !asked.parts.is_empty()) {
            // More may come of what is asked: a question is worth a round trip.
            return None;
        } else if !self.to_split.is_empty() {
            (&mut self.to_split, PARTS, true, SPLIT_MAX)
        } else {
            (&mut self.to_fetch, 0, false, FETCHED_MAX)
        };
        let count = queue.len().min(max);
        let spans: Vec<Span> = queue.drain(..count).collect();
        (!spans.is_empty()).then_some((parts, is_split, spans))
    }

    fn waits_for_piece(&self) -> bool {
        self.asked
            .front()
            .is_some_and(|asked| asked.parts.is_empty())
    }

    /// When the peer is taken to have forgotten the question.
    fn gives_up_at(&self, late_pieces: u32) -> Instant {
        let patience = if self.waits_for_piece() {
            Lapse(PIECE_PATIENCE.0 << late_pieces.min(DOUBLED_MAX))
        } else {
            PATIENCE
        };
        self.heard + patience
    }

    fn is_done(&self) -> bool {
        self.asked.is_empty()
            && self.to_compare.is_empty()
            && self.to_split.is_empty()
            && self.to_fetch.is_empty()
    }
}

impl Link {
    /// Begins to catch up a shard if there is one to, asks on, and ends.
    pub(super) fn take_on(&mut self, now: Instant, shards: &mut dyn Shards) {
        if self.is_refused || self.talk.level < CATCH_UP_LEVEL {
            return;
        }
        if self.talk.taking.is_none()
            && !self.talk.unreachable.is_empty()
            && self.talk.take_at <= now
        {
            self.begin_to_take(now, shards);
        }
        let Some(taking) = &mut self.talk.taking else {
            return;
        };
        let (shard, peer) = (taking.shard, self.peer);
        let mut is_ours = false;
        shards.delivery(shard, &mut |delivery| is_ours = delivery.takes_from(peer));
        let is_silent = taking.gives_up_at(self.talk.late_pieces) <= now;
        if !is_ours || is_silent {
            self.talk.late_pieces += u32::from(is_silent && taking.waits_for_piece());
            self.stop_taking(now, shards);
            return;
        }
        while taking.asked.len() < ASKS_MAX && self.talk.control.len() < CONTROL_MAX {
            let Some((count, is_split, spans)) = taking.next() else {
                break;
            };
            self.talk.asks_sent += 1;
            let id = self.talk.asks_sent;
            let of_each = |&span: &Span| parts(span, count);
            let due = spans.iter().filter(|_| 0 < count).flat_map(of_each);
            taking.asked.push_back(Asked {
                id,
                parts: due.collect(),
                is_split,
            });
            let plain = |span: &Span| (span.slot.number(), span.first, span.last);
            self.talk.control.push_back(Message::Ask(Ask {
                id,
                shard,
                parts: count,
                spans: spans.iter().map(plain).collect(),
            }));
        }
        if taking.is_done() {
            self.end_taking(now, shards);
        }
    }

    /// When there is something to do about it.
    pub(super) fn takes_at(&self) -> Option<Instant> {
        if self.is_refused || self.talk.level < CATCH_UP_LEVEL {
            return None;
        }
        match &self.talk.taking {
            Some(taking) => Some(taking.gives_up_at(self.talk.late_pieces)),
            None if self.talk.unreachable.is_empty() => None,
            None => Some(self.talk.take_at),
        }
    }

    fn begin_to_take(&mut self, now: Instant, shards: &mut dyn Shards) {
        let (peer, talk) = (self.peer, &mut self.talk);
        for shard in talk.unreachable.clone() {
            let applied = &talk.outboxes[usize::from(shard)].peer.applied;
            let (mut lacks, mut begins) = (false, false);
            shards.delivery(shard, &mut |delivery| {
                lacks = !delivery.version().includes(applied);
                begins = lacks && delivery.begin_to_take(peer, now);
            });
            if !lacks {
                talk.unreachable.remove(&shard);
            }
            if !begins {
                continue;
            }
            let spans = shards.spans(shard);
            if spans.is_empty() {
                talk.unreachable.remove(&shard);
                shards.delivery(shard, &mut |delivery| delivery.stop_taking(peer));
                continue;
            }
            talk.taking = Some(Taking {
                shard,
                first: None,
                slots: spans.len() as u32,
                slots_done: 0,
                to_compare: spans.into(),
                to_split: VecDeque::new(),
                to_fetch: VecDeque::new(),
                asked: VecDeque::new(),
                compared: 0,
                differing: 0,
                bytes: 0,
                began: now,
                heard: now,
            });
            return;
        }
        self.talk.take_at = now + AGAIN_AFTER;
    }

    /// Gives up for now.
    pub(super) fn stop_taking(&mut self, now: Instant, shards: &mut dyn Shards) {
        let peer = self.peer;
        if let Some(taking) = self.talk.taking.take() {
            let shard = taking.shard;
            shards.delivery(shard, &mut |delivery| delivery.stop_taking(peer));
            self.talk.control.push_back(Message::Done(shard));
            // Two that ask each other would else meet again.
            let uneven = Lapse::from_ms(37 * u64::from(self.config.own.id()));
            self.talk.take_at = now + AGAIN_AFTER + uneven;
        }
    }

    fn end_taking(&mut self, now: Instant, shards: &mut dyn Shards) {
        let peer = self.peer;
        let Some(taking) = self.talk.taking.take() else {
            return;
        };
        let Taking { shard, bytes, .. } = taking;
        if let Some(first) = &taking.first {
            shards.caught_up(shard, first);
        }
        shards.delivery(shard, &mut |delivery| delivery.stop_taking(peer));
        self.talk.unreachable.remove(&shard);
        self.talk.control.push_back(Message::Done(shard));
        self.talk.dirty.insert(shard);
        self.talk.ack_at.get_or_insert(now);
        self.stats.caught_up += 1;
        let elapsed_ms = now.since(taking.began).ms();
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(Event::CaughtUp {
                shard,
                bytes,
                elapsed_ms,
            });
        }
    }

    /// Takes an answer.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        bytes: &Bytes,
        shards: &mut dyn Shards,
    ) -> Result<Accept, LinkError> {
        let (answer, piece) = Answer::decode(bytes)?;
        let (offset, length) = (answer.offset, bytes.len() as u64);
        if offset < self.talk.answers_taken {
            return Ok(Accept::Taken); // It has come before.
        }
        if self.talk.answers_taken < offset {
            // One is missing: what it was about is asked for again.
            self.stop_taking(now, shards);
        }
        if self.take_answer(now, answer, piece, shards)? == Accept::Later {
            return Ok(Accept::Later);
        }
        if let Some(taking) = &mut self.talk.taking {
            taking.bytes += length;
        }
        self.stats.state_bytes_received += length;
        self.talk.answers_taken = offset + length;
        self.take_on(now, shards);
        Ok(Accept::Taken)
    }

    fn take_answer(
        &mut self,
        now: Instant,
        answer: Answer,
        piece: Bytes,
        shards: &mut dyn Shards,
    ) -> Result<Accept, LinkError> {
        let peer = self.peer;
        let Some(taking) = &mut self.talk.taking else {
            return Ok(Accept::Taken);
        };
        let shard = taking.shard;
        let mut is_ours = false;
        shards.delivery(shard, &mut |delivery| is_ours = delivery.takes_from(peer));
        let Some(asked) = taking
            .asked
            .front_mut()
            .filter(|asked| is_ours && asked.id == answer.id)
        else {
            return Ok(Accept::Taken); // Nobody waits for it any more.
        };
        taking.heard = now;
        match answer.content {
            Content::Busy => self.stop_taking(now, shards),
            Content::Sums { version, sums } => {
                if asked.parts.len() < sums.len() {
                    return Err(LinkError::OutOfTurn("more sums than were asked for"));
                }
                let plain = |&(keys, sum): &(u32, u64)| SpanSum {
                    keys,
                    sum: (keys == 0 || sum != 0).then_some(sum),
                };
                let spans = asked.parts.iter().copied();
                let theirs: Vec<_> = spans.zip(sums.iter().map(plain)).collect();
                let Some(compared) = shards.compare(shard, &version, &theirs) else {
                    return Ok(Accept::Later);
                };
                asked.parts.drain(..theirs.len());
                let is_split = asked.is_split;
                if asked.parts.is_empty() {
                    taking.asked.pop_front();
                }
                taking.first.get_or_insert(version);
                for ((span, theirs), compared) in theirs.into_iter().zip(compared) {
                    taking.slots_done += u32::from(!is_split);
                    match compared {
                        Compared::Equal => taking.compared += u32::from(is_split),
                        Compared::Differs(own) => taking.sort(span, theirs, own, is_split),
                    }
                }
                shards.delivery(shard, &mut |delivery| delivery.has_taken());
            }
            Content::Piece { is_last } => {
                if !asked.parts.is_empty() {
                    return Err(LinkError::OutOfTurn("a piece, and sums were asked for"));
                }
                match shards.merge(shard, piece) {
                    Merged::Done => self.talk.late_pieces = 0,
                    Merged::Later => return Ok(Accept::Later),
                    Merged::Bad(why) => return Err(LinkError::Piece(why)),
                }
                shards.delivery(shard, &mut |delivery| delivery.has_taken());
                if is_last {
                    taking.asked.pop_front();
                }
            }
        }
        Ok(Accept::Taken)
    }
}
