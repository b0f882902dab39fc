//! Which address of an upstream gets a request. Pure.
//!
//! The one with the fewest requests on their way. Where a request says what its prompt begins with,
//! the addresses are ranked by a hash of that and of theirs (rendezvous hashing; Thaler and
//! Ravishankar 1998), and the first that is about as free as the others gets it: the cache for
//! prompts there knows the beginning, one address more or less moves only its own share, and no
//! prompt that everybody sends fills one server (bounded loads; Mirrokni et al. 2018).

/// How much more than its even share an address may have and still be chosen for its cache: a
/// quarter, and two requests where there are few.
const SHARE_QUARTERS: u64 = 5;
const FEW: u64 = 2;

/// An address that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Which one it is.
    pub(crate) idx: usize,
    /// A hash of where it is, the same over restarts.
    pub(crate) place: u64,
    /// Requests on their way to it.
    pub(crate) n_in_flight: u64,
    /// Requests that it was ever given, so that equal ones take turns.
    pub(crate) n_given: u64,
}

/// The one that gets a request; `None` of none.
pub(crate) fn choose(candidates: &[Candidate], affinity: Option<u64>) -> Option<usize> {
    let freest = || candidates.iter().min_by_key(|one| (one.n_in_flight, one.n_given, one.idx));
    let Some(affinity) = affinity else { return freest().map(|one| one.idx) };
    let n_in_flight: u64 = candidates.iter().map(|one| one.n_in_flight).sum();
    let n_candidates = candidates.len() as u64;
    // With the request itself.
    let fair = (n_in_flight + 1) * SHARE_QUARTERS;
    let is_free = |one: &&Candidate| {
        one.n_in_flight < FEW || (one.n_in_flight + 1) * n_candidates * 4 <= fair
    };
    let ranked = candidates.iter().filter(is_free);
    let best = ranked.max_by_key(|one| (mix(affinity ^ one.place), one.idx));
    best.or_else(freest).map(|one| one.idx)
}

/// A hash of a text (FNV-1a), well mixed.
pub(crate) fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The last step of SplitMix64 (Steele et al. 2014): every bit depends on every bit.
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn candidates(loads: &[u64]) -> Vec<Candidate> {
        let one = |(idx, load): (usize, &u64)| Candidate {
            idx,
            place: hash(&format!("10.0.0.{idx}:8000")),
            n_in_flight: *load,
            n_given: 0,
        };
        loads.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_freest_is_chosen_and_equal_ones_take_turns() {
        assert_eq!(choose(&[], None), None);
        assert_eq!(choose(&candidates(&[3, 1, 2]), None), Some(1));
        let mut equal = candidates(&[0, 0, 0]);
        equal[0].n_given = 1;
        assert_eq!(choose(&equal, None), Some(1));
    }

    #[test]
    fn a_prompt_stays_at_its_address_and_few_move_with_one_that_goes() {
        let all = candidates(&[0; 5]);
        let first: Vec<_> = (0..2000).map(|prompt| choose(&all, Some(prompt))).collect();
        let mut n_of: HashMap<_, u32> = HashMap::new();
        first.iter().for_each(|idx| *n_of.entry(*idx).or_default() += 1);
        assert!(n_of.len() == 5 && n_of.values().all(|n| (300..500).contains(n)), "{n_of:?}");
        let without: Vec<Candidate> = all.iter().copied().filter(|one| one.idx != 2).collect();
        for (prompt, before) in first.iter().enumerate() {
            let after = choose(&without, Some(prompt as u64));
            assert!(after == *before || *before == Some(2), "{prompt}");
        }
    }

    #[test]
    fn a_prompt_that_everybody_sends_fills_no_single_address() {
        let mut all = candidates(&[0; 4]);
        for _ in 0..400 {
            let chosen = choose(&all, Some(7)).unwrap();
            all[chosen].n_in_flight += 1;
        }
        let loads: Vec<u64> = all.iter().map(|one| one.n_in_flight).collect();
        assert!(loads.iter().all(|load| *load <= 125), "{loads:?}");
        assert!(loads.iter().max() > loads.iter().min(), "{loads:?}");
    }
}
