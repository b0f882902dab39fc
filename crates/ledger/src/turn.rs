//! Whose turn it is: which of what waits for the writer go into its next transaction. Pure.
//!
//! A request waits for its reservation and for its departure, and nobody waits for receipts, rows
//! of usage and contents: so the former go first, in a transaction of their own. What frees room
//! at a limit, the end of a reservation, goes with them, so that nothing is refused for what was
//! handed over before. All else keeps its order: what is waited for elsewise may be about what
//! stands before it.

/// Pieces of one transaction: enough that what each transaction costs is little for each of them.
pub(crate) const BATCH_ENTRIES: usize = 256;

/// Pieces of one transaction for which nobody waits: few, because whoever comes meanwhile waits for
/// it, and enough that its own cost is little beside theirs.
const BACKGROUND_ENTRIES: usize = 32;

/// How a piece of work stands to others in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody waits for it, and it may overtake what nobody waits for.
    First,
    /// Nobody waits for it, but others may wait for the room that it makes.
    WithFirst,
    /// Nobody waits for it.
    Later,
    /// Somebody waits for it, and for all that was handed over before it.
    InOrder,
}

/// Whose turn it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Who may overtake does.
    First,
    /// What nobody waits for has waited long enough.
    Later,
    /// One after the other, whoever waits.
    InOrder,
}

/// Moves what goes into the next transaction to the front, in the order in which it came, and
/// returns how many those are.
pub(crate) fn next<T>(waiting: &mut Vec<T>, turn: Turn, urgency: impl Fn(&T) -> Urgency) -> usize {
    let has = |wanted: Urgency| waiting.iter().any(|work| urgency(work) == wanted);
    if turn == Turn::InOrder || has(Urgency::InOrder) {
        return waiting.len().min(BATCH_ENTRIES);
    }
    let has_later = has(Urgency::Later) || has(Urgency::WithFirst);
    let is_first = has(Urgency::First) && (turn == Turn::First || !has_later);
    let n_most = if is_first { BATCH_ENTRIES } else { BACKGROUND_ENTRIES };
    let (mut n_taken, mut has_passed) = (0, false);
    let mut is_taken = |work: &T| {
        let is_own = match urgency(work) {
            Urgency::First => is_first,
            // It may be the end of one that is left behind.
            Urgency::WithFirst => is_first || !has_passed,
            Urgency::Later | Urgency::InOrder => !is_first,
        };
        has_passed |= urgency(work) == Urgency::First;
        let is_taken = is_own && n_taken < n_most;
        n_taken += usize::from(is_taken);
        is_taken
    };
    let (mut front, back): (Vec<T>, Vec<T>) = waiting.drain(..).partition(|work| is_taken(work));
    front.extend(back);
    *waiting = front;
    n_taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters say what waits: `f`irst, `e`nds, `l`ater, in `o`rder; what goes stands before `|`.
    #[track_caller]
    fn check(waiting: &str, turn: Turn, expected: &str) {
        let mut all: Vec<(usize, char)> = waiting.chars().enumerate().collect();
        let n = next(&mut all, turn, |(_, letter)| match letter {
            'f' => Urgency::First,
            'e' => Urgency::WithFirst,
            'l' => Urgency::Later,
            _ => Urgency::InOrder,
        });
        let told = |part: &[(usize, char)]| part.iter().map(|(_, letter)| *letter).collect();
        let [front, back]: [String; 2] = [told(&all[..n]), told(&all[n..])];
        assert_eq!(format!("{front}|{back}"), expected);
        let is_sorted = |part: &[(usize, char)]| part.is_sorted();
        assert!(is_sorted(&all[..n]) && is_sorted(&all[n..]), "{waiting}: out of order");
    }

    #[test]
    fn who_waits_overtakes_what_nobody_waits_for() {
        check("lflel", Turn::First, "fe|lll");
        check("lelel", Turn::First, "lelel|");
        check("elflel", Turn::Later, "elll|fe");
        check("", Turn::First, "|");
        check("f", Turn::Later, "f|");
    }

    #[test]
    fn what_must_stand_behind_others_keeps_its_place() {
        for turn in [Turn::First, Turn::Later, Turn::InOrder] {
            check("lfoel", turn, "lfoel|");
        }
        check("lfl", Turn::InOrder, "lfl|");
    }

    #[test]
    fn one_transaction_has_its_bounds() {
        let long = |letter: &str, n: usize| letter.repeat(n);
        let (few, many) = (BACKGROUND_ENTRIES, BATCH_ENTRIES);
        check(&long("l", 40), Turn::First, &format!("{}|{}", long("l", few), long("l", 40 - few)));
        check(&long("f", 300), Turn::First, &format!("{}|{}", long("f", many), long("f", 44)));
        let waiting = format!("{}{}", long("f", many), "e");
        check(&waiting, Turn::First, &format!("{}|e", long("f", many)));
        check(&long("o", 300), Turn::First, &format!("{}|{}", long("o", many), long("o", 44)));
    }
}
