//! What a link tells its peer: hello, heartbeats, what it has applied, what it wants.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Epoch, Frame, Region, Time, Version};

use super::{ACK_DELAY, EVENTS_MAX, Event, Link};

use crate::proto::message::{
    BEHIND_LEVEL, CATCH_UP_LEVEL, EXCLUSION_LEVEL, Heartbeat, Hello, Message, ROSTER_LEVEL, Want,
};
use crate::proto::outbox::Which;
use crate::proto::roster::Roster;
use crate::proto::shards::Shards;
use crate::proto::{Instant, Span};

/// A peer that says nothing for so long is no longer relied on.
const QUIET: Span = Span::from_ms(1_000);
/// Relayed heartbeats with nothing new but their time go out every so many beats.
const RELAY_EVERY: u64 = 5;

impl Link {
    pub(super) fn hello(&mut self, shards: &mut dyn Shards) -> Message {
        let time = Time::from_ms(shards.now_ms());
        self.talk.said = (0..shards.count())
            .map(|shard| shards.heartbeat(shard, time))
            .collect();
        Message::Hello(Hello {
            level: self.config.level,
            database: self.config.database.clone(),
            shards: self.talk.said.clone(),
        })
    }

    /// A shard's heartbeat, if it says more than we have said.
    fn news(&mut self, shard: u16, time: Time, shards: &mut dyn Shards) -> Option<Heartbeat> {
        let news = shards.heartbeat(shard, time);
        let said = self.talk.said.get_mut(usize::from(shard))?;
        let before = std::mem::replace(said, news.clone());
        if news
            == (Heartbeat {
                time,
                ..before.clone()
            })
        {
            return None;
        }
        let is_announced = news.announced == before.announced;
        Some(if is_announced {
            Heartbeat {
                announced: Vec::new(),
                ..news
            }
        } else {
            news
        })
    }

    /// Soon after frames were taken: what the shards in question have applied.
    pub(super) fn say_applied(&mut self, shards: &mut dyn Shards) {
        self.talk.ack_at = None;
        let time = Time::from_ms(shards.now_ms());
        let mut news = Vec::new();
        for shard in std::mem::take(&mut self.talk.dirty) {
            news.extend(
                self.news(shard, time, shards)
                    .map(|heartbeat| (shard, heartbeat)),
            );
        }
        if !news.is_empty() {
            self.talk.control.push_back(Message::Beat {
                time,
                all: false,
                shards: news,
            });
        }
    }

    /// Speaks soon of what other links have brought: ops without which a frame of this peer had to
    /// wait, and origins that this peer may wait to hear about.
    pub(super) fn hurry(&mut self, now: Instant, shards: &mut dyn Shards) {
        let soon = now + ACK_DELAY;
        let dirty = &mut self.talk.dirty;
        let mut was_applied = false;
        self.talk
            .waiting
            .retain(|&(shard, origin), (next, newest)| {
                let mut held = Time::ZERO;
                shards.delivery(shard, &mut |delivery| {
                    let version = delivery.version();
                    let is_closed = origin.epoch < version.floor(origin.region);
                    held = if is_closed {
                        *newest
                    } else {
                        version.get(origin)
                    };
                });
                if *next <= held {
                    dirty.insert(shard);
                    was_applied = true;
                    *next = *newest;
                }
                held < *newest
            });
        if was_applied {
            self.talk.ack_at.get_or_insert(soon);
        }
        let mut ups = 0;
        shards.reach(&mut |reach| ups = reach.ups());
        if self.talk.ups != ups {
            self.talk.ups = ups;
            self.beat_at = self.beat_at.min(soon);
        }
    }

    /// Several times a second: everything.
    pub(super) fn say_beat(&mut self, now: Instant, shards: &mut dyn Shards) {
        self.beats += 1;
        self.talk.beats += 1;
        self.talk.ack_at = None;
        self.talk.dirty.clear();
        if !self.talk.is_quiet && self.heard_at.is_some_and(|heard| heard + QUIET <= now) {
            self.talk.is_quiet = true;
            shards.reach(&mut |reach| reach.down(self.peer, now));
        }
        self.say_roster(shards);
        let time = Time::from_ms(shards.now_ms());
        let mut news = Vec::new();
        for shard in 0..shards.count() {
            news.extend(
                self.news(shard, time, shards)
                    .map(|heartbeat| (shard, heartbeat)),
            );
            self.hand_back(shard, shards);
            self.hand_on(shard, shards);
            let mut joins = 0;
            shards.delivery(shard, &mut |delivery| joins = delivery.joins());
            if let Some(outbox) = self.talk.outboxes.get_mut(usize::from(shard)) {
                outbox.mind_joins(joins);
            }
        }
        self.talk.control.push_back(Message::Beat {
            time,
            all: true,
            shards: news,
        });
        for shard in std::mem::take(&mut self.talk.asks) {
            let mut applied = Version::new();
            shards.delivery(shard, &mut |delivery| applied = delivery.applied_ops());
            self.talk
                .control
                .push_back(Message::Again { shard, applied });
        }
        let mut behind = std::mem::take(&mut self.talk.behind);
        if CATCH_UP_LEVEL <= self.talk.level {
            // What it lacks anew after it has caught up is no news here.
            let outboxes = (0..).zip(&self.talk.outboxes);
            let all = outboxes.filter(|(_, outbox)| outbox.is_behind_at_all());
            behind = all.map(|(shard, _)| shard).collect();
        }
        if !behind.is_empty() {
            self.talk.control.push_back(Message::Behind(behind));
        }
        let wants = self.wants(now, shards);
        if wants != self.talk.wants {
            self.talk.wants.clone_from(&wants);
            self.talk.control.push_back(Message::Wants(wants));
        }
        let relayed = self.relayed(shards);
        if !relayed.is_empty() {
            self.talk.control.push_back(Message::Relayed(relayed));
        }
    }

    /// Tells our record of regions, if it has changed. It goes before the heartbeats that follow
    /// from it: who hears that we know of it has heard of all regions that we know.
    fn say_roster(&mut self, shards: &mut dyn Shards) {
        if self.talk.level < ROSTER_LEVEL {
            return;
        }
        if let Some((revision, mut bytes)) = shards.roster(self.talk.roster) {
            self.talk.roster = revision;
            if self.talk.level < EXCLUSION_LEVEL
                && let Ok(roster) = Roster::decode(&bytes)
            {
                bytes = roster.encode_without_exclusion();
            }
            self.talk.control.push_back(Message::Roster(bytes));
        }
    }

    /// Says once, here and to the peer, that our log does not reach back to what the peer lacks.
    pub(super) fn say_behind(&mut self, which: Which, shard: u16) {
        if which == Which::Own {
            self.events.push_back(Event::Behind { shard });
        }
        if BEHIND_LEVEL <= self.talk.level && !self.talk.behind.contains(&shard) {
            self.talk.behind.push(shard);
        }
    }

    /// Takes what the peer has said in its hello. It waits to hear that we know of it, and so may
    /// others.
    pub(super) fn take_greeting(&mut self, shards: &mut dyn Shards) {
        let greeting = std::mem::take(&mut self.talk.greeting);
        let Some(now) = self.heard_at.filter(|_| !greeting.is_empty()) else {
            return;
        };
        for (shard, heartbeat) in (0..).zip(greeting) {
            shards.heard(shard, heartbeat, self.peer);
        }
        self.beat_at = self.beat_at.min(now + ACK_DELAY);
        shards.reach(&mut |reach| {
            reach.up(self.peer);
            self.talk.ups = reach.ups();
        });
    }

    /// The peer's log does not reach back to what we lack of these shards.
    pub(super) fn heard_behind(&mut self, behind: Vec<u16>, shards: &mut dyn Shards) {
        let count = shards.count();
        let known = &mut self.talk.unreachable;
        let mut news = Vec::new();
        for shard in behind.into_iter().filter(|&shard| shard < count) {
            if known.insert(shard) {
                news.push(shard);
            }
        }
        if !news.is_empty() && self.events.len() < EVENTS_MAX {
            self.events.push_back(Event::Unreachable { shards: news });
        }
    }

    /// Hands the peer what turned up late of its region, once a connection: until it has issued it
    /// again we keep it. Not before it has closed the origin itself, or it would take the ops for
    /// some that all have.
    fn hand_back(&mut self, shard: u16, shards: &mut dyn Shards) {
        let (peer, talk) = (self.peer, &mut self.talk);
        let closed = talk.outboxes[usize::from(shard)].peer.applied.floor(peer);
        shards.delivery(shard, &mut |delivery| {
            let is_closed = |frame: &&Frame| frame.origin().epoch < closed;
            for frame in delivery.late_of(peer).filter(is_closed) {
                if talk.late_sent.insert((shard, frame.origin(), frame.last())) {
                    talk.late.push_back(frame.clone());
                }
            }
        });
    }

    /// Hands the peer what waits here of origins that ended, where it wants that and can go on from
    /// it: once a connection, or until it asks again. As a rule what waits is applied soon, and
    /// comes out of the log. But what it waits for may be with the peer alone, and in no log; and
    /// the peer may have taken in parts of just these ops, and hands out no state before it has
    /// them.
    fn hand_on(&mut self, shard: u16, shards: &mut dyn Shards) {
        let talk = &mut self.talk;
        let outbox = &talk.outboxes[usize::from(shard)];
        let (late, late_sent) = (&mut talk.late, &mut talk.late_sent);
        shards.delivery(shard, &mut |delivery| {
            let mut held = None;
            for frame in delivery.waiting_of_ended() {
                let (origin, last) = (frame.origin(), frame.last());
                let held = held.get_or_insert_with(|| outbox.peer.applied.clone());
                let goes_on = frame.prev() <= held.get(origin) && held.get(origin) < last;
                if outbox.is_of(Which::Relayed, origin) && goes_on {
                    held.advance(origin, last);
                    if late_sent.insert((shard, origin, last)) {
                        late.push_back(frame.clone());
                    }
                }
            }
        });
    }

    /// What we want besides the peer's own ops: all of regions that we have no link to, and what
    /// there is of origins that ended.
    fn wants(&self, now: Instant, shards: &mut dyn Shards) -> Vec<Want> {
        let mut unreached = BTreeSet::new();
        shards.reach(&mut |reach| unreached.extend(reach.wanted(now)));
        let mut wants = Vec::new();
        for shard in 0..shards.count() {
            let mut of_shard: BTreeMap<Region, Epoch> = BTreeMap::new();
            shards.delivery(shard, &mut |delivery| {
                let endings = delivery.open_endings().into_iter();
                let askable =
                    endings.filter(|ending| ending.is_final || ending.region != self.peer);
                of_shard.extend(askable.map(|ending| (ending.region, ending.below)));
            });
            let others = unreached.iter().filter(|&&region| region != self.peer);
            of_shard.extend(others.map(|&region| (region, Epoch(u64::MAX))));
            let want = |(region, below)| Want {
                shard,
                region,
                below,
            };
            wants.extend(of_shard.into_iter().map(want));
        }
        wants
    }

    /// Heartbeats of the regions that the peer wants, where they say something new.
    fn relayed(&mut self, shards: &mut dyn Shards) -> Vec<(u16, Heartbeat)> {
        let is_time_due = self.beats.is_multiple_of(RELAY_EVERY);
        let mut relayed = Vec::new();
        for (shard, outbox) in (0..).zip(&self.talk.outboxes) {
            for region in outbox.wanted().filter(|&region| region != self.peer) {
                let mut heartbeat = None;
                shards.delivery(shard, &mut |delivery| heartbeat = delivery.relay_of(region));
                let Some(heartbeat) = heartbeat else { continue };
                let before = self.talk.relayed.get(&(shard, region));
                let is_news = before.is_none_or(|before| {
                    heartbeat
                        != (Heartbeat {
                            time: heartbeat.time,
                            ..before.clone()
                        })
                });
                if is_news || is_time_due && before != Some(&heartbeat) {
                    self.talk.relayed.insert((shard, region), heartbeat.clone());
                    relayed.push((shard, heartbeat));
                }
            }
        }
        relayed
    }
}
