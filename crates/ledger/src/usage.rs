//! What a request was and took: one row, written when it ends. Never any contents.

use crate::entry::NAME_BYTES_MAX;

/// Largest count of a row, so that no sum over rows overflows.
const COUNT_MAX: u64 = 1 << 40;

/// What a request was and took; before its answer, what it may take at most. Texts are empty and
/// counts 0 where there is nothing to say; texts are cut to 256 bytes, counts to 2^40.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The request's id. A client may send one twice.
    pub id: String,
    /// When it was taken, in microseconds since 1970 (UTC).
    pub at_us: i64,
    /// The key that it came with.
    pub key: String,
    /// The key's project.
    pub project: String,
    /// Whose words it has.
    pub person: String,
    /// The name that it asked for, where that is another one than the model's.
    pub alias: String,
    /// The model that answered.
    pub model: String,
    /// The route.
    pub route: String,
    /// How sensitive it was.
    pub label: String,
    /// The server that answered; empty: this one.
    pub upstream: String,
    /// Tokens of its prompts.
    pub n_prompt: u64,
    /// Of them, those that were in the prefix cache.
    pub n_cached: u64,
    /// Tokens of its answers.
    pub n_answer: u64,
    /// How long it waited for a step, in microseconds.
    pub queue_us: u64,
    /// How long its first token took, from its arrival.
    pub first_us: u64,
    /// How long all of it took.
    pub total_us: u64,
    /// How it ended, in one word; [`LOST`](Self::LOST) where whoever answered it never said.
    pub outcome: String,
    /// What it cost, in millionths of the owner's currency.
    pub money_micro: u64,
    /// What it took, in thousandths of a joule.
    pub energy_mj: u64,
    /// Whether that was `measured` or `estimated`.
    pub energy_source: String,
    /// The id of its receipt.
    pub receipt: String,
}

impl Usage {
    /// The outcome of a request whose server was gone before its end. The row has what was
    /// reserved.
    pub const LOST: &'static str = "lost";

    /// Cuts what is out of bounds: a request that was answered is written down all the same.
    pub(crate) fn clean(&mut self) {
        for text in [
            &mut self.id,
            &mut self.key,
            &mut self.project,
            &mut self.person,
            &mut self.alias,
            &mut self.model,
            &mut self.route,
            &mut self.label,
            &mut self.upstream,
            &mut self.outcome,
            &mut self.energy_source,
            &mut self.receipt,
        ] {
            if text.len() > NAME_BYTES_MAX {
                text.truncate(text.floor_char_boundary(NAME_BYTES_MAX));
            }
            if text.contains(char::is_control) {
                *text = text.replace(char::is_control, " ");
            }
        }
        for count in [
            &mut self.n_prompt,
            &mut self.n_cached,
            &mut self.n_answer,
            &mut self.queue_us,
            &mut self.first_us,
            &mut self.total_us,
            &mut self.money_micro,
            &mut self.energy_mj,
        ] {
            *count = (*count).min(COUNT_MAX);
        }
        self.at_us = self.at_us.max(0);
    }

    /// What it takes while it waits.
    pub(crate) fn n_bytes(&self) -> usize {
        let texts = [&self.id, &self.key, &self.project, &self.person, &self.alias, &self.model];
        let more = [&self.route, &self.label, &self.upstream, &self.outcome, &self.receipt];
        let n_bytes: usize = texts.into_iter().chain(more).map(String::len).sum();
        size_of::<Self>() + n_bytes + self.energy_source.len()
    }
}

/// Of which time, whose, and told apart by what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// From this microsecond since 1970 on.
    pub from_us: i64,
    /// Up to this one, which is not in it.
    pub until_us: i64,
    /// What sums are told apart by, at most [`BY_MAX`](Self::BY_MAX) of them.
    pub by: Vec<UsageBy>,
    /// Only rows that have these.
    pub only: Vec<(UsageBy, String)>,
}

impl UsageQuery {
    /// Most properties that sums are told apart by, and that rows are chosen by.
    pub const BY_MAX: usize = 4;

    /// All that was written down, as one sum.
    pub fn all() -> Self {
        Self { until_us: i64::MAX, ..Self::default() }
    }
}

/// A property of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageBy {
    /// The day in UTC; its value is its first microsecond since 1970.
    Day,
    /// Its key.
    Key,
    /// Its project.
    Project,
    /// Whose words it had.
    Person,
    /// The name that it asked for.
    Alias,
    /// Its model.
    Model,
    /// Its route.
    Route,
    /// Its label.
    Label,
    /// Where it was answered.
    Upstream,
    /// How it ended.
    Outcome,
}

impl UsageBy {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Day,
        Self::Key,
        Self::Project,
        Self::Person,
        Self::Alias,
        Self::Model,
        Self::Route,
        Self::Label,
        Self::Upstream,
        Self::Outcome,
    ];

    /// Its name, which is that of its column too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Key => "key",
            Self::Project => "project",
            Self::Person => "person",
            Self::Alias => "alias",
            Self::Model => "model",
            Self::Route => "route",
            Self::Label => "label",
            Self::Upstream => "upstream",
            Self::Outcome => "outcome",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|by| by.name() == name)
    }

    /// Whether each day's sums tell it apart.
    pub(crate) fn is_in_days(self) -> bool {
        matches!(self, Self::Day | Self::Key | Self::Project | Self::Model | Self::Upstream)
    }
}

/// What requests took together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// The value of each property that they are told apart by.
    pub of: Vec<String>,
    /// How many they were.
    pub n_requests: u64,
    /// As in [`Usage`], all together.
    pub n_prompt: u64,
    /// As there.
    pub n_cached: u64,
    /// As there.
    pub n_answer: u64,
    /// As there.
    pub money_micro: u64,
    /// As there.
    pub energy_mj: u64,
}

/// How long requests took, to within 4 percent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageTimes {
    /// The value of each property that they are told apart by.
    pub of: Vec<String>,
    /// The first token of those that had one: median, 95th and 99th percentile, microseconds.
    pub first_us: [u64; 3],
    /// All of it.
    pub total_us: [u64; 3],
}

/// A row and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Numbers grow; a row that is corrected gets another.
    pub seq: i64,
    /// What it says.
    pub usage: Usage,
}

/// Counts of times in buckets whose bounds grow by a sixteenth of a power of two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    n_of: Vec<u64>,
    n_all: u64,
}

impl Times {
    /// Buckets of each power of two.
    const PARTS: u32 = 4;

    pub(crate) fn add(&mut self, time: u64) {
        let bucket = Self::bucket(time);
        if bucket >= self.n_of.len() {
            self.n_of.resize(bucket + 1, 0);
        }
        self.n_of[bucket] += 1;
        self.n_all += 1;
    }

    /// Median, 95th and 99th percentile: the middle of the bucket that it is in.
    pub(crate) fn percentiles(&self) -> [u64; 3] {
        [50, 95, 99].map(|percent| {
            let rank = (self.n_all * percent).div_ceil(100).max(1);
            let mut n = 0;
            let mut is_reached = |n_bucket: &u64| {
                n += n_bucket;
                n >= rank
            };
            self.n_of.iter().position(&mut is_reached).map_or(0, Self::middle)
        })
    }

    /// The first 32 have one value each.
    fn bucket(time: u64) -> usize {
        let n_bits = (u64::BITS - time.leading_zeros()).saturating_sub(Self::PARTS + 1);
        ((time >> n_bits) + (u64::from(n_bits) << Self::PARTS)) as usize
    }

    fn middle(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        let n_bits = (bucket >> Self::PARTS).saturating_sub(1);
        let begin = (bucket - (n_bits << Self::PARTS)) << n_bits;
        begin + ((1 << n_bits) - 1) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_within_four_percent() {
        for time in (0..64).map(|bit| 1u64 << bit).chain(0..5000).chain([u64::MAX, 1_234_567]) {
            let mut times = Times::default();
            times.add(time);
            let [found, ..] = times.percentiles();
            let wrong = found.abs_diff(time);
            assert!(wrong <= time / 25, "{time}: {found}");
        }
        assert_eq!(Times::default().percentiles(), [0; 3]);
        let mut times = Times::default();
        (1..=10_000).for_each(|time| times.add(time));
        let [median, p95, p99] = times.percentiles();
        assert!(
            median.abs_diff(5000) < 200 && p95.abs_diff(9500) < 380 && p99.abs_diff(9900) < 400
        );
    }

    #[test]
    fn what_is_out_of_bounds_is_cut() {
        let mut usage = Usage {
            id: "ä".repeat(200),
            key: "a\nb\0".to_owned(),
            n_prompt: u64::MAX,
            at_us: -5,
            ..Usage::default()
        };
        usage.clean();
        assert_eq!((usage.id.len(), &*usage.key, usage.at_us), (256, "a b ", 0));
        assert_eq!(usage.n_prompt, 1 << 40);
    }
}
