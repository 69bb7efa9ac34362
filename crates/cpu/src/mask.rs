//! What a constraint leaves of a row of logits.

/// Ids per word of a mask.
const BITS: usize = 32;

/// Bits that say which ids may be chosen, and the logits with the others masked.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    /// Bit `id % 32` of word `id / 32`; ids beyond the words are masked.
    words: Vec<u32>,
    /// `[vocab_size]`.
    logits: Vec<f32>,
}

impl Mask {
    /// Room for a vocabulary, so that no later call allocates. A mask may have a bit more than there are ids.
    pub(crate) fn with_capacity(vocab_size: usize) -> Self {
        Self { words: Vec::with_capacity(vocab_size / BITS + 1), logits: Vec::with_capacity(vocab_size) }
    }

    /// Bytes of the mask of a vocabulary.
    pub(crate) fn bytes(vocab_size: usize) -> usize {
        (vocab_size / BITS + 1) * size_of::<u32>() + vocab_size * size_of::<f32>()
    }

    /// Bytes that the mask holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>() + self.logits.capacity() * size_of::<f32>()
    }

    /// The bits, to be written.
    pub(crate) fn words(&mut self) -> &mut Vec<u32> {
        &mut self.words
    }

    /// `logits`, at negative infinity where the bits are 0.
    pub(crate) fn apply(&mut self, logits: &[f32]) -> &[f32] {
        self.logits.clear();
        let words = self.words.iter().copied().chain(std::iter::repeat(0));
        for (logits, word) in logits.chunks(BITS).zip(words) {
            match word {
                0 => self.logits.extend(logits.iter().map(|_| f32::NEG_INFINITY)),
                u32::MAX => self.logits.extend_from_slice(logits),
                word => self.logits.extend(
                    logits
                        .iter()
                        .enumerate()
                        .map(|(bit, &logit)| if word >> bit & 1 == 1 { logit } else { f32::NEG_INFINITY }),
                ),
            }
        }
        &self.logits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_bit_is_masked() {
        let logits: Vec<f32> = (0..100_u8).map(f32::from).collect();
        let mut mask = Mask::with_capacity(100);
        *mask.words() = vec![0b101, 0, u32::MAX];
        let left = mask.apply(&logits);
        for (id, (&left, &logit)) in left.iter().zip(&logits).enumerate() {
            let allowed = matches!(id, 0 | 2 | 64..96);
            assert_eq!(left, if allowed { logit } else { f32::NEG_INFINITY }, "{id}");
        }
        assert_eq!(left.len(), 100);
    }
}
