//! Who issues ops: a region, in one life of a shard's primary.
//!
//! A region id is never reused in the life of a database, and an epoch never in the life of a
//! shard, so an origin names one uninterrupted sequence of ops. Everything that must not be
//! confused after a crash, a failover or a restored backup hangs on that.

use std::fmt;

/// A region of the database: an id from 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(u8);

impl Region {
    /// The region with this id, or `None` for 0, which names no region.
    pub const fn new(id: u8) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// The id, from 1 to 255.
    pub const fn id(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of a shard's primary in its region: wall-clock milliseconds at its start, raised
/// above every epoch of that shard known by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Who issues ops: `(region, epoch)` of a shard. Ordered by region, then epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The region that issues.
    pub region: Region,
    /// The life of its primary.
    pub epoch: Epoch,
}

impl Origin {
    /// The origin of `region` in `epoch`.
    pub const fn new(region: Region, epoch: Epoch) -> Self {
        Self { region, epoch }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.region, self.epoch.0)
    }
}
