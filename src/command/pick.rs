//! Picking elements at random, for `SRANDMEMBER`, `HRANDFIELD` and `ZRANDMEMBER`.

use std::collections::HashSet;

use super::{Args, CommandError};

/// The most that a negative count may ask for: more would hold the lock for minutes.
const REPEATED_MAX: i64 = 1 << 31;

/// How many elements to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// So many different ones, or all that there are.
    Distinct(usize),
    /// So many, each independently of the others.
    Repeated(usize),
}

impl Amount {
    /// Takes a count: the same element may come several times if it is negative.
    pub(super) fn take(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let count = args.int()?;
        if count == i64::MIN {
            return Err(CommandError::text(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ));
        }
        if count < -REPEATED_MAX {
            return Err(CommandError::OutOfRange);
        }
        let amount = count.unsigned_abs() as usize;
        Ok(if count < 0 {
            Self::Repeated(amount)
        } else {
            Self::Distinct(amount)
        })
    }

    /// Refuses counts that cannot be doubled, which a reply with values would need.
    pub(super) const fn with_values(self) -> Result<Self, CommandError> {
        match self {
            Self::Distinct(count) if i64::MAX as usize / 2 < count => Err(CommandError::OutOfRange),
            Self::Distinct(_) | Self::Repeated(_) => Ok(self),
        }
    }

    /// Picks among `length` elements: from `all` of them, or each by `one`. Costs O(count), or
    /// O(length) if a large part is asked for.
    pub(super) fn pick<'a, T>(
        self,
        length: usize,
        chance: &mut fastrand::Rng,
        all: impl Iterator<Item = (&'a [u8], T)>,
        mut one: impl FnMut(&mut fastrand::Rng) -> Option<(&'a [u8], T)>,
    ) -> Vec<(&'a [u8], T)> {
        match self {
            Self::Repeated(_) if length == 0 => Vec::new(),
            Self::Repeated(count) => (0..count).filter_map(|_| one(chance)).collect(),
            Self::Distinct(count) if length <= count => all.collect(),
            Self::Distinct(count) if length / 3 < count => sample(count, length, chance, all),
            Self::Distinct(count) => {
                let mut seen = HashSet::with_capacity(count);
                let mut picked = Vec::with_capacity(count);
                while picked.len() < count {
                    let Some((name, value)) = one(chance) else {
                        break;
                    };
                    if seen.insert(name) {
                        picked.push((name, value));
                    }
                }
                picked
            }
        }
    }
}

/// Takes `count` of `length` elements, each set of them as likely as every other.
///
/// Source: Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S.
fn sample<T>(
    count: usize,
    length: usize,
    chance: &mut fastrand::Rng,
    all: impl Iterator<Item = T>,
) -> Vec<T> {
    let mut picked = Vec::with_capacity(count);
    for (at, element) in all.enumerate() {
        let left = length.saturating_sub(at).max(1);
        if chance.usize(0..left) < count - picked.len() {
            picked.push(element);
        }
    }
    chance.shuffle(&mut picked);
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];

    fn pick(amount: Amount, seed: u64) -> Vec<&'static [u8]> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let all = NAMES.iter().map(|&name| (name, ()));
        let one = |chance: &mut fastrand::Rng| Some((NAMES[chance.usize(0..6)], ()));
        let picked = amount.pick(6, &mut chance, all, one);
        picked.into_iter().map(|(name, ())| name).collect()
    }

    #[test]
    fn distinct_picks_are_distinct_and_reach_everything() {
        for count in 0..9 {
            let mut reached = HashSet::new();
            for seed in 0..100 {
                let picked = pick(Amount::Distinct(count), seed);
                let distinct: HashSet<_> = picked.iter().copied().collect();
                assert_eq!(picked.len(), count.min(6));
                assert_eq!(distinct.len(), picked.len());
                reached.extend(distinct);
            }
            assert_eq!(reached.len(), if count == 0 { 0 } else { 6 });
        }
    }

    #[test]
    fn repeated_picks_are_as_many_as_asked_for() {
        assert_eq!(pick(Amount::Repeated(50), 1).len(), 50);
    }
}
