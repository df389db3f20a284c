//! Which regions this node has a link to, and which it must ask others about.

use std::collections::BTreeMap;

use crdt::Region;

use super::{Instant, Span};

/// How long a link must be down, or the peer quiet, before its region's ops are asked of others.
const PATIENCE: Span = Span::from_ms(1_000);
/// How long a link must be down before a node that starts does without its region.
const LOST: Span = Span::from_ms(3_000);

/// The other regions, and since when there has been no link to each. One a node; small.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// `None`: there is a link.
    down_since: BTreeMap<Region, Option<Instant>>,
    ups: u64,
}

impl Reach {
    /// No links yet to any of these.
    pub fn new(others: impl IntoIterator<Item = Region>, now: Instant) -> Self {
        Self {
            down_since: others
                .into_iter()
                .map(|region| (region, Some(now)))
                .collect(),
            ups: 0,
        }
    }

    /// There is a link to this region.
    pub fn up(&mut self, region: Region) {
        self.down_since.insert(region, None);
        self.ups += 1;
    }

    /// How often a link has come up.
    pub const fn ups(&self) -> u64 {
        self.ups
    }

    /// The link to this region is gone. Later calls change nothing until it has been up again.
    pub fn down(&mut self, region: Region, now: Instant) {
        self.down_since
            .entry(region)
            .or_default()
            .get_or_insert(now);
    }

    /// The regions whose ops must come from others.
    pub fn wanted(&self, now: Instant) -> impl Iterator<Item = Region> + '_ {
        self.down_for(PATIENCE, now)
    }

    /// The regions that a node which starts does not wait for any longer.
    pub fn lost(&self, now: Instant) -> impl Iterator<Item = Region> + '_ {
        self.down_for(LOST, now)
    }

    fn down_for(&self, span: Span, now: Instant) -> impl Iterator<Item = Region> + '_ {
        self.down_since
            .iter()
            .filter(move |(_, since)| since.is_some_and(|since| span <= now.since(since)))
            .map(|(&region, _)| region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_wanted_once_its_link_has_been_down_for_a_second() {
        let region = Region::new(2).expect("not 0");
        let at = |ms| Instant(0) + Span::from_ms(ms);
        let mut reach = Reach::new([region], at(0));
        assert_eq!(reach.wanted(at(999)).count(), 0);
        assert_eq!(reach.wanted(at(1_000)).count(), 1);
        reach.up(region);
        assert_eq!(reach.wanted(at(5_000)).count(), 0);
        reach.down(region, at(6_000));
        reach.down(region, at(6_900));
        assert_eq!(reach.wanted(at(7_000)).count(), 1);
    }
}
