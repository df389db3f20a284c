//! Taking in another region's state, and handing out ours (`geo::proto::Link`).
//!
//! While part of the shard is ahead of its version, it goes on: ops issued here have seen what the
//! version says and no more, so what would be decided from a key of which a piece has told is
//! refused until its ops have come ([`Txn::is_ahead_at`](super::Txn::is_ahead_at)); nothing is
//! removed for being past its deadline, and who waits for a key waits on. Its own state is not
//! exact then, and is not handed out.
//!
//! What came as state is in no frame. The log knows that, so a third region that asks for it is
//! told that it does not reach back. A log that goes to disk has it among its frames ([`Intake`]):
//! a start takes it in again between the ops between which it came. Snapshots wait until the shard
//! is exact again, for they hold nothing that is not.

use crdt::{Cursor, Piece, Span, State, Time, Version};
use geo::proto::{Compared, Merged, SpanSum};

use bytes::Bytes;

use super::Shard;
use crate::limits;
use crate::oplog::intake::Intake;

/// Keys of a span that are looked at, here and there.
const KEYS_MAX: usize = 2_048;

impl Shard {
    /// Whether part of it is ahead of its version.
    pub fn is_ahead(&self) -> bool {
        self.state.is_ahead()
    }

    /// What its keys are walked by; nothing if it takes in no state.
    pub fn spans(&self) -> Vec<Span> {
        if !self.is_in_service() {
            return Vec::new();
        }
        self.state.slots().map(Span::all).collect()
    }

    /// The sums of the first of these spans, as many as have about so many keys and at least one,
    /// and the version that they are at. `None` if the shard is not exact.
    pub fn span_sums(&mut self, spans: &[Span], keys: usize) -> Option<(Version, Vec<SpanSum>)> {
        let are_ours = spans.iter().all(|span| self.state.has_slot(span.slot));
        if !are_ours || !self.can_give() {
            return None;
        }
        let (mut sums, mut looked) = (Vec::new(), 0);
        for &span in spans {
            if keys <= looked {
                break;
            }
            let sum = sum(&self.state, span);
            looked += sum.keys as usize + 1;
            sums.push(sum);
        }
        Some((self.log.ends().clone(), sums))
    }

    /// The last op of each origin that it holds.
    pub const fn holds(&self) -> &Version {
        self.log.ends()
    }

    /// Drops the oldest frames of its log until these are no more than so many bytes, as if the
    /// budget were used up.
    pub fn trim_log(&mut self, bytes: u64) {
        self.seal();
        self.log.trim(bytes);
    }

    /// The next piece of a walk. `None` if the shard is not exact.
    pub fn state_piece(&mut self, from: Cursor) -> Option<(Bytes, Option<Cursor>)> {
        if !self.state.has_all_of(&from) || !self.can_give() {
            return None;
        }
        let piece = self.state.piece(self.log.ends(), from, limits::PIECE_BYTES);
        Some(piece)
    }

    fn can_give(&mut self) -> bool {
        self.seal(); // What is issued is part of the version.
        self.is_in_service() && !self.is_ahead()
    }

    /// Compares spans with those of a peer at a version. `None` if that is too far ahead of our
    /// clock.
    pub fn compare(
        &mut self,
        version: &Version,
        theirs: &[(Span, SpanSum)],
        now_ms: u64,
    ) -> Option<Vec<Compared>> {
        if !self.is_in_service() || self.delivery.is_too_early(version, now_ms) {
            return None;
        }
        self.seal();
        let mut equal = Vec::new();
        let compare = |&(span, theirs): &(Span, SpanSum)| {
            let own = sum(&self.state, span);
            if own.sum.is_some() && own == theirs {
                equal.push(span);
                Compared::Equal
            } else {
                Compared::Differs(own.keys)
            }
        };
        let compared = theirs.iter().map(compare).collect();
        for &span in &equal {
            self.state.agree(span, version);
        }
        if !equal.is_empty() {
            self.note(Intake::Equal(version.clone(), equal));
        }
        self.delivery.was_shown(version);
        self.follow(version);
        self.serve(now_ms);
        Some(compared)
    }

    /// Takes in a piece.
    pub fn merge_piece(&mut self, bytes: Bytes, now_ms: u64) -> Merged {
        if limits::INTAKE_BYTES_MAX < self.log.intake_bytes() {
            return Merged::Later; // The disk has to take what is here first.
        }
        let piece = match Piece::parse(bytes.clone()) {
            Ok(piece) => piece,
            Err(error) => return Merged::Bad(error.to_string()),
        };
        if self.delivery.is_too_early(piece.version(), now_ms) {
            return Merged::Later;
        }
        self.seal();
        let mine = self.log.ends().clone();
        let merged = self.guarded("taking in state", |shard| shard.state.merge(&piece, &mine));
        match merged {
            None => return Merged::Done, // Nobody asks for more of it.
            Some(Ok(())) => self.note(Intake::Piece(bytes)),
            Some(Err(error)) => return Merged::Bad(error.to_string()),
        }
        self.touched.all();
        self.delivery.was_shown(piece.version());
        self.follow(piece.version());
        self.serve(now_ms);
        Merged::Done
    }

    /// All ops up to these are held from now on: what they left behind has come as state.
    pub fn join(&mut self, ops: &Version, now_ms: u64) {
        if !self.is_in_service() {
            return; // Not all of it was taken in.
        }
        self.seal();
        self.intakes += 1;
        self.log.join(ops);
        self.delivery.joined(ops);
        self.follow(ops);
        self.soil();
        self.apply_ready(now_ms);
    }

    /// Notes what has been taken in, for the disk.
    pub(super) fn note(&mut self, intake: Intake) {
        self.intakes += 1;
        self.log.note(intake);
        self.soil();
    }

    /// Whether parts of ops that no region has whole were taken for all there is of them, in this
    /// life.
    pub const fn has_adopted(&self) -> bool {
        self.has_adopted
    }

    /// Bytes of what has been taken in and the disk has yet to take; beyond a limit no more is
    /// taken in.
    pub fn intake_bytes(&self) -> u64 {
        self.log.intake_bytes()
    }

    /// How often something was taken in, in this life.
    pub(crate) const fn intakes(&self) -> u64 {
        self.intakes
    }

    /// No stamp is issued that is not later than what has come in.
    pub(super) fn follow(&mut self, version: &Version) {
        let latest = version.iter().map(|(_, time)| time).max();
        self.clock.observe(latest.unwrap_or(Time::ZERO));
        self.look_ahead();
    }

    /// Looks how far the state is ahead of the version, which has changed, or it has.
    pub(super) fn look_ahead(&mut self) {
        if !self.is_ahead() {
            return;
        }
        self.state.caught_up(self.log.ends());
        self.delivery.note_ahead(self.state.ahead());
        if !self.is_ahead() {
            self.waiters.touch_all();
        }
    }

    /// Where parts of ops are here that no region has any more, they are all there is of these.
    pub(super) fn adopt_orphans(&mut self, now_ms: u64) {
        let orphans = self.delivery.orphans();
        if !orphans.is_empty() && self.is_in_service() {
            self.has_adopted = true;
            tracing::warn!(
                shard = self.number,
                ?orphans,
                "the region whose state was taken in has died: what is here of its last ops stays"
            );
            self.join(&orphans, now_ms);
        }
    }
}

fn sum(state: &State, span: Span) -> SpanSum {
    let sums = state.sums(span, KEYS_MAX);
    let mut all = sums.by_tag.iter();
    let sum = all.try_fold(0, |all, (_, sum)| Some(all ^ (*sum)?));
    SpanSum {
        keys: sums.by_tag.len() as u32,
        // A sum of 0 would be taken for none.
        sum: sum.filter(|&sum| sums.rest.is_none() && (sum != 0 || sums.by_tag.is_empty())),
    }
}
