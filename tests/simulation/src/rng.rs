//! Chance from a seed: `SplitMix64`, so that a seed means the same in every version of every library.
//! Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.

/// A stream of numbers that follows from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound - 1`; 0 when there is nothing to choose from.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = usize::try_from(to - from + 1).unwrap_or(1);
        from + i64::try_from(self.below(span)).unwrap_or(0)
    }

    /// True so many times in a thousand.
    pub(crate) fn permille(&mut self, chance: u32) -> bool {
        self.below(1000) < usize::try_from(chance).unwrap_or(0)
    }

    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.permille(chance * 10)
    }

    /// One of these; there must be one.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// The index of one of these, as often as their weights say.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u32 = weights.iter().sum();
        let mut at = self.below(usize::try_from(total).unwrap_or(1));
        for (index, weight) in weights.iter().enumerate() {
            let weight = usize::try_from(*weight).unwrap_or(0);
            if at < weight {
                return index;
            }
            at -= weight;
        }
        0
    }
}
