//! The character classes that the pre-tokenizers' rules are made of.
//!
//! ASCII, nearly all of most texts, is answered without the tables.

use unicode_general_category::{GeneralCategory as Category, get_general_category as category};

/// `\p{L}`.
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    is_letter_category(category(c))
}

/// `\p{N}`.
pub(super) fn is_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    use Category::{DecimalNumber, LetterNumber, OtherNumber};
    matches!(category(c), DecimalNumber | LetterNumber | OtherNumber)
}

/// `\p{M}`.
pub(super) fn is_mark(c: char) -> bool {
    use Category::{EnclosingMark, NonspacingMark, SpacingMark};
    !c.is_ascii() && matches!(category(c), EnclosingMark | NonspacingMark | SpacingMark)
}

/// `\p{P}`.
pub(super) fn is_punctuation(c: char) -> bool {
    use Category::{
        ClosePunctuation, ConnectorPunctuation, DashPunctuation, FinalPunctuation,
        InitialPunctuation, OpenPunctuation, OtherPunctuation,
    };
    matches!(
        category(c),
        ConnectorPunctuation
            | DashPunctuation
            | OpenPunctuation
            | ClosePunctuation
            | InitialPunctuation
            | FinalPunctuation
            | OtherPunctuation
    )
}

/// `\p{S}`.
pub(super) fn is_symbol(c: char) -> bool {
    use Category::{CurrencySymbol, MathSymbol, ModifierSymbol, OtherSymbol};
    matches!(category(c), MathSymbol | CurrencySymbol | ModifierSymbol | OtherSymbol)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: may begin a capitalised word.
pub(super) fn is_upper_like(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_uppercase();
    }
    is_mark(c) || (is_letter(c) && category(c) != Category::LowercaseLetter)
}

/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`: may go on in a capitalised word.
pub(super) fn is_lower_like(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_lowercase();
    }
    let is_capital = matches!(category(c), Category::UppercaseLetter | Category::TitlecaseLetter);
    is_mark(c) || (is_letter(c) && !is_capital)
}

/// A non-spacing mark, `\p{Mn}`: an accent that was split off.
pub(super) fn is_accent(c: char) -> bool {
    !c.is_ascii() && category(c) == Category::NonspacingMark
}

/// Control, format and private-use characters.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(category(c), Category::Control | Category::Format | Category::PrivateUse)
}

fn is_letter_category(category: Category) -> bool {
    use Category::{
        LowercaseLetter, ModifierLetter, OtherLetter, TitlecaseLetter, UppercaseLetter,
    };
    matches!(
        category,
        UppercaseLetter | LowercaseLetter | TitlecaseLetter | ModifierLetter | OtherLetter
    )
}
