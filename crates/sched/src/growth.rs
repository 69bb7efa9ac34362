//! How long outputs turn out to be, per class.

/// Buckets: four per power of two, up to 2^17 tokens.
const BUCKETS: usize = 72;
/// Counts are halved when so many have been seen, so that the median follows the traffic.
const WINDOW: u32 = 256;

/// Fading median of observed output lengths, in tokens.
#[derive(Clone, Debug)]
pub(crate) struct OutputMedian {
    counts: [u32; BUCKETS],
    total: u32,
    median: u32,
}

impl Default for OutputMedian {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0, median: 0 }
    }
}

impl OutputMedian {
    /// Adds one finished output of `tokens` tokens.
    pub(crate) fn observe(&mut self, tokens: u32) {
        self.counts[bucket(tokens)] += 1;
        self.total += 1;
        if self.total == WINDOW {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += count;
            2 * below >= self.total
        });
        self.median = at.map_or(0, lower_bound);
    }

    /// The median, rounded down to its bucket; 0 before the first observation.
    pub(crate) fn tokens(&self) -> u32 {
        self.median
    }
}

fn bucket(tokens: u32) -> usize {
    if tokens < 4 {
        return tokens as usize;
    }
    let octave = tokens.ilog2();
    let quarter = (tokens >> (octave - 2)) & 3;
    ((4 * (octave - 1) + quarter) as usize).min(BUCKETS - 1)
}

fn lower_bound(bucket: usize) -> u32 {
    let bucket = bucket as u32;
    if bucket < 4 {
        return bucket;
    }
    (4 + bucket % 4) << (bucket / 4 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_a_quarter_octave_wide_and_contiguous() {
        for tokens in 0..100_000 {
            let low = lower_bound(bucket(tokens));
            assert!(low <= tokens && tokens <= low + low / 4, "{tokens} is in the bucket of {low}");
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_median_follows_the_traffic() {
        let mut median = OutputMedian::default();
        assert_eq!(median.tokens(), 0);
        (0..101).for_each(|i| median.observe(i));
        assert_eq!(median.tokens(), 48);
        (0..2_000).for_each(|_| median.observe(8));
        assert_eq!(median.tokens(), 8);
    }
}
