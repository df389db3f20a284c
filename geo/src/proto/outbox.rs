//! What one shard sends to one peer: where it stands in the log, what is under way, and what the
//! peer is known to have.

use std::collections::{BTreeMap, VecDeque};

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

/// Frames that are under way, and their bytes.
#[derive(Debug, Default)]
struct Flight {
    frames: VecDeque<Sent>,
    bytes: usize,
}

impl Flight {
    fn push(&mut self, frame: &Frame) {
        let bytes = frame.bytes().len();
        self.bytes += bytes;
        self.frames.push_back(Sent {
            origin: frame.origin(),
            last: frame.last(),
            bytes,
        });
    }

    /// Forgets what has arrived.
    fn settle(&mut self, applied: &Version) {
        self.frames
            .retain(|sent| applied.get(sent.origin) < sent.last);
        self.bytes = self.frames.iter().map(|sent| sent.bytes).sum();
    }
}

/// Which frames to look for. Each kind goes out in the order of the log, so that whatever a frame
/// depends on comes before it, on the same or on another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those of our own region, which nobody else need send.
    Own,
    /// Those that the peer asked for.
    Relayed,
}

/// What a look into the log gave.
#[derive(Debug)]
pub(super) enum Found {
    Frame(Frame),
    Nothing,
    /// The log does not reach back to what the peer lacks, which is news.
    Behind,
}

/// See the module. Begins anew with every connection.
#[derive(Debug)]
pub(super) struct Outbox {
    shard: u16,
    /// Who issues our ops of this shard.
    own: Origin,
    /// The peer's latest heartbeat.
    pub(super) peer: Heartbeat,
    /// What the peer has or will have when everything under way has arrived.
    sent: Version,
    place: Place,
    /// Whether it has been said that `place` was behind.
    has_complained: bool,
    /// The same of `relay_place`.
    has_complained_of_relays: bool,
    /// How often ops had been taken for held that are in no log.
    joins: u64,
    /// What the peer wants: epochs of these regions below these.
    wants: BTreeMap<Region, Epoch>,
    relay_place: Place,
    flight: Flight,
    relay_flight: Flight,
}

impl Outbox {
    pub(super) fn new(shard: u16, own: Origin, peer: Heartbeat) -> Self {
        Self {
            shard,
            own,
            sent: peer.applied.clone(),
            peer,
            place: Place::Unset,
            has_complained: false,
            has_complained_of_relays: false,
            joins: 0,
            wants: BTreeMap::new(),
            relay_place: Place::Unset,
            flight: Flight::default(),
            relay_flight: Flight::default(),
        }
    }

    /// Takes the peer's news.
    pub(super) fn heard(&mut self, heartbeat: Heartbeat) {
        self.sent.join(&heartbeat.applied);
        self.flight.settle(&heartbeat.applied);
        self.relay_flight.settle(&heartbeat.applied);
        self.peer = heartbeat;
        // What it got from others may be what our log had lost.
        for place in [&mut self.place, &mut self.relay_place] {
            if *place == Place::Behind {
                *place = Place::Unset;
            }
        }
    }

    /// Starts again from what the peer has.
    pub(super) fn again(&mut self, applied: Version) {
        self.sent = applied.clone();
        self.peer.applied = applied;
        self.place = Place::Unset;
        self.relay_place = Place::Unset;
        self.flight = Flight::default();
        self.relay_flight = Flight::default();
    }

    /// Looks anew for where to start if the log has got another gap since.
    pub(super) fn mind_joins(&mut self, joins: u64) {
        if joins != self.joins {
            self.joins = joins;
            self.place = Place::Unset;
            self.relay_place = Place::Unset;
        }
    }

    /// Replaces what the peer wants.
    pub(super) fn wants(&mut self, wants: impl Iterator<Item = (Region, Epoch)>) {
        let wants: BTreeMap<Region, Epoch> = wants.collect();
        if wants != self.wants {
            self.wants = wants;
            self.relay_place = Place::Unset;
            // What is under way may wait for what is wanted only now.
            self.relay_flight = Flight::default();
        }
    }

    /// The regions whose ops the peer wants.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Region> + '_ {
        self.wants.keys().copied()
    }

    /// Whether the log no longer reaches back to what the peer lacks.
    pub(super) fn is_behind(&self) -> bool {
        self.place == Place::Behind
    }

    /// The same of anything that the peer gets from us.
    pub(super) fn is_behind_at_all(&self) -> bool {
        self.is_behind() || self.relay_place == Place::Behind
    }

    /// Bytes of a kind that are under way.
    pub(super) const fn in_flight(&self, which: Which) -> usize {
        match which {
            Which::Own => self.flight.bytes,
            Which::Relayed => self.relay_flight.bytes,
        }
    }

    /// The next frame to send, which from then on counts as under way.
    pub(super) fn next(&mut self, which: Which, shards: &mut dyn Shards) -> Found {
        let mut place = match which {
            Which::Own => self.place,
            Which::Relayed => self.relay_place,
        };
        let frame = self.look(which, &mut place, shards);
        if let Some(frame) = &frame {
            self.sent.advance(frame.origin(), frame.last());
        }
        let (flight, has_complained) = match which {
            Which::Own => {
                self.place = place;
                (&mut self.flight, &mut self.has_complained)
            }
            Which::Relayed => {
                self.relay_place = place;
                (&mut self.relay_flight, &mut self.has_complained_of_relays)
            }
        };
        if let Some(frame) = frame {
            flight.push(&frame);
            return Found::Frame(frame);
        }
        let is_behind = place == Place::Behind;
        if is_behind && !std::mem::replace(has_complained, is_behind) {
            Found::Behind
        } else {
            Found::Nothing
        }
    }

    /// Whether a frame is of the kind to be sent.
    pub(super) fn is_of(&self, which: Which, origin: Origin) -> bool {
        match which {
            // Of our ended epochs it gets what it asks for.
            Which::Own => origin == self.own,
            Which::Relayed => {
                let below = self.wants.get(&origin.region);
                below.is_some_and(|&below| origin.epoch < below)
            }
        }
    }

    fn look(&self, which: Which, place: &mut Place, shards: &mut dyn Shards) -> Option<Frame> {
        if which == Which::Relayed && self.wants.is_empty() {
            return None;
        }
        if *place == Place::Unset {
            *place = self.start(which, shards);
        }
        let Place::At(position) = *place else {
            return None;
        };
        let mut wanted = |frame: &Frame| {
            let origin = frame.origin();
            self.is_of(which, origin) && self.sent.get(origin) < frame.last()
        };
        match shards.next_frame(self.shard, position, &mut wanted) {
            Next::Frame(frame, next) => {
                *place = Place::At(next);
                Some(frame)
            }
            Next::End(next) => {
                *place = Place::At(next);
                None
            }
            Next::Behind => {
                // What was dropped may be what the peer has: look again from there.
                *place = self.start(which, shards);
                None
            }
        }
    }

    /// Where to start, if the log reaches back to what the peer lacks of all that it wants.
    fn start(&self, which: Which, shards: &mut dyn Shards) -> Place {
        let regions: Vec<Region> = match which {
            Which::Own => vec![self.own.region],
            Which::Relayed => self.wanted().collect(),
        };
        let mut start = u64::MAX;
        for region in regions {
            match shards.start(self.shard, region, &self.sent) {
                Some(position) => start = start.min(position),
                None => return Place::Behind,
            }
        }
        Place::At(start)
    }
}
