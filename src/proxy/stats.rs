//! How often each command ran, and for how long: `INFO commandstats`, `LATENCY HISTOGRAM`; and how
//! many a second.
//!
//! A connection counts for itself and adds up once a batch, or when the command changes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::command::{COMMANDS, number_of};

/// Threads that count apart: what two of them wrote in turn would go to and fro between caches.
const LANES: usize = 16;
/// Steps of a histogram: up to some eight seconds.
const STEPS: usize = 24;

/// The step of what took so long.
#[inline]
fn step_of(took_ns: u64) -> usize {
    let above = 64 - (took_ns.saturating_sub(1) >> 10).leading_zeros();
    (above as usize).min(STEPS - 1)
}

/// What the commands of a step took at most, microseconds: each is twice the one before, from a
/// microsecond on, as in Redis.
const fn most_us(step: usize) -> u64 {
    (1024 << step) / 1_000
}

/// Samples that the rate of late is taken from, as in Redis.
const SAMPLES: usize = 16;

/// What one command has done.
#[derive(Debug, Default)]
struct Count {
    calls: AtomicU64,
    took_ns: AtomicU64,
    /// How many took as long as each step.
    steps: [AtomicU64; STEPS],
}

/// See the module.
#[derive(Debug)]
pub struct CommandStats {
    /// By lane, then by the commands' numbers in the table.
    lanes: [Box<[Count]>; LANES],
    /// When, in milliseconds, and how many commands had run.
    samples: Mutex<VecDeque<(u64, u64)>>,
}

impl Default for CommandStats {
    fn default() -> Self {
        let lane = |_| COMMANDS.iter().map(|_| Count::default()).collect();
        Self {
            lanes: std::array::from_fn(lane),
            samples: Mutex::default(),
        }
    }
}

/// The lane of this thread.
fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
    }
    LANE.with(|lane| *lane)
}

impl CommandStats {
    /// Commands that ran at all: name, calls, nanoseconds.
    pub fn list(&self) -> Vec<(&'static str, u64, u64)> {
        let sum = |at: usize| {
            self.lanes.iter().fold((0, 0), |(calls, took_ns), lane| {
                (
                    calls + lane[at].calls.load(Ordering::Relaxed),
                    took_ns + lane[at].took_ns.load(Ordering::Relaxed),
                )
            })
        };
        let named = COMMANDS.iter().enumerate();
        let counted = named.map(|(at, command)| (command.name, sum(at)));
        let ran = counted.filter(|(_, (calls, _))| 0 < *calls);
        ran.map(|(name, (calls, took_ns))| (name, calls, took_ns))
            .collect()
    }

    /// How long a command took: microseconds, and how many calls took that at most, where that
    /// changes.
    pub fn histogram(&self, name: &str) -> Vec<(u64, u64)> {
        let Some(at) = number_of(name.as_bytes()) else {
            return Vec::new();
        };
        let mut below = 0;
        let found = (0..STEPS).filter_map(|step| {
            let counts = self.lanes.iter().filter_map(|lane| lane.get(at));
            let steps = counts.map(|count| count.steps[step].load(Ordering::Relaxed));
            let took: u64 = steps.sum();
            below += took;
            (0 < took).then(|| (most_us(step), below))
        });
        found.collect()
    }

    /// Commands that ran.
    pub fn total(&self) -> u64 {
        let counts = self.lanes.iter().flatten();
        counts
            .map(|count| count.calls.load(Ordering::Relaxed))
            .sum()
    }

    /// Notes how many commands have run, for [`Self::per_second`]. To be called several times a
    /// second.
    pub fn sample(&self, now_ms: u64) {
        let total = self.total();
        let mut samples = self.samples.lock();
        if SAMPLES <= samples.len() {
            samples.pop_front();
        }
        samples.push_back((now_ms, total));
    }

    /// Commands a second, between the first and the last sample that is kept.
    pub fn per_second(&self) -> u64 {
        let samples = self.samples.lock();
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
            return 0;
        };
        let ran = last.1.saturating_sub(first.1);
        (ran * 1_000)
            .checked_div(last.0.saturating_sub(first.0))
            .unwrap_or(0)
    }

    /// Starts over.
    pub fn reset(&self) {
        self.samples.lock().clear();
        for count in self.lanes.iter().flatten() {
            count.calls.store(0, Ordering::Relaxed);
            count.took_ns.store(0, Ordering::Relaxed);
            for step in &count.steps {
                step.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// What a connection has counted and not added up yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    name: &'static str,
    calls: u64,
    took_ns: u64,
    steps: [u32; STEPS],
    /// A bit for each step that is not zero.
    seen: u32,
}

impl Tally {
    /// Counts a command; none if the name is empty, for there is no such command.
    #[inline]
    pub(super) fn count(&mut self, stats: &CommandStats, name: &'static str, took_ns: u64) {
        if !std::ptr::eq(self.name, name) {
            self.add_up(stats);
            self.name = name;
        }
        self.calls += 1;
        self.took_ns += took_ns;
        let step = step_of(took_ns);
        self.steps[step] += 1;
        self.seen |= 1 << step;
    }

    /// Adds up what was counted.
    pub(super) fn add_up(&mut self, stats: &CommandStats) {
        let number = number_of(self.name.as_bytes());
        let count = number.and_then(|at| stats.lanes[lane()].get(at));
        if let Some(count) = count {
            count.calls.fetch_add(self.calls, Ordering::Relaxed);
            count.took_ns.fetch_add(self.took_ns, Ordering::Relaxed);
        }
        while self.seen != 0 {
            let step = self.seen.trailing_zeros() as usize;
            self.seen &= self.seen - 1;
            let took = std::mem::take(&mut self.steps[step]);
            if let Some(count) = count {
                count.steps[step].fetch_add(took.into(), Ordering::Relaxed);
            }
        }
        (self.name, self.calls, self.took_ns) = ("", 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_samples() {
        let stats = CommandStats::default();
        assert_eq!(stats.per_second(), 0);
        let mut tally = Tally::default();
        for at in 0..40 {
            // Ten each 100 ms at first, twenty at the end.
            for _ in 0..if at < 20 { 10 } else { 20 } {
                tally.count(&stats, "GET", 1);
            }
            tally.add_up(&stats);
            stats.sample(1_000 + 100 * at);
        }
        assert_eq!(stats.per_second(), 200);
        stats.reset();
        assert_eq!(stats.per_second(), 0);
    }

    #[test]
    fn a_tally_adds_up_when_the_command_changes() {
        let stats = CommandStats::default();
        let mut tally = Tally::default();
        for (name, took_ns) in [("GET", 1), ("GET", 2), ("", 4), ("SET", 8)] {
            tally.count(&stats, name, took_ns);
        }
        assert_eq!(stats.list(), [("GET", 2, 3)]);
        tally.add_up(&stats);
        tally.add_up(&stats);
        assert_eq!(stats.list(), [("GET", 2, 3), ("SET", 1, 8)]);
        stats.reset();
        assert_eq!(stats.list(), []);
    }

    #[test]
    fn a_histogram_counts_what_took_so_long_at_most() {
        let stats = CommandStats::default();
        let mut tally = Tally::default();
        for took_ns in [0, 1_024, 1_025, 2_048, 9_000, 1 << 40] {
            tally.count(&stats, "GET", took_ns);
        }
        tally.add_up(&stats);
        tally.count(&stats, "GET", 9_000);
        tally.add_up(&stats);
        let longest = most_us(STEPS - 1);
        assert_eq!(
            stats.histogram("GET"),
            [(1, 2), (2, 4), (16, 6), (longest, 7)]
        );
        assert_eq!(stats.histogram("SET"), []);
        stats.reset();
        assert_eq!(stats.histogram("GET"), []);
    }
}
