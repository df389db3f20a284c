//! What operators look at to find what is slow: the slow log, latency events, `MONITOR`.
//!
//! All three are bounded: the logs forget their oldest entries, a monitor that does not read is cut
//! off.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::clock;
use crate::limits;
use crate::session::Client;

/// A command in the slow log.
#[derive(Clone, Debug)]
pub struct SlowCommand {
    /// Ascending from 0.
    pub id: u64,
    /// When it ended, seconds since 1970.
    pub at_s: u64,
    /// How long it took, microseconds.
    pub took_us: u64,
    /// Its arguments, shortened.
    pub arguments: Vec<Vec<u8>>,
    /// Who sent it.
    pub address: String,
    /// The name of who sent it.
    pub name: Vec<u8>,
}

/// A spike of a latency event.
#[derive(Clone, Copy, Debug)]
pub struct Spike {
    /// When, seconds since 1970.
    pub at_s: u64,
    /// How long, milliseconds.
    pub took_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Slow {
    /// Commands that take longer are logged, microseconds; none if negative.
    pub threshold_us: AtomicI64,
    /// Entries that the log keeps.
    pub entries_max: AtomicUsize,
    /// Commands that take at least as long are latency events, milliseconds; none if 0.
    pub latency_threshold_ms: AtomicU64,
    log: Mutex<(u64, VecDeque<SlowCommand>)>,
    events: Mutex<BTreeMap<&'static str, VecDeque<Spike>>>,
    monitors: Mutex<Vec<mpsc::Sender<Arc<[u8]>>>>,
    monitoring: AtomicUsize,
}

impl Default for Slow {
    fn default() -> Self {
        Self {
            threshold_us: AtomicI64::new(limits::SLOW_US),
            entries_max: AtomicUsize::new(limits::SLOW_LOG_ENTRIES),
            latency_threshold_ms: AtomicU64::new(0),
            log: Mutex::default(),
            events: Mutex::default(),
            monitors: Mutex::default(),
            monitoring: AtomicUsize::new(0),
        }
    }
}

impl Slow {
    /// A command took so long. Costs two loads when that is not long.
    #[inline]
    pub fn note(&self, took_ns: u64, client: &Client, arguments: &[&[u8]]) {
        let threshold_us = self.threshold_us.load(Ordering::Relaxed);
        let took_us = took_ns / 1_000;
        if u64::try_from(threshold_us).is_ok_and(|threshold_us| threshold_us <= took_us) {
            self.log(took_us, client, arguments);
        }
        let threshold_ms = self.latency_threshold_ms.load(Ordering::Relaxed);
        if 0 < threshold_ms && threshold_ms <= took_us / 1_000 {
            self.spike("command", took_us / 1_000);
        }
    }

    #[cold]
    fn log(&self, took_us: u64, client: &Client, arguments: &[&[u8]]) {
        // What took the time is one of its commands, which are logged.
        if arguments
            .first()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"EXEC"))
        {
            return;
        }
        let name = client.facts.lock().name.clone();
        let mut log = self.log.lock();
        let entry = SlowCommand {
            id: log.0,
            at_s: clock::now_ms() / 1000,
            took_us,
            arguments: shorten(arguments),
            address: client.address.clone(),
            name,
        };
        log.0 += 1;
        log.1.push_front(entry);
        log.1.truncate(self.entries_max.load(Ordering::Relaxed));
    }

    #[cold]
    fn spike(&self, event: &'static str, took_ms: u64) {
        let mut events = self.events.lock();
        let spikes = events.entry(event).or_default();
        let at_s = clock::now_ms() / 1000;
        match spikes.back_mut() {
            // As in Redis: one a second, the worst.
            Some(last) if last.at_s == at_s => last.took_ms = last.took_ms.max(took_ms),
            _ => spikes.push_back(Spike { at_s, took_ms }),
        }
        if limits::LATENCY_SPIKES < spikes.len() {
            spikes.pop_front();
        }
    }

    /// The latest `count` commands of the slow log, the latest first.
    pub fn latest(&self, count: usize) -> Vec<SlowCommand> {
        self.log.lock().1.iter().take(count).cloned().collect()
    }

    /// How many commands are in the slow log.
    pub fn logged(&self) -> usize {
        self.log.lock().1.len()
    }

    /// Empties the slow log.
    pub fn reset_log(&self) {
        self.log.lock().1.clear();
    }

    /// The latency events and their spikes, the oldest first.
    pub fn events(&self) -> Vec<(&'static str, Vec<Spike>)> {
        let events = self.events.lock();
        events
            .iter()
            .map(|(&name, spikes)| (name, spikes.iter().copied().collect()))
            .collect()
    }

    /// Forgets the spikes of these events, or of all if none is named. Returns of how many.
    pub fn reset_events(&self, names: &[&[u8]]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|event, _| {
            !names.is_empty()
                && !names
                    .iter()
                    .any(|n| n.eq_ignore_ascii_case(event.as_bytes()))
        });
        before - events.len()
    }

    /// A new monitor: what it gets is to be written as it is.
    pub fn monitor(&self) -> mpsc::Receiver<Arc<[u8]>> {
        let (sender, receiver) = mpsc::channel(limits::MONITOR_LINES_MAX);
        let mut monitors = self.monitors.lock();
        monitors.push(sender);
        self.monitoring.store(monitors.len(), Ordering::Relaxed);
        receiver
    }

    /// Shows a command to the monitors. Costs a load if there are none. One whose line of lines is
    /// full is cut off.
    #[inline]
    pub fn show(&self, client: &Client, arguments: &[&[u8]]) {
        if 0 < self.monitoring.load(Ordering::Relaxed) {
            self.show_to_all(client, arguments);
        }
    }

    #[cold]
    fn show_to_all(&self, client: &Client, arguments: &[&[u8]]) {
        let now_us = clock::now_us();
        let (seconds, fraction) = (now_us / 1_000_000, now_us % 1_000_000);
        let mut line = format!("+{seconds}.{fraction:06} [0 {}]", client.address);
        for argument in arguments {
            let _ = write!(line, " \"{}\"", argument.escape_ascii());
        }
        line.push_str("\r\n");
        let line: Arc<[u8]> = line.into_bytes().into();
        let mut monitors = self.monitors.lock();
        monitors.retain(|monitor| monitor.try_send(Arc::clone(&line)).is_ok());
        self.monitoring.store(monitors.len(), Ordering::Relaxed);
    }
}

/// As Redis's slow log: 32 arguments of 128 bytes.
fn shorten(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let (count_max, bytes_max) = (limits::SLOW_LOG_ARGUMENTS, limits::SLOW_LOG_ARGUMENT_BYTES);
    let shown = if count_max < arguments.len() {
        count_max - 1
    } else {
        arguments.len()
    };
    let mut short: Vec<Vec<u8>> = Vec::with_capacity(shown + 1);
    for argument in &arguments[..shown] {
        let mut text = argument[..argument.len().min(bytes_max)].to_vec();
        if bytes_max < argument.len() {
            text.extend(format!("... ({} more bytes)", argument.len() - bytes_max).bytes());
        }
        short.push(text);
    }
    if shown < arguments.len() {
        short.push(format!("... ({} more arguments)", arguments.len() - shown).into_bytes());
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened_as_in_redis() {
        let long = [b'x'; 200];
        let arguments = vec![&long[..]; 40];
        let short = shorten(&arguments);
        assert_eq!(short.len(), 32);
        assert!(short[0].ends_with(b"x... (72 more bytes)"));
        assert_eq!(short[31], b"... (9 more arguments)");
        assert_eq!(shorten(&[b"GET", b"k"]), [b"GET".to_vec(), b"k".to_vec()]);
    }

    #[test]
    fn logs_forget_their_oldest_entries() {
        let slow = Slow::default();
        slow.entries_max.store(2, Ordering::Relaxed);
        slow.latency_threshold_ms.store(1, Ordering::Relaxed);
        let client = Client::for_tests();
        for (took_ms, name) in [(9, b"a"), (20, b"b"), (30, b"c"), (40, b"d")] {
            slow.note(took_ms * 1_000_000, &client, &[name]);
        }
        let names: Vec<_> = slow
            .latest(10)
            .into_iter()
            .map(|e| (e.id, e.arguments))
            .collect();
        assert_eq!(names, [(2, vec![b"d".to_vec()]), (1, vec![b"c".to_vec()])]);
        let worst = slow.events()[0].1.iter().map(|spike| spike.took_ms).max();
        assert_eq!(worst, Some(40));
        slow.reset_log();
        assert_eq!(
            (slow.logged(), slow.reset_events(&[]), slow.events().len()),
            (0, 1, 0)
        );
    }

    #[test]
    fn a_monitor_that_does_not_read_is_cut_off() {
        let slow = Slow::default();
        let client = Client::for_tests();
        let mut monitor = slow.monitor();
        for _ in 0..=limits::MONITOR_LINES_MAX {
            slow.show(&client, &[b"SET", b"k", b"a\nb"]);
        }
        let line = monitor.try_recv().unwrap();
        assert!(line.ends_with(b"[0 127.0.0.1:1] \"SET\" \"k\" \"a\\nb\"\r\n"));
        assert_eq!(slow.monitoring.load(Ordering::Relaxed), 0);
    }
}
