//! What clients have sent and were sent, and how much of it, and of commands, a second of late:
//! `INFO stats`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::stats::{LANES, lane};

/// Samples that rates of late are taken from, as in Redis.
const SAMPLES: usize = 16;

#[derive(Debug, Default)]
struct Lane {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

/// Sums since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How often something was read from a client.
    pub reads: u64,
    /// Bytes that were.
    pub read_bytes: u64,
    /// How often something was written to a client.
    pub writes: u64,
    /// Bytes that were.
    pub written_bytes: u64,
    /// Commands that have run.
    pub commands: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Traffic {
    lanes: [Lane; LANES],
    /// When, in milliseconds, and the sums then.
    samples: Mutex<VecDeque<(u64, Totals)>>,
}

impl Traffic {
    /// So many bytes were read from a client.
    pub(super) fn read(&self, bytes: usize) {
        let lane = &self.lanes[lane()];
        lane.reads.fetch_add(1, Ordering::Relaxed);
        lane.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes were written to a client.
    pub(super) fn wrote(&self, bytes: usize) {
        let lane = &self.lanes[lane()];
        lane.writes.fetch_add(1, Ordering::Relaxed);
        lane.written_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The sums, with so many commands.
    pub fn totals(&self, commands: u64) -> Totals {
        let none = Totals {
            commands,
            ..Totals::default()
        };
        self.lanes.iter().fold(none, |sums, lane| Totals {
            reads: sums.reads + lane.reads.load(Ordering::Relaxed),
            read_bytes: sums.read_bytes + lane.read_bytes.load(Ordering::Relaxed),
            writes: sums.writes + lane.writes.load(Ordering::Relaxed),
            written_bytes: sums.written_bytes + lane.written_bytes.load(Ordering::Relaxed),
            commands,
        })
    }

    /// Notes the sums, for [`Self::per_second`]. To be called several times a second.
    pub fn sample(&self, now_ms: u64, commands: u64) {
        let totals = self.totals(commands);
        let mut samples = self.samples.lock();
        if SAMPLES <= samples.len() {
            samples.pop_front();
        }
        samples.push_back((now_ms, totals));
    }

    /// How much a second one of the sums has grown, between the first and the last sample that is
    /// kept.
    pub fn per_second(&self, pick: impl Fn(&Totals) -> u64) -> u64 {
        let samples = self.samples.lock();
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
            return 0;
        };
        let grown = pick(&last.1).saturating_sub(pick(&first.1));
        (grown * 1_000)
            .checked_div(last.0.saturating_sub(first.0))
            .unwrap_or(0)
    }

    /// Starts over.
    pub fn reset(&self) {
        self.samples.lock().clear();
        for lane in &self.lanes {
            let Lane {
                reads,
                read_bytes,
                writes,
                written_bytes,
            } = lane;
            for count in [reads, read_bytes, writes, written_bytes] {
                count.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_samples() {
        let traffic = Traffic::default();
        let rates = || {
            let commands = traffic.per_second(|totals| totals.commands);
            (commands, traffic.per_second(|totals| totals.read_bytes))
        };
        assert_eq!(rates(), (0, 0));
        let mut commands = 0;
        for at in 0..40 {
            // Ten each 100 ms at first, twenty at the end.
            let ran = if at < 20 { 10 } else { 20 };
            commands += ran;
            traffic.read(3 * ran as usize);
            traffic.sample(1_000 + 100 * at, commands);
        }
        assert_eq!(rates(), (200, 600));
        traffic.wrote(7);
        let totals = traffic.totals(commands);
        assert_eq!((totals.reads, totals.read_bytes), (40, 1_800));
        assert_eq!((totals.writes, totals.written_bytes), (1, 7));
        traffic.reset();
        assert_eq!((rates(), traffic.totals(0)), ((0, 0), Totals::default()));
    }
}
