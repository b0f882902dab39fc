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
    let promised_bytes = options.promised_bytes;
    let system = system.map(|system| AvailableMemory {
        n_bytes: system.n_bytes.saturating_sub(promised_bytes),
        ..system
    });
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
            let promised_bytes = if limit.is_some() { 0 } else { promised_bytes };
            let shortage =
                MemoryShortage { need, available_bytes: n_bytes, promised_bytes, limited_by };
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
    fn what_is_promised_to_others_is_not_available() {
        let promised =
            |n_mib: u64| EngineOptions { promised_bytes: n_mib * MIB, ..EngineOptions::default() };
        // As on a machine with 400 less: a quarter, and what just fits.
        assert_eq!(plan(promised(400), Some(800)), Ok(100));
        assert_eq!(plan(promised(400), Some(682)), Ok(32));
        let text = "not enough memory: 282 MiB needed (weights 100 + kv cache 32 + scratch 22 + \
                    reserve 128), 281 MiB available (MemAvailable less 400 MiB promised to other \
                    models)";
        assert_eq!(plan(promised(400), Some(681)), Err(text.to_string()));
        let error = plan(promised(u64::MAX >> 20), Some(681)).unwrap_err();
        assert!(error.contains(", 0 MiB available"), "{error}");
        // A limit is this engine's own.
        let own = EngineOptions { memory_limit_bytes: Some(282 * MIB), ..promised(1 << 40) };
        assert_eq!(plan(own, None), Ok(32));
    }

    #[test]
    fn models_opened_one_after_the_other_share_what_there_is() {
        // The cache of each stays untouched, so that the system says 2000 each time, less the
        // weights, which are touched.
        let (mut options, mut system_mib, mut taken_mib) = (EngineOptions::default(), 2000, 0);
        let mut n_models = 0;
        while let Ok(n_pages) = plan(options.clone(), Some(system_mib)) {
            let untouched_bytes = u64::from(n_pages) * SIZES.kv_page_bytes + SIZES.scratch_bytes;
            taken_mib += (SIZES.weight_bytes + untouched_bytes) / MIB;
            system_mib -= SIZES.weight_bytes / MIB;
            options.promised_bytes += untouched_bytes;
            n_models += 1;
        }
        assert!(n_models > 5, "{n_models} models found room");
        assert!(taken_mib + RESERVE_BYTES / MIB <= 2000, "{taken_mib} MiB of 2000 promised");
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
