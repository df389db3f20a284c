//! What one shard sends to one peer: where it stands in the log, what is under way, and what the
//! peer is known to have.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crdt::{Epoch, Frame, Origin, Region, Time, Version};

use super::message::Heartbeat;
use super::shards::{Next, Shards};

/// Where a reader of the log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Looks for where to start.
    Unset,
    /// At this position.
    At(u64),
    /// The log no longer reaches back to what the peer lacks.
    Behind,
}

/// A frame that was sent and is not acknowledged.
#[derive(Debug)]
struct Sent {
    origin: Origin,
    last: Time,
    bytes: usize,
}

/// Which frames to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those of our own region, which nobody else need send.
    Own,
    /// Those of this region, which the peer asked for.
    Relayed(Region),
}

/// What a look into the log gave.
#[derive(Debug)]
pub(super) enum Found {
    Frame(Frame),
    Nothing,
    /// The log does not reach back to what the peer lacks of our own ops, which is news.
    Behind,
}

/// See the module. Begins anew with every connection.
#[derive(Debug)]
pub(super) struct Outbox {
    shard: u16,
    own: Region,
    /// The peer's latest heartbeat.
    pub(super) peer: Heartbeat,
    /// What the peer has or will have when everything under way has arrived.
    sent: Version,
    place: Place,
    /// Whether it has been said that `place` was behind.
    has_complained: bool,
    relays: BTreeMap<Region, (Epoch, Place)>,
    /// Of our own frames, in the order in which they were sent.
    own_flight: VecDeque<Sent>,
    relay_flight: VecDeque<Sent>,
}

impl Outbox {
    pub(super) fn new(shard: u16, own: Region, peer: Heartbeat) -> Self {
        Self {
            shard,
            own,
            sent: peer.applied.clone(),
            peer,
            place: Place::Unset,
            has_complained: false,
            relays: BTreeMap::new(),
            own_flight: VecDeque::new(),
            relay_flight: VecDeque::new(),
        }
    }

    /// Takes the peer's news. Returns how many bytes of own and of relayed frames have arrived.
    pub(super) fn heard(&mut self, heartbeat: Heartbeat) -> (usize, usize) {
        self.sent.join(&heartbeat.applied);
        let applied = &heartbeat.applied;
        let arrived = |flight: &mut VecDeque<Sent>| {
            let mut bytes = 0;
            flight.retain(|sent| {
                let is_there = sent.last <= applied.get(sent.origin);
                bytes += if is_there { sent.bytes } else { 0 };
                !is_there
            });
            bytes
        };
        let arrived = (
            arrived(&mut self.own_flight),
            arrived(&mut self.relay_flight),
        );
        self.peer = heartbeat;
        // What it got from others may be what our log had lost.
        for place in self.places() {
            if *place == Place::Behind {
                *place = Place::Unset;
            }
        }
        arrived
    }

    /// Starts again from what the peer has. Returns how many bytes of own and of relayed frames
    /// are given up.
    pub(super) fn again(&mut self, applied: Version) -> (usize, usize) {
        self.sent = applied.clone();
        self.peer.applied = applied;
        for place in self.places() {
            *place = Place::Unset;
        }
        let given_up = |flight: &mut VecDeque<Sent>| flight.drain(..).map(|sent| sent.bytes).sum();
        (
            given_up(&mut self.own_flight),
            given_up(&mut self.relay_flight),
        )
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Place> {
        let relays = self.relays.values_mut().map(|(_, place)| place);
        std::iter::once(&mut self.place).chain(relays)
    }

    /// Replaces what the peer wants of other regions.
    pub(super) fn wants(&mut self, wants: impl IntoIterator<Item = (Region, Epoch)>) {
        let before = std::mem::take(&mut self.relays);
        for (region, below) in wants {
            let known = before.get(&region).filter(|(epoch, _)| *epoch == below);
            let place = known.map_or(Place::Unset, |(_, place)| *place);
            self.relays.insert(region, (below, place));
        }
    }

    /// The regions that the peer wants.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Region> + '_ {
        self.relays.keys().copied()
    }

    /// Whether the log no longer reaches back to what the peer lacks.
    pub(super) fn is_behind(&self) -> bool {
        self.place == Place::Behind
    }

    /// The next frame to send, which from then on counts as under way.
    pub(super) fn next(&mut self, which: Which, shards: &mut dyn Shards) -> Found {
        let (region, epochs, mut place) = match which {
            Which::Own => {
                // Of our ended epochs it gets what it asks for.
                let mut epoch = Epoch(0);
                shards.delivery(self.shard, &mut |delivery| epoch = delivery.own().epoch);
                (self.own, epoch..Epoch(u64::MAX), self.place)
            }
            Which::Relayed(region) => match self.relays.get(&region) {
                Some(&(below, place)) => (region, Epoch(0)..below, place),
                None => return Found::Nothing,
            },
        };
        let mut found = self.look(region, &epochs, &mut place, shards);
        match which {
            Which::Own => {
                self.place = place;
                if place == Place::Behind && !self.has_complained {
                    found = Found::Behind;
                }
                self.has_complained = place == Place::Behind;
            }
            Which::Relayed(region) => {
                self.relays.insert(region, (epochs.end, place));
            }
        }
        if let Found::Frame(frame) = &found {
            let (origin, last, bytes) = (frame.origin(), frame.last(), frame.bytes().len());
            self.sent.advance(origin, last);
            let flight = match which {
                Which::Own => &mut self.own_flight,
                Which::Relayed(_) => &mut self.relay_flight,
            };
            flight.push_back(Sent {
                origin,
                last,
                bytes,
            });
        }
        found
    }

    fn look(
        &self,
        region: Region,
        epochs: &Range<Epoch>,
        place: &mut Place,
        shards: &mut dyn Shards,
    ) -> Found {
        if *place == Place::Unset {
            let start = shards.start(self.shard, region, &self.sent);
            *place = start.map_or(Place::Behind, Place::At);
        }
        let Place::At(position) = *place else {
            return Found::Nothing;
        };
        let mut wanted = |frame: &Frame| {
            let origin = frame.origin();
            origin.region == region
                && epochs.contains(&origin.epoch)
                && self.sent.get(origin) < frame.last()
        };
        match shards.next_frame(self.shard, position, &mut wanted) {
            Next::Frame(frame, next) => {
                *place = Place::At(next);
                Found::Frame(frame)
            }
            Next::End(next) => {
                *place = Place::At(next);
                Found::Nothing
            }
            Next::Behind => {
                // What was dropped may be what the peer has: find a new start once.
                let start = shards.start(self.shard, region, &self.sent);
                *place = start.map_or(Place::Behind, Place::At);
                Found::Nothing
            }
        }
    }
}
