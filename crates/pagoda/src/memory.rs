//! How much memory there is, and how much of it the KV cache gets.

use std::fs;

/// Memory that this process may still take, in bytes: what the system has available, within the control group's
/// limit. `None` where the system does not tell.
pub fn available_bytes() -> Option<u64> {
    let system = meminfo_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(cgroup_room().map_or(system, |room| room.min(system)))
}

fn meminfo_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Room under the limit of a version 2 control group; `None` without a limit.
fn cgroup_room() -> Option<u64> {
    let read = |name| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
}

/// What decides the size of the KV pool.
#[derive(Clone, Copy, Debug)]
pub struct KvDemand {
    /// Tokens per block.
    pub block_size: u32,
    /// Bytes of one block over all layers.
    pub block_bytes: u64,
    /// Longest context of the model.
    pub model_context: u32,
    /// Longest sequence that was asked for; `None` adapts to the memory.
    pub max_model_len: Option<u32>,
    /// Most sequences that run at once.
    pub max_num_seqs: u32,
    /// Bytes asked for the pool; `None` takes at most half of `free_bytes`.
    pub kv_bytes: Option<u64>,
    /// Bytes that are free once weights and workspace are in place.
    pub free_bytes: u64,
}

/// Size of the KV pool and the longest sequence that fits into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSize {
    /// Blocks, the null block included.
    pub blocks: u32,
    /// Longest prompt + output of one request, in tokens.
    pub max_model_len: u32,
}

/// The memory does not suffice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvSizeError {
    /// The asked length needs more than there is.
    #[error(
        "the KV cache needs {needed} bytes for one request of {max_model_len} tokens, but {given} bytes are \
         given to it; fix: --max-model-len {fits}, or --kv-cache-memory {needed}, or free memory"
    )]
    TooSmall {
        /// Bytes that one request of full length needs.
        needed: u64,
        /// Bytes that the pool gets.
        given: u64,
        /// The asked length.
        max_model_len: u32,
        /// The length that would fit.
        fits: u32,
    },
    /// Not even a short sequence fits.
    #[error(
        "{given} bytes for the KV cache hold {fits} tokens, fewer than the {least} that a useful context needs; \
         free memory or set --kv-cache-memory"
    )]
    NoRoom {
        /// Bytes that the pool gets.
        given: u64,
        /// Tokens that fit.
        fits: u32,
        /// The least useful context.
        least: u32,
    },
    /// A longer sequence was asked for than the model was made for.
    #[error("max-model-len {asked} is beyond the model's context of {context} tokens; give at most that")]
    BeyondModel {
        /// The asked length.
        asked: u32,
        /// The model's context.
        context: u32,
    },
}

/// Shortest context that is worth starting with when the length was left open.
const LEAST_CONTEXT: u32 = 2048;

impl KvDemand {
    /// Chooses the size of the pool: what was set is obeyed or refused, what was left open adapts.
    ///
    /// # Errors
    /// [`KvSizeError`] when the memory does not hold one request of the asked length, or of a useful one.
    pub fn size(&self) -> Result<KvSize, KvSizeError> {
        if let Some(asked) = self.max_model_len.filter(|len| *len > self.model_context) {
            return Err(KvSizeError::BeyondModel { asked, context: self.model_context });
        }
        let wanted_len = self.max_model_len.unwrap_or(self.model_context);
        let useful = self.blocks_of(wanted_len).saturating_mul(u64::from(self.max_num_seqs));
        let given = self.kv_bytes.unwrap_or(self.free_bytes / 2);
        let most = (given / self.block_bytes).min(u64::from(u32::MAX / self.block_size) - 1);
        let blocks = if self.kv_bytes.is_some() { most } else { most.min(useful) };
        let max_model_len = self.fitting_len(blocks, wanted_len, given)?;
        Ok(KvSize { blocks: blocks as u32 + 1, max_model_len })
    }

    fn fitting_len(&self, blocks: u64, wanted_len: u32, given: u64) -> Result<u32, KvSizeError> {
        let fits = (blocks * u64::from(self.block_size)).min(u64::from(u32::MAX)) as u32;
        if self.blocks_of(wanted_len) <= blocks {
            return Ok(wanted_len);
        }
        if let Some(max_model_len) = self.max_model_len {
            let needed = self.blocks_of(max_model_len) * self.block_bytes;
            return Err(KvSizeError::TooSmall { needed, given, max_model_len, fits });
        }
        let least = LEAST_CONTEXT.min(self.model_context);
        if fits < least { Err(KvSizeError::NoRoom { given, fits, least }) } else { Ok(fits) }
    }

    fn blocks_of(&self, tokens: u32) -> u64 {
        u64::from(tokens.div_ceil(self.block_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> KvDemand {
        KvDemand {
            block_size: 16,
            block_bytes: 1000,
            model_context: 32_768,
            max_model_len: None,
            max_num_seqs: 4,
            kv_bytes: None,
            free_bytes: 100_000_000,
        }
    }

    #[test]
    fn takes_no_more_than_all_sequences_at_full_length_need() {
        assert_eq!(demand().size(), Ok(KvSize { blocks: 4 * 2048 + 1, max_model_len: 32_768 }));
    }

    #[test]
    fn takes_half_of_what_is_free_and_shrinks_the_open_length() {
        let size = KvDemand { free_bytes: 2_000_000, ..demand() }.size();
        assert_eq!(size, Ok(KvSize { blocks: 1001, max_model_len: 16_000 }));
    }

    #[test]
    fn a_set_length_that_does_not_fit_is_refused_with_the_length_that_would() {
        let error = KvDemand { free_bytes: 2_000_000, max_model_len: Some(20_000), ..demand() }.size();
        let error = error.unwrap_err();
        assert_eq!(
            error,
            KvSizeError::TooSmall {
                needed: 1_250_000,
                given: 1_000_000,
                max_model_len: 20_000,
                fits: 16_000
            }
        );
        assert!(error.to_string().contains("--max-model-len 16000"), "{error}");
    }

    #[test]
    fn a_set_memory_is_taken_whole() {
        let size = KvDemand { kv_bytes: Some(50_000_000), ..demand() }.size();
        assert_eq!(size, Ok(KvSize { blocks: 50_001, max_model_len: 32_768 }));
    }

    #[test]
    fn hopeless_memory_and_lengths_beyond_the_model_are_refused() {
        let error = KvDemand { kv_bytes: Some(10_000), ..demand() }.size();
        assert_eq!(error, Err(KvSizeError::NoRoom { given: 10_000, fits: 160, least: 2048 }));
        let error = KvDemand { max_model_len: Some(40_000), ..demand() }.size();
        assert_eq!(error, Err(KvSizeError::BeyondModel { asked: 40_000, context: 32_768 }));
    }

    #[test]
    fn more_memory_never_gives_a_shorter_length() {
        let len =
            |kv_bytes| KvDemand { kv_bytes: Some(kv_bytes), ..demand() }.size().map(|s| s.max_model_len);
        let lengths: Vec<u32> = (0..3_000).filter_map(|kb| len(kb * 1000).ok()).collect();
        assert!(lengths.len() > 1000 && lengths.is_sorted());
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:       100 kB\nMemAvailable:    42 kB\n";
        assert_eq!(meminfo_available(text), Some(42 * 1024));
        assert_eq!(meminfo_available("MemTotal: 1 kB"), None);
    }
}
