//! Two texts compared line by line.

/// Most lines of a text that is compared; the table has the product of both.
const N_LINES_MAX: usize = 2000;

/// The lines of `old` that `new` does not have behind `- `, those of `new` behind `+ `, in order;
/// `None` where a text has too many lines, or only line ends differ.
///
/// By the longest common subsequence of their lines, with the plain table.
pub(super) fn diff(old: &str, new: &str) -> Option<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len() > N_LINES_MAX || new.len() > N_LINES_MAX {
        return None;
    }
    // Lines in common of what follows each pair of places, `[old.len() + 1, new.len() + 1]`.
    let n_cols = new.len() + 1;
    let mut n_common = vec![0_u16; (old.len() + 1) * n_cols];
    for o in (0..old.len()).rev() {
        for n in (0..new.len()).rev() {
            let below = n_common[(o + 1) * n_cols + n];
            let beside = n_common[o * n_cols + n + 1];
            n_common[o * n_cols + n] = match old[o] == new[n] {
                true => n_common[(o + 1) * n_cols + n + 1] + 1,
                false => below.max(beside),
            };
        }
    }
    let (mut o, mut n, mut out) = (0, 0, String::new());
    while o < old.len() || n < new.len() {
        let is_common = o < old.len() && n < new.len() && old[o] == new[n];
        let is_old = n == new.len()
            || o < old.len() && n_common[(o + 1) * n_cols + n] >= n_common[o * n_cols + n + 1];
        if is_common {
            (o, n) = (o + 1, n + 1);
        } else if is_old {
            out.push_str(&format!("- {}\n", old[o]));
            o += 1;
        } else {
            out.push_str(&format!("+ {}\n", new[n]));
            n += 1;
        }
    }
    Some(out).filter(|out| !out.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told_in_order() {
        let check = |old: &str, new: &str, expected: Option<&str>| {
            assert_eq!(diff(old, new).as_deref(), expected, "{old:?} {new:?}");
        };
        check("a\nb\nc", "a\nx\nc", Some("- b\n+ x\n"));
        check("a\nb", "b\nc", Some("- a\n+ c\n"));
        check("", "a\nb", Some("+ a\n+ b\n"));
        check("a\nb", "", Some("- a\n- b\n"));
        check("a\nb", "a\r\nb\n", None);
        check(&"a\n".repeat(2001), "a", None);
    }
}
