//! What has been done: while it goes on, and at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::clock;

/// Between two lines about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Bytes in the unit of these lines.
const MEGABYTE: f64 = 1e6;

/// Why something of the file was not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    /// A key that is there, and was not to be replaced.
    Busy,
    /// A key past its deadline.
    Expired,
    /// A key of another database.
    OtherDatabase,
    /// A key of a type that we have not.
    NotOurs(&'static str),
    /// A key that the node does not take.
    Refused,
    /// A library of functions.
    Function,
    /// What a module keeps besides keys.
    ModuleData,
}

impl Skip {
    fn text(self) -> String {
        match self {
            Self::Busy => "there already (--replace replaces them)".into(),
            Self::Expired => "expired".into(),
            Self::OtherDatabase => "in other databases".into(),
            Self::NotOurs(kind) => format!("{kind}: no type of ours"),
            Self::Refused => "refused".into(),
            Self::Function => "libraries of functions".into(),
            Self::ModuleData => "records of modules".into(),
        }
    }
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    imported: BTreeMap<&'static str, u64>,
    skipped: BTreeMap<Skip, u64>,
}

impl Tally {
    /// A key of this type has arrived.
    pub(super) fn import(&mut self, kind: &'static str) {
        *self.imported.entry(kind).or_default() += 1;
    }

    /// Something was left out.
    pub(super) fn skip(&mut self, why: Skip) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Keys that have arrived.
    pub(super) fn imported(&self) -> u64 {
        self.imported.values().sum()
    }

    /// Keys that the node did not take.
    pub(super) fn refused(&self) -> u64 {
        self.skipped.get(&Skip::Refused).copied().unwrap_or(0)
    }

    /// Keys that were left out and are worth a word each.
    pub(super) fn left_out(&self) -> u64 {
        let named = |why: &Skip| matches!(why, Skip::NotOurs(_) | Skip::Refused);
        let skipped = self.skipped.iter();
        skipped.filter(|(why, _)| named(why)).map(|(_, n)| n).sum()
    }

    /// A line for what was imported, and one for each reason why something was not.
    pub(super) fn summary(&self) -> String {
        let kinds = self.imported.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let mut text = format!("imported {} keys", self.imported());
        if !kinds.is_empty() {
            let _ = write!(text, ": {}", kinds.join(", "));
        }
        text.push('\n');
        for (why, count) in &self.skipped {
            let _ = writeln!(text, "left out {count} {}", why.text());
        }
        text
    }
}

/// Says on stderr how far it is, now and then.
#[derive(Debug)]
pub(super) struct Progress {
    done: &'static str,
    bytes: u64,
    told: Instant,
}

impl Progress {
    /// Of a file of so many bytes; `done` is what is done with its keys.
    pub(super) fn new(done: &'static str, bytes: u64) -> Self {
        let told = clock::monotonic();
        Self { done, bytes, told }
    }

    /// So many keys, and so many bytes of the file, are done.
    pub(super) fn tell(&mut self, keys: u64, at: u64) {
        let now = clock::monotonic();
        if now.duration_since(self.told) < TELL_EVERY {
            return;
        }
        self.told = now;
        let percent = at.saturating_mul(100) / self.bytes.max(1);
        let (at, bytes) = (at as f64 / MEGABYTE, self.bytes as f64 / MEGABYTE);
        let done = self.done;
        // A closed stderr is nobody's loss.
        let _ = writeln!(
            io::stderr(),
            "{done} {keys} keys, {at:.1} of {bytes:.1} MB, {percent} %"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_by_type_and_reason() {
        let mut tally = Tally::default();
        for kind in ["string", "hash", "string"] {
            tally.import(kind);
        }
        for why in [
            Skip::Refused,
            Skip::NotOurs("stream"),
            Skip::Busy,
            Skip::Busy,
        ] {
            tally.skip(why);
        }
        let wanted = "imported 3 keys: 1 hash, 2 string\n\
             left out 2 there already (--replace replaces them)\n\
             left out 1 stream: no type of ours\n\
             left out 1 refused\n";
        assert_eq!(tally.summary(), wanted);
        assert_eq!((tally.refused(), tally.left_out()), (1, 2));
    }
}
