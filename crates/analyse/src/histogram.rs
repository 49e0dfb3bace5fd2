//! How often each duration occurred, in little memory.

/// Buckets to a doubling: a value is known within a sixteenth of itself.
const PARTS: u32 = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();

/// Counts of values, in buckets that are at most a sixteenth of their values wide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The number of the first bucket in `counts`.
    first: u32,
    counts: Vec<u64>,
    total: u64,
}

/// The bucket of a value: exact below [`PARTS`], then [`PARTS`] to a doubling.
#[inline]
const fn bucket(value: u64) -> u32 {
    if value < PARTS as u64 {
        return value as u32;
    }
    let shift = 63 - PART_BITS - value.leading_zeros();
    shift * PARTS + (value >> shift) as u32
}

/// The least value of a bucket.
const fn lower(bucket: u32) -> u64 {
    if bucket < 2 * PARTS {
        return bucket as u64;
    }
    let shift = bucket / PARTS - 1;
    ((bucket % PARTS + PARTS) as u64) << shift
}

/// The greatest value of a bucket.
const fn upper(bucket: u32) -> u64 {
    let width = if bucket < 2 * PARTS { 1 } else { 1u64 << (bucket / PARTS - 1) };
    lower(bucket) + (width - 1)
}

impl Histogram {
    /// Counts a value.
    #[inline]
    pub fn add(&mut self, value: u64) {
        let bucket = bucket(value);
        self.total += 1;
        match self.counts.get_mut(bucket.wrapping_sub(self.first) as usize) {
            Some(count) => *count += 1,
            None => self.grow(bucket),
        }
    }

    #[cold]
    fn grow(&mut self, bucket: u32) {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let before = (self.first - bucket) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
            self.first = bucket;
        }
        let at = (bucket - self.first) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value that `share` of all values do not exceed (0.5: the median), to within a
    /// thirty-second of it; 0 where nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, &count) in (self.first..).zip(&self.counts) {
            seen += count;
            if seen >= rank {
                return lower(bucket) + (upper(bucket) - lower(bucket)) / 2;
            }
        }
        0
    }

    /// Counts by power of two: (least value, greatest value, how many), without gaps.
    #[must_use]
    pub fn doublings(&self) -> Vec<(u64, u64, u64)> {
        let mut rows: Vec<(u64, u64, u64)> = Vec::new();
        for (bucket, &count) in (self.first..).zip(&self.counts) {
            let least = match lower(bucket) {
                0 => 0,
                value => 1 << value.ilog2(),
            };
            match rows.last_mut() {
                Some(row) if row.0 == least => row.2 += count,
                _ => rows.push((least, least + (least.max(1) - 1), count)),
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_join_without_gap_and_are_narrow() {
        for number in 0..bucket(u64::MAX) {
            assert_eq!(bucket(lower(number)), number);
            assert_eq!(bucket(upper(number)), number);
            assert_eq!(upper(number) + 1, lower(number + 1));
            assert!(upper(number) - lower(number) <= lower(number) / 16);
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in prop::collection::vec(prop_oneof![0..100_u64, any::<u64>()], 1..200),
            share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.add(value));
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let said = histogram.quantile(share);
            prop_assert!(said.abs_diff(exact) <= exact / 32 + 1, "{said} for {exact}");
            let counted: u64 = histogram.doublings().iter().map(|row| row.2).sum();
            prop_assert_eq!(counted, histogram.total());
        }
    }

    #[test]
    fn doublings_have_no_gaps() {
        let mut histogram = Histogram::default();
        [0, 1, 3, 40, 41].into_iter().for_each(|value| histogram.add(value));
        let counts: Vec<_> = histogram.doublings().iter().map(|row| (row.0, row.2)).collect();
        assert_eq!(counts, [(0, 1), (1, 1), (2, 1), (4, 0), (8, 0), (16, 0), (32, 2)]);
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
