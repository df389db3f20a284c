//! `client-output-buffer-limit`: what clients may leave unread.
//!
//! A connection whose client does not read stops executing: it waits for its replies to be taken,
//! holding no lock, and reads no more requests. So what piles up is bounded without any limit by
//! `limits::REPLY_FLUSH_BYTES` and one reply. As in Redis there is none for normal clients unless
//! set, but for a quarter of the machine's memory: a few words can ask for a reply of any size. The
//! other classes are there for tools that like to set and read them back.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::memory;

/// The classes of clients, and what Redis allows them: bytes at once, bytes for some time, seconds.
const CLASSES: [(&str, [u64; 3]); 3] = [
    ("normal", [0, 0, 0]),
    ("slave", [256 << 20, 64 << 20, 60]),
    ("pubsub", [32 << 20, 8 << 20, 60]),
];

/// Limits of one class: all are 0 if there is none.
#[derive(Debug, Default)]
struct Limit {
    hard_bytes: AtomicU64,
    soft_bytes: AtomicU64,
    soft_s: AtomicU64,
}

impl Limit {
    fn set(&self, [hard_bytes, soft_bytes, soft_s]: [u64; 3]) {
        self.hard_bytes.store(hard_bytes, Ordering::Relaxed);
        self.soft_bytes.store(soft_bytes, Ordering::Relaxed);
        self.soft_s.store(soft_s, Ordering::Relaxed);
    }

    fn get(&self) -> [u64; 3] {
        [&self.hard_bytes, &self.soft_bytes, &self.soft_s]
            .map(|limit| limit.load(Ordering::Relaxed))
    }
}

/// How long a client may take to read what it has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as it likes.
    Endless,
    /// So long.
    Until(Duration),
    /// It is too much already.
    None,
}

/// See the module.
#[derive(Debug)]
pub struct OutputLimits {
    classes: [Limit; 3],
    /// What a client may have to read where no limit is set.
    unlimited_bytes: u64,
    /// Clients that were disconnected for what they left unread.
    pub(crate) exceeded: AtomicU64,
}

impl Default for OutputLimits {
    fn default() -> Self {
        let limits = Self {
            classes: <[Limit; 3]>::default(),
            unlimited_bytes: match memory::total() / 4 {
                0 => u64::MAX,
                bytes => bytes,
            },
            exceeded: AtomicU64::new(0),
        };
        for (limit, (_, values)) in limits.classes.iter().zip(CLASSES) {
            limit.set(values);
        }
        limits
    }
}

impl OutputLimits {
    /// What becomes of a normal client that has this much to read.
    pub(super) fn patience(&self, bytes: usize) -> Patience {
        let [_, soft, soft_s] = self.classes[0].get();
        let is_over = |limit: u64| 0 < limit && limit < bytes as u64;
        if is_over(self.bytes_max()) {
            Patience::None
        } else if is_over(soft) {
            Patience::Until(Duration::from_secs(soft_s))
        } else {
            Patience::Endless
        }
    }

    /// What a normal client may have to read at most.
    #[inline]
    pub(super) fn bytes_max(&self) -> u64 {
        match self.classes[0].hard_bytes.load(Ordering::Relaxed) {
            0 => self.unlimited_bytes,
            bytes => bytes,
        }
    }

    /// Sets classes as `CONFIG SET` writes them, or says what is wrong; only checks unless told to
    /// apply. `read_bytes` reads a number of bytes with a unit.
    pub(crate) fn set(
        &self,
        text: &str,
        apply: bool,
        read_bytes: impl Fn(&str) -> Option<u64>,
    ) -> Result<(), &'static str> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.");
        }
        for words in words.chunks_exact(4) {
            let name = words[0].to_ascii_lowercase();
            let name = if name == "replica" { "slave" } else { &name };
            let class = CLASSES.iter().position(|(class, _)| *class == name);
            let class =
                class.ok_or("Invalid client class specified in buffer limit configuration.")?;
            let values = (
                read_bytes(words[1]),
                read_bytes(words[2]),
                words[3].parse().ok(),
            );
            let (Some(hard), Some(soft), Some(soft_s)) = values else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
                );
            };
            if apply {
                self.classes[class].set([hard, soft, soft_s]);
            }
        }
        Ok(())
    }

    /// All classes as `CONFIG GET` writes them.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (limit, (name, _)) in self.classes.iter().zip(CLASSES) {
            let [hard, soft, soft_s] = limit.get();
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{name} {hard} {soft} {soft_s}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_class_and_act_on_normal_clients() {
        let limits = OutputLimits::default();
        let set = |text| limits.set(text, true, |bytes| bytes.parse().ok());
        let text = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(limits.to_text(), text);
        assert_eq!(limits.patience(1 << 20), Patience::Endless);
        assert_eq!(
            limits.patience(1 << 50),
            Patience::None,
            "more than there is"
        );
        assert_eq!(set("replica 1 2 3 normal 100 10 5"), Ok(()));
        assert!(
            limits
                .to_text()
                .starts_with("normal 100 10 5 slave 1 2 3 pubsub")
        );
        assert_eq!(limits.patience(10), Patience::Endless);
        assert_eq!(limits.patience(11), Patience::Until(Duration::from_secs(5)));
        assert_eq!(limits.patience(101), Patience::None);
        for wrong in [
            "normal 1 2",
            "master 1 2 3",
            "x 1 2 3",
            "normal x 0 0",
            "normal 0 0 -1",
        ] {
            assert!(set(wrong).is_err(), "{wrong}");
        }
        assert_eq!(set(""), Ok(()));
    }
}
