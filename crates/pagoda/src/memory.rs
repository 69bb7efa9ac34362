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

/// `bytes` for people: `3.4 GiB`.
pub fn show_bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (1u64 << 10, "KiB"),
        1_048_576..1_073_741_824 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit as f64)
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
    /// Bytes asked for the pool; `None` takes at most `part` of what is free.
    pub kv_bytes: Option<u64>,
    /// Part of the free bytes that the pool takes at most where its size was left open, above 0 and at most 1.
    pub part: f64,
    /// Bytes of weights and workspace.
    pub fixed_bytes: u64,
    /// Bytes that the process may take in all.
    pub available_bytes: u64,
    /// Bytes of one block in the smallest format, to tell what would fit in it.
    pub smallest_block_bytes: u64,
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
    /// Not even the weights fit.
    #[error(
        "weights and workspace need {}, but {} of memory is free; fix: --quantize int4 | free {}; plan: pagoda plan MODEL",
        show_bytes(*.needed), show_bytes(*.free), show_bytes(.needed - .free)
    )]
    Weights {
        /// Bytes of weights and workspace.
        needed: u64,
        /// Bytes that the process may take.
        free: u64,
    },
    /// The memory asked for the pool is not there.
    #[error(
        "--kv-cache-memory asks for {}, but {} is left after weights and workspace ({}); fix: --kv-cache-memory {}MiB | free {}",
        show_bytes(*.asked), show_bytes(*.left), show_bytes(*.fixed), .left >> 20, show_bytes(.asked - .left)
    )]
    Asked {
        /// Bytes asked for the pool.
        asked: u64,
        /// Bytes that are left for it.
        left: u64,
        /// Bytes of weights and workspace.
        fixed: u64,
    },
    /// The asked length needs more than there is.
    #[error("KV cache needs {} for one request of {max_model_len} tokens, but {}; {}", show_bytes(*.needed), room.told(), room.fix(*needed))]
    TooSmall {
        /// Bytes that one request of full length needs.
        needed: u64,
        /// The asked length.
        max_model_len: u32,
        /// What there is.
        room: Room,
    },
    /// Not even a short sequence fits.
    #[error(
        "KV cache holds {} tokens, fewer than the {least} that a useful context needs: {}; {}",
        room.fits, room.told(), room.fix(*needed)
    )]
    NoRoom {
        /// Bytes that the least useful context needs.
        needed: u64,
        /// The least useful context.
        least: u32,
        /// What there is.
        room: Room,
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

/// What the pool has, and what would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the pool gets.
    pub given: u64,
    /// Whether they were asked for.
    pub asked: bool,
    /// Bytes that are left after weights and workspace.
    pub left: u64,
    /// Bytes of weights and workspace.
    pub fixed: u64,
    /// Tokens that fit.
    pub fits: u32,
    /// Tokens that would fit in the smallest format.
    pub fits_smallest: u32,
}

impl Room {
    fn told(&self) -> String {
        let given = show_bytes(self.given);
        match self.asked {
            true => format!("--kv-cache-memory gives it {given}"),
            false => {
                format!("{given} is left for it after weights and workspace ({})", show_bytes(self.fixed))
            }
        }
    }

    /// The ways out, as flags to paste.
    fn fix(&self, needed: u64) -> String {
        let mut ways = vec![format!("--max-model-len {}", self.fits)];
        if self.fits_smallest > self.fits {
            ways.push(format!("--kv-cache-dtype int8 (fits {})", self.fits_smallest));
        }
        let mebibytes = needed.div_ceil(1 << 20);
        match needed <= self.left {
            true => ways.push(format!("--kv-cache-memory {mebibytes}MiB")),
            false => ways.push(format!("free {}", show_bytes(needed - self.left))),
        }
        format!("fix: {}; plan: pagoda plan MODEL", ways.join(" | "))
    }
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
        let (fixed, free) = (self.fixed_bytes, self.available_bytes);
        let left = free.checked_sub(fixed).ok_or(KvSizeError::Weights { needed: fixed, free })?;
        if let Some(asked) = self.kv_bytes.filter(|asked| *asked > left) {
            return Err(KvSizeError::Asked { asked, left, fixed });
        }
        let wanted_len = self.max_model_len.unwrap_or(self.model_context);
        let useful = self.blocks_of(wanted_len).saturating_mul(u64::from(self.max_num_seqs));
        let given = self.kv_bytes.unwrap_or((left as f64 * self.part) as u64);
        let most = (given / self.block_bytes).min(u64::from(u32::MAX / self.block_size) - 1);
        let blocks = if self.kv_bytes.is_some() { most } else { most.min(useful) };
        let room = Room {
            given,
            asked: self.kv_bytes.is_some(),
            left,
            fixed,
            fits: self.tokens_in(blocks),
            fits_smallest: self.tokens_in(given / self.smallest_block_bytes.max(1)),
        };
        let max_model_len = self.fitting_len(blocks, wanted_len, room)?;
        Ok(KvSize { blocks: blocks as u32 + 1, max_model_len })
    }

    fn tokens_in(&self, blocks: u64) -> u32 {
        blocks.saturating_mul(u64::from(self.block_size)).min(u64::from(self.model_context)) as u32
    }

    fn fitting_len(&self, blocks: u64, wanted_len: u32, room: Room) -> Result<u32, KvSizeError> {
        if self.blocks_of(wanted_len) <= blocks {
            return Ok(wanted_len);
        }
        let needed = |tokens| self.blocks_of(tokens) * self.block_bytes;
        if let Some(max_model_len) = self.max_model_len {
            return Err(KvSizeError::TooSmall { needed: needed(max_model_len), max_model_len, room });
        }
        let least = LEAST_CONTEXT.min(self.model_context);
        match room.fits < least {
            true => Err(KvSizeError::NoRoom { needed: needed(least), least, room }),
            false => Ok(room.fits),
        }
    }

    fn blocks_of(&self, tokens: u32) -> u64 {
        u64::from(tokens.div_ceil(self.block_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand() -> KvDemand {
        KvDemand {
            block_size: 16,
            block_bytes: 1000,
            model_context: 32_768,
            max_model_len: None,
            max_num_seqs: 4,
            kv_bytes: None,
            part: 0.5,
            fixed_bytes: 1_000_000,
            available_bytes: 101_000_000,
            smallest_block_bytes: 500,
        }
    }

    fn scarce() -> KvDemand {
        KvDemand { available_bytes: 3_000_000, ..demand() }
    }

    #[test]
    fn takes_no_more_than_all_sequences_at_full_length_need() {
        assert_eq!(demand().size(), Ok(KvSize { blocks: 4 * 2048 + 1, max_model_len: 32_768 }));
    }

    #[test]
    fn takes_its_part_of_what_is_free_and_shrinks_the_open_length() {
        assert_eq!(scarce().size(), Ok(KvSize { blocks: 1001, max_model_len: 16_000 }));
        let more = KvDemand { part: 0.75, ..scarce() }.size();
        assert_eq!(more, Ok(KvSize { blocks: 1501, max_model_len: 24_000 }));
    }

    #[test]
    fn a_set_length_that_does_not_fit_is_refused_with_the_ways_out() {
        let error = KvDemand { max_model_len: Some(20_000), ..scarce() }.size().unwrap_err().to_string();
        for part in [
            "KV cache needs 1.2 MiB for one request of 20000 tokens, but 976.6 KiB is left for it",
            "after weights and workspace (976.6 KiB)",
            "fix: --max-model-len 16000 | --kv-cache-dtype int8 (fits 32000) | --kv-cache-memory 2MiB",
            "plan: pagoda plan MODEL",
        ] {
            assert!(error.contains(part), "{part:?} is missing in {error}");
        }
        let error =
            KvDemand { max_model_len: Some(32_768), part: 1.0, ..scarce() }.size().unwrap_err().to_string();
        assert!(error.contains("free 46.9 KiB"), "{error}");
    }

    #[test]
    fn a_set_memory_is_taken_whole_or_refused() {
        let size = KvDemand { kv_bytes: Some(50_000_000), ..demand() }.size();
        assert_eq!(size, Ok(KvSize { blocks: 50_001, max_model_len: 32_768 }));
        let error = KvDemand { kv_bytes: Some(200_000_000), ..demand() }.size().unwrap_err();
        assert_eq!(error, KvSizeError::Asked { asked: 200_000_000, left: 100_000_000, fixed: 1_000_000 });
        assert!(error.to_string().contains("fix: --kv-cache-memory 95MiB"), "{error}");
    }

    #[test]
    fn hopeless_memory_and_lengths_beyond_the_model_are_refused() {
        let error = KvDemand { kv_bytes: Some(10_000), ..demand() }.size().unwrap_err();
        assert!(
            matches!(error, KvSizeError::NoRoom { least: 2048, room: Room { fits: 160, .. }, .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("--kv-cache-memory gives it 9.8 KiB"), "{error}");
        let error = KvDemand { available_bytes: 400_000, ..demand() }.size();
        assert_eq!(error, Err(KvSizeError::Weights { needed: 1_000_000, free: 400_000 }));
        let error = KvDemand { max_model_len: Some(40_000), ..demand() }.size();
        assert_eq!(error, Err(KvSizeError::BeyondModel { asked: 40_000, context: 32_768 }));
    }

    proptest! {
        #[test]
        fn more_memory_never_gives_less(
            fixed in 0u64..1 << 32,
            available in 0u64..1 << 36,
            more in 0u64..1 << 34,
            block_bytes in 1u64..1 << 22,
            context in 16u32..200_000,
            set in proptest::option::of(16u32..200_000),
            rows in 1u32..300,
            part in 0.01f64..=1.0,
        ) {
            let demand = KvDemand {
                block_size: 16, block_bytes, model_context: context, max_model_len: set, max_num_seqs: rows,
                kv_bytes: None, part, fixed_bytes: fixed, available_bytes: available, smallest_block_bytes: block_bytes,
            };
            let richer = KvDemand { available_bytes: available + more, ..demand };
            if let Ok(size) = demand.size() {
                prop_assert_eq!(demand.size(), Ok(size));
                let rich = richer.size().expect("what fits into less fits into more");
                prop_assert!(rich.blocks >= size.blocks && rich.max_model_len >= size.max_model_len);
                // The longest request fits, and the pool stays within its part.
                prop_assert!(size.max_model_len.div_ceil(16) < size.blocks);
                prop_assert!(u64::from(size.blocks - 1) * block_bytes <= available - fixed);
                prop_assert!(set.is_none_or(|set| size.max_model_len == set));
                let lighter = KvDemand { fixed_bytes: fixed / 2, ..demand }.size().expect("less is fixed");
                prop_assert!(lighter.max_model_len >= size.max_model_len);
            }
        }
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:       100 kB\nMemAvailable:    42 kB\n";
        assert_eq!(meminfo_available(text), Some(42 * 1024));
        assert_eq!(meminfo_available("MemTotal: 1 kB"), None);
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!(show_bytes(17), "17 B");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
    }
}
