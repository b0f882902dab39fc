//! Whether a model fits, and how much KV cache it gets: arithmetic before anything is allocated.

use crate::error::{EngineError, MemoryNeed, MemoryShortage};
use crate::host::AvailableMemory;
use crate::options::EngineOptions;

/// Kept free beside the model: the tokenizer, the sampler, the program and its connections.
const RESERVE_BYTES: u64 = 128 << 20;
/// Default share of the available memory that the KV cache takes.
const KV_SHARE: u64 = 4;
/// Default KV cache where the system does not say what is available.
const KV_BYTES_UNKNOWN: u64 = 1 << 30;

/// The sizes that the decision goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) weight_bytes: u64,
    pub(crate) scratch_bytes: u64,
    pub(crate) kv_page_bytes: u64,
    /// Pages of one full context.
    pub(crate) n_pages_ctx: u64,
    pub(crate) max_sequences: u64,
}

/// How many KV pages to make: between one full context and `max_sequences` of them.
///
/// # Errors
/// [`EngineError::NotEnoughMemory`] with the arithmetic.
pub(crate) fn plan_pages(
    sizes: Sizes,
    options: &EngineOptions,
    system: Option<AvailableMemory>,
) -> Result<u32, EngineError> {
    let limit = options
        .memory_limit_bytes
        .map(|n_bytes| AvailableMemory { n_bytes, limited_by: "memory_limit_bytes" });
    let available = limit.or(system);
    let fixed_bytes =
        sizes.weight_bytes.saturating_add(sizes.scratch_bytes).saturating_add(RESERVE_BYTES);
    let kv_bytes = options.kv_cache_bytes.unwrap_or_else(|| match system.or(available) {
        None => KV_BYTES_UNKNOWN,
        Some(memory) => {
            let left = available.map_or(u64::MAX, |a| a.n_bytes.saturating_sub(fixed_bytes));
            left.min(memory.n_bytes / KV_SHARE)
        }
    });
    let n_pages_max = (sizes.n_pages_ctx * sizes.max_sequences).min(u64::from(u32::MAX));
    let n_pages = (kv_bytes / sizes.kv_page_bytes.max(1)).clamp(sizes.n_pages_ctx, n_pages_max);
    let need = MemoryNeed {
        weight_bytes: sizes.weight_bytes,
        kv_bytes: n_pages.saturating_mul(sizes.kv_page_bytes),
        scratch_bytes: sizes.scratch_bytes,
        reserve_bytes: RESERVE_BYTES,
    };
    match available {
        Some(AvailableMemory { n_bytes, limited_by }) if need.total_bytes() > n_bytes => {
            let shortage = MemoryShortage { need, available_bytes: n_bytes, limited_by };
            Err(EngineError::NotEnoughMemory(Box::new(shortage)))
        }
        _ => Ok(u32::try_from(n_pages).expect("the clamp keeps it within u32")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZES: Sizes = Sizes {
        weight_bytes: 100 * MIB,
        scratch_bytes: 22 * MIB,
        kv_page_bytes: MIB,
        n_pages_ctx: 32,
        max_sequences: 4,
    };

    fn plan(options: EngineOptions, system_mib: Option<u64>) -> Result<u32, String> {
        let system = system_mib
            .map(|n_mib| AvailableMemory { n_bytes: n_mib * MIB, limited_by: "MemAvailable" });
        plan_pages(SIZES, &options, system).map_err(|error| error.to_string())
    }

    fn limit(n_bytes: u64) -> EngineOptions {
        EngineOptions { memory_limit_bytes: Some(n_bytes), ..EngineOptions::default() }
    }

    fn kv(n_bytes: u64) -> EngineOptions {
        EngineOptions { kv_cache_bytes: Some(n_bytes), ..EngineOptions::default() }
    }

    #[test]
    fn default_cache_is_a_quarter_within_its_bounds() {
        let default = EngineOptions::default;
        assert_eq!(plan(default(), Some(400)), Ok(100));
        assert_eq!(plan(default(), Some(100_000)), Ok(4 * 32));
        // A quarter would be 75, but the weights leave less.
        assert_eq!(plan(default(), Some(300)), Ok(50));
        // 100 + 22 + 128 and one context of 32 just fit.
        assert_eq!(plan(default(), Some(282)), Ok(32));
        assert_eq!(plan(default(), None), Ok(4 * 32));
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_arithmetic() {
        let text = "not enough memory: 282 MiB needed (weights 100 + kv cache 32 + scratch 22 + \
                    reserve 128), 281 MiB available (MemAvailable)";
        assert_eq!(plan(EngineOptions::default(), Some(281)), Err(text.to_string()));
        let text = "not enough memory: 378 MiB needed (weights 100 + kv cache 128 + scratch 22 + \
                    reserve 128), 300 MiB available (MemAvailable)";
        assert_eq!(plan(kv(u64::MAX), Some(300)), Err(text.to_string()));
    }

    #[test]
    fn limits_replace_what_the_system_says() {
        assert!(plan(limit(281 * MIB), Some(100_000)).is_err_and(|e| e.contains("_limit_bytes")));
        assert_eq!(plan(limit(282 * MIB), Some(100)), Ok(32));
        // Switched off: the cache still goes by what the system has.
        assert_eq!(plan(limit(u64::MAX), Some(10)), Ok(32));
        assert_eq!(plan(limit(u64::MAX), Some(400)), Ok(100));
    }

    #[test]
    fn an_explicit_cache_is_kept_within_its_bounds() {
        assert_eq!(plan(kv(0), Some(1000)), Ok(32));
        assert_eq!(plan(kv(50 * MIB + 5), Some(1000)), Ok(50));
        assert_eq!(plan(kv(u64::MAX), Some(1000)), Ok(128));
    }
}
