//! What can be wrong with what the owner wrote.

/// Why prices or costs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// The file is none of prices.
    #[error("{file}: {problem}")]
    Unreadable {
        /// The file as the owner would name it.
        file: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// A table of it says what cannot be.
    #[error("{file}: {table}: {problem}")]
    Wrong {
        /// The file as the owner would name it.
        file: String,
        /// Which of its tables.
        table: String,
        /// The field, its value and what was expected.
        problem: String,
    },
    /// Two amounts that cannot be compared.
    #[error("{vendor}/{model} is priced in {found}, expected {expected} as the owner's costs are")]
    OtherCurrency {
        /// Who rents it out.
        vendor: String,
        /// What is rented.
        model: String,
        /// Of the price.
        found: String,
        /// Of the owner's costs.
        expected: String,
    },
    /// There is no price of this name.
    #[error("no price of {vendor}/{model} is listed, expected one of: {known}")]
    NoPrice {
        /// Who rents it out.
        vendor: String,
        /// What is rented.
        model: String,
        /// Those that are listed.
        known: String,
    },
    /// What is compared goes over more days than any machine lives.
    #[error("{n_days} days are compared, expected at most {n_days_max}")]
    TooLong {
        /// Days asked for.
        n_days: i64,
        /// The most.
        n_days_max: i64,
    },
}
