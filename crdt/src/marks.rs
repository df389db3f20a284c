//! Whether a removal takes all of something away, without a look at what is in it.
//!
//! What a slot or a key's containers hold was left there by effects, so their latest time bounds
//! all facts in it. If an op has seen everything up to then, all of it goes, but for counter parts:
//! those are marked apart. The answer may be no where a look at each fact would say yes.

use crate::effect::Change;
use crate::fact::{Id, Seen};
use crate::stamp::Time;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// That of the latest effect.
    latest: Time,
    /// Whether there may be counter parts.
    pub(crate) counted: bool,
}

impl Marks {
    /// Notes an effect that leaves something behind.
    pub(crate) fn note(&mut self, id: Id, change: &Change<'_>) {
        self.latest = self.latest.max(id.time);
        self.counted |= matches!(
            change,
            Change::StringAdd { .. }
                | Change::FieldAdd { .. }
                | Change::ScoreAdd { .. }
                | Change::RaisePart { .. }
                | Change::RaiseScore { .. }
        );
    }

    /// The time of the latest effect.
    pub(crate) const fn latest(&self) -> Time {
        self.latest
    }

    /// Notes facts that come from elsewhere, and whether counter parts are among them.
    pub(crate) fn note_facts(&mut self, latest: Time, counted: bool) {
        self.latest = self.latest.max(latest);
        self.counted |= counted;
    }

    /// Whether an op removes all of it. `applied` are the last ops of each origin, by number.
    pub(crate) fn goes_whole(&self, seen: Seen<'_>, applied: &[Time]) -> bool {
        let covered = match seen {
            Seen::All => true,
            // Some of it may have come after this effect of the op.
            Seen::Again(..) => false,
            Seen::UpTo(cover) | Seen::And(cover, _) => (0..).zip(applied).all(|(origin, &last)| {
                let covered = cover.get(origin).copied().unwrap_or_default();
                // All that there is of the origin, or all that can be in here.
                last <= covered || self.latest <= covered
            }),
        };
        covered && !self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::OriginIx;

    fn marks(times: &[u64]) -> Marks {
        let mut marks = Marks::default();
        for &time in times {
            let id = Id {
                time: Time(time),
                index: 0,
                origin: OriginIx(0),
            };
            marks.note(id, &Change::MemberAdd { member: b"m" });
        }
        marks
    }

    #[test]
    fn what_was_seen_up_to_the_latest_goes() {
        let marks = marks(&[3, 9, 5]);
        assert!(marks.goes_whole(Seen::All, &[Time(9), Time(7)]));
        for (cover, expected) in [
            ([9, 9], true),
            ([9, 8], false),
            ([8, 9], false),
            ([20, 30], true),
        ] {
            let cover = cover.map(Time);
            assert_eq!(
                marks.goes_whole(Seen::UpTo(&cover), &[Time(40), Time(40)]),
                expected
            );
        }
        // Nothing of the second origin came after what was seen of it.
        assert!(marks.goes_whole(Seen::UpTo(&[Time(9), Time(2)]), &[Time(40), Time(2)]));
        assert!(!marks.goes_whole(Seen::UpTo(&[Time(9)]), &[Time(40), Time(2)]));
    }

    #[test]
    fn counter_parts_stay() {
        let mut marks = marks(&[3]);
        let increment = crate::effect::Increment {
            birth: crate::stamp::Dot::default(),
            sum: 1.0,
        };
        let id = Id {
            time: Time(4),
            index: 0,
            origin: OriginIx(0),
        };
        marks.note(
            id,
            &Change::ScoreAdd {
                member: b"m",
                increment,
            },
        );
        assert!(!marks.goes_whole(Seen::All, &[Time(4)]));
    }
}
