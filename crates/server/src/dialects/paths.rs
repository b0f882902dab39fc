//! Paths of fields that had no effect, for a header that has room for a few of them.

/// Most paths that are kept: more than the header has room for. A body of some megabytes can have
/// hundreds of thousands of fields that nobody knows.
const N_KEPT: usize = 64;

/// The first paths, like `messages[1].name`, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    kept: Vec<String>,
    n_all: usize,
}

impl Paths {
    /// Those that are kept.
    pub(crate) fn kept(&self) -> &[String] {
        &self.kept
    }

    /// How many there are, those that are not kept included.
    pub(crate) fn n_all(&self) -> usize {
        self.n_all
    }

    /// Adds one.
    pub(crate) fn push(&mut self, path: String) {
        if self.kept.len() < N_KEPT {
            self.kept.push(path);
        }
        self.n_all += 1;
    }

    /// Adds those of `other` behind them.
    pub(crate) fn append(&mut self, other: Self) {
        self.n_all += other.n_all;
        let n_free = N_KEPT - self.kept.len();
        self.kept.extend(other.kept.into_iter().take(n_free));
    }
}

impl Extend<String> for Paths {
    fn extend<I: IntoIterator<Item = String>>(&mut self, paths: I) {
        paths.into_iter().for_each(|path| self.push(path));
    }
}

impl FromIterator<String> for Paths {
    fn from_iter<I: IntoIterator<Item = String>>(paths: I) -> Self {
        let mut all = Self::default();
        all.extend(paths);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_and_all_are_counted() {
        let paths = |n: usize| (0..n).map(|i| i.to_string()).collect::<Paths>();
        let check = |paths: &Paths, n_kept: usize, n_all: usize| {
            assert_eq!((paths.kept().len(), paths.n_all()), (n_kept, n_all));
        };
        check(&paths(3), 3, 3);
        let mut many = paths(1000);
        check(&many, N_KEPT, 1000);
        many.append(paths(2));
        check(&many, N_KEPT, 1002);
        let mut few = paths(N_KEPT - 1);
        few.append(paths(1000));
        check(&few, N_KEPT, N_KEPT + 999);
        assert_eq!(few.kept()[N_KEPT - 1], "0");
    }
}
