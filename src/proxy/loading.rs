//! Whether a node serves clients yet, and if not, why.
//!
//! The one place for it: whoever fills a node that has started says here what it waits for, and
//! that it is done; commands that need data look here. Once done a node stays so, unless the other
//! regions forget its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock;

/// What a node waits for before it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// To hear from this region.
    Word(String),
    /// To be let in by these regions.
    Confirmation(Vec<String>),
    /// To be let back in: the others have forgotten this region, or this life of it.
    Forgotten {
        /// Whether they have let it back in.
        is_back: bool,
    },
    /// To come back: the others have not heard this region for too long, and do without it.
    Excluded,
    /// To hold what this region holds.
    Ops(String),
    /// The same, which this region's log no longer has: an operator has to decide.
    Decision(String),
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(region) => write!(f, "waits for word from {region}"),
            Self::Confirmation(regions) => {
                write!(f, "waits to be let in by {}", regions.join(", "))
            }
            Self::Forgotten { is_back: false } => write!(
                f,
                "was forgotten by the other regions: see `meridian admin region rejoin`"
            ),
            Self::Forgotten { is_back: true } => write!(
                f,
                "was forgotten and let back in, but holds what it held before: start it again, and \
                 it puts that aside, fills up from the others, and writes again what nobody else has"
            ),
            Self::Excluded => write!(
                f,
                "was excluded by the other regions, which had not heard it for too long: start its \
                 node again, which puts aside what it holds, fills up from them, and writes again \
                 what nobody else has"
            ),
            Self::Ops(region) => write!(f, "fills up from {region}"),
            Self::Decision(region) => write!(
                f,
                "the log of {region} no longer has all that is lacking; see REGION ACCEPT-LOSS"
            ),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Loading {
    is_on: AtomicBool,
    joins: AtomicBool,
    has_served: AtomicBool,
    since_ms: AtomicU64,
    waits: Mutex<Option<Waits>>,
}

impl Loading {
    /// The node does not serve from now on.
    pub fn begin(&self) {
        self.since_ms.store(clock::now_ms(), Ordering::Relaxed);
        self.is_on.store(true, Ordering::Release);
    }

    /// The same of a region that is to be let in: it takes no writes, but lets read what it has.
    pub fn begin_joining(&self) {
        self.join();
        self.begin();
    }

    /// What it waits for is to be let in, among others.
    pub fn join(&self) {
        self.joins.store(true, Ordering::Relaxed);
    }

    /// Whether what it waits for is to be let in.
    pub fn joins(&self) -> bool {
        self.joins.load(Ordering::Relaxed)
    }

    /// Whether it does not serve yet.
    #[inline]
    pub fn is_loading(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Whether it has ever served: clients, or what goes on without them, may have written then.
    pub fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Acquire) || !self.is_loading()
    }

    /// Since when, milliseconds since 1970.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    /// What it waits for, if that is known.
    pub fn waits(&self) -> Option<Waits> {
        self.waits.lock().clone()
    }

    /// Says what it waits for. Logged when it changes.
    pub fn set_waits(&self, waits: Waits) {
        let mut known = self.waits.lock();
        if known.as_ref() != Some(&waits) {
            match waits {
                Waits::Decision(_) | Waits::Forgotten { .. } | Waits::Excluded => {
                    tracing::error!(reason = %waits, "loading");
                }
                Waits::Word(_) | Waits::Confirmation(_) => {
                    tracing::info!(reason = %waits, "loading");
                }
                // Shard by shard: too often for more.
                Waits::Ops(_) => tracing::debug!(reason = %waits, "loading"),
            }
            *known = Some(waits);
        }
    }

    /// It serves from now on. Returns whether it did not before.
    pub fn end(&self) -> bool {
        if !self.is_on.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.has_served.store(true, Ordering::Release);
        let took_ms = clock::now_ms().saturating_sub(self.since_ms());
        tracing::info!(took_ms, "serving clients");
        *self.waits.lock() = None;
        true
    }
}
