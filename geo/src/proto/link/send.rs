//! Sending frames: whose turn it is, and which way they go.

use bytes::Bytes;

use super::{Link, Transmit};
use crate::proto::outbox::{Found, Which};
use crate::proto::shards::Shards;

impl Link {
    /// The next frame that the peer lacks and a window has room for, shards taking turns.
    pub(super) fn next_frame(&mut self, shards: &mut dyn Shards) -> Option<Transmit> {
        for _ in 0..self.talk.outboxes.len() {
            let shard = self.talk.turn;
            let frame = self.next_of_shard(shard, shards);
            self.talk.turn = (shard + 1) % self.talk.outboxes.len() as u16;
            if let Some(transmit) = frame {
                return Some(transmit);
            }
        }
        self.talk.is_relays_turn = !self.talk.is_relays_turn;
        None
    }

    fn next_of_shard(&mut self, shard: u16, shards: &mut dyn Shards) -> Option<Transmit> {
        let mut turns = [
            (Which::Own, self.config.window_bytes),
            (Which::Relayed, self.config.relay_window_bytes),
        ];
        if self.talk.is_relays_turn {
            turns.reverse();
        }
        for (which, window) in turns {
            let outbox = &mut self.talk.outboxes[usize::from(shard)];
            if window <= outbox.in_flight(which) {
                continue;
            }
            match outbox.next(which, shards) {
                Found::Nothing => {}
                Found::Behind => self.say_behind(which, shard),
                Found::Frame(frame) => {
                    self.talk.is_relays_turn = !self.talk.is_relays_turn;
                    return Some(self.sent(which, shard, frame.bytes().clone()));
                }
            }
        }
        None
    }

    pub(super) fn sent(&mut self, which: Which, shard: u16, bytes: Bytes) -> Transmit {
        self.stats.frames_sent += 1;
        self.stats.frame_bytes_sent += bytes.len() as u64;
        let lanes = self.config.lanes.max(1);
        let lane = match which {
            Which::Own => shard % lanes,
            Which::Relayed => {
                self.stats.frames_relayed += 1;
                lanes
            }
        };
        Transmit::Frame { lane, bytes }
    }
}
