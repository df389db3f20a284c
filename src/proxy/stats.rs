//! How often each command ran, for how long, and with which outcome: `INFO commandstats` and
//! `latencystats`, `LATENCY HISTOGRAM`.
//!
//! A connection counts for itself and adds up once a batch, or when the command changes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::command::{COMMANDS, number_of};

/// Threads that count apart: what two of them wrote in turn would go to and fro between caches.
pub(super) const LANES: usize = 16;
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

/// What one command has done.
#[derive(Debug, Default)]
struct Count {
    calls: AtomicU64,
    took_ns: AtomicU64,
    /// How many took as long as each step.
    steps: [AtomicU64; STEPS],
    rejected: AtomicU64,
    failed: AtomicU64,
}

/// What a command has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its name.
    pub name: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// For how long, nanoseconds.
    pub took_ns: u64,
    /// How often it did not run, for it was not asked for rightly or must not run now.
    pub rejected: u64,
    /// How often it ran and replied an error.
    pub failed: u64,
}

/// See the module.
#[derive(Debug)]
pub struct CommandStats {
    /// By lane, then by the commands' numbers in the table.
    lanes: [Box<[Count]>; LANES],
}

impl Default for CommandStats {
    fn default() -> Self {
        let lane = |_| COMMANDS.iter().map(|_| Count::default()).collect();
        Self {
            lanes: std::array::from_fn(lane),
        }
    }
}

/// The lane of this thread.
pub(super) fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
    }
    LANE.with(|lane| *lane)
}

impl CommandStats {
    /// Commands that ran at all, or were rejected.
    pub fn list(&self) -> Vec<Ran> {
        let sum = |at: usize, pick: fn(&Count) -> &AtomicU64| {
            let counts = self.lanes.iter().map(|lane| pick(&lane[at]));
            counts
                .map(|count| count.load(Ordering::Relaxed))
                .sum::<u64>()
        };
        let named = COMMANDS.iter().enumerate();
        let counted = named.map(|(at, command)| Ran {
            name: command.name,
            calls: sum(at, |count| &count.calls),
            took_ns: sum(at, |count| &count.took_ns),
            rejected: sum(at, |count| &count.rejected),
            failed: sum(at, |count| &count.failed),
        });
        counted.filter(|ran| 0 < ran.calls + ran.rejected).collect()
    }

    /// Counts an error of a command that ran, or of one that was rejected.
    #[cold]
    pub(super) fn note_error(&self, name: &str, has_run: bool) {
        let number = number_of(name.as_bytes());
        if let Some(count) = number.and_then(|at| self.lanes[lane()].get(at)) {
            let count = if has_run {
                &count.failed
            } else {
                &count.rejected
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
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

    /// What so many of a hundred calls of a command took at most, microseconds, as far as a
    /// histogram tells; 0 if it did not run.
    pub fn percentile_us(&self, name: &str, percent: f64) -> u64 {
        let steps = self.histogram(name);
        let calls = steps.last().map_or(0, |&(_, below)| below);
        let wanted = calls as f64 * percent / 100.0;
        let found = steps.iter().find(|(_, below)| wanted <= *below as f64);
        found.map_or(0, |&(us, _)| us)
    }

    /// Commands that ran.
    pub fn total(&self) -> u64 {
        let counts = self.lanes.iter().flatten();
        counts
            .map(|count| count.calls.load(Ordering::Relaxed))
            .sum()
    }

    /// Starts over.
    pub fn reset(&self) {
        for count in self.lanes.iter().flatten() {
            let Count {
                calls,
                took_ns,
                steps,
                rejected,
                failed,
            } = count;
            for one in [calls, took_ns, rejected, failed].into_iter().chain(steps) {
                one.store(0, Ordering::Relaxed);
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
    fn a_tally_adds_up_when_the_command_changes() {
        let stats = CommandStats::default();
        let mut tally = Tally::default();
        for (name, took_ns) in [("GET", 1), ("GET", 2), ("", 4), ("SET", 8)] {
            tally.count(&stats, name, took_ns);
        }
        let ran = |stats: &CommandStats| {
            let list = stats.list().into_iter();
            list.map(|ran| (ran.name, ran.calls, ran.took_ns))
                .collect::<Vec<_>>()
        };
        assert_eq!(ran(&stats), [("GET", 2, 3)]);
        tally.add_up(&stats);
        tally.add_up(&stats);
        assert_eq!(ran(&stats), [("GET", 2, 3), ("SET", 1, 8)]);
        stats.reset();
        assert_eq!(stats.list(), []);
    }

    #[test]
    fn errors_are_of_calls_or_instead_of_them() {
        let stats = CommandStats::default();
        stats.note_error("GET", false);
        stats.note_error("NOSUCH", false);
        let mut tally = Tally::default();
        tally.count(&stats, "SET", 1);
        stats.note_error("SET", true);
        tally.add_up(&stats);
        let list = stats.list();
        let errors = |ran: &Ran| (ran.name, ran.calls, ran.rejected, ran.failed);
        assert_eq!(
            list.iter().map(errors).collect::<Vec<_>>(),
            [("GET", 0, 1, 0), ("SET", 1, 0, 1)]
        );
        stats.reset();
        assert_eq!(stats.list(), []);
    }

    #[test]
    fn a_percentile_is_what_so_many_took_at_most() {
        let stats = CommandStats::default();
        let mut tally = Tally::default();
        for at in 0..1_000 {
            tally.count(&stats, "GET", if at < 990 { 1_000 } else { 9_000 });
        }
        tally.add_up(&stats);
        let found = [50.0, 99.0, 99.9].map(|percent| stats.percentile_us("GET", percent));
        assert_eq!(found, [1, 1, 16]);
        assert_eq!(stats.percentile_us("SET", 50.0), 0);
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
