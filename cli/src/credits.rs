//! Money for people and for scripts. The ledger counts in micro-credits; people read credits.

use cairn_core::Amount;
use cairn_ledger::{Cause, Direction};
use serde_json::Value;

/// Micro-credits of a credit.
const MICRO: u128 = 1_000_000;

/// An amount in credits, with as many of six decimals as it has.
pub(crate) fn credits(amount: Amount) -> String {
    signed_credits(i128::from(amount.micro()))
}

/// Signed micro-credits in credits.
pub(crate) fn signed_credits(micro: i128) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let size = micro.unsigned_abs();
    let (whole, part) = (size / MICRO, size % MICRO);
    let decimals = format!("{part:06}");
    match decimals.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        decimals => format!("{sign}{whole}.{decimals}"),
    }
}

/// An amount from what was typed: credits with up to six decimals, more than none.
///
/// # Errors
///
/// What is wrong with the text.
pub(crate) fn parse_credits(text: &str) -> Result<Amount, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 6 || !is_number(whole) || !is_number(part) {
        let expected = "expected credits with up to six decimals, such as 12 or 0.5";
        return Err(format!("{text:?} is no amount: {expected}"));
    }
    let digits = format!("{whole}{part:0<6}");
    let micro: u64 = digits
        .parse()
        .map_err(|_| format!("{text} credits are more than there can be"))?;
    if micro == 0 {
        return Err("nothing is no amount".to_owned());
    }
    Ok(Amount::from_micro(micro))
}

/// Micro-credits as JSON: a number, or a text when it is beyond 64 bits.
pub(crate) fn json(micro: i128) -> Value {
    if let Ok(micro) = u64::try_from(micro) {
        return micro.into();
    }
    match i64::try_from(micro) {
        Ok(micro) => micro.into(),
        Err(_) => micro.to_string().into(),
    }
}

/// A sum of one cause, signed as it changes the balance.
pub(crate) fn signed(cause: Cause, micro: u128) -> i128 {
    let micro = i128::try_from(micro).unwrap_or(i128::MAX);
    match cause.direction() {
        Direction::Income => micro,
        Direction::Expense => -micro,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_have_the_decimals_that_they_need() {
        let cases = [
            (0, "0"),
            (1, "0.000001"),
            (1_500_000, "1.5"),
            (-20_000_000, "-20"),
            (-1_000_001, "-1.000001"),
        ];
        for (micro, expected) in cases {
            assert_eq!(signed_credits(micro), expected);
        }
        let most = credits(Amount::from_micro(u64::MAX));
        assert_eq!(most, "18446744073709.551615");
    }

    #[test]
    fn what_is_typed_is_an_amount_or_says_why_not() {
        let right = [
            ("1", 1_000_000),
            ("0.5", 500_000),
            ("12.000001", 12_000_001),
            ("18446744073709.551615", u64::MAX),
        ];
        for (text, micro) in right {
            assert_eq!(parse_credits(text), Ok(Amount::from_micro(micro)));
        }
        let wrong = [
            "",
            ".",
            ".5",
            "-1",
            "+1",
            "1.0000001",
            "1e6",
            "0",
            "0.0",
            "18446744073709.551616",
        ];
        for text in wrong {
            assert!(parse_credits(text).is_err(), "{text:?}");
        }
        let most = Amount::from_micro(u64::MAX);
        assert_eq!(parse_credits(&credits(most)), Ok(most));
    }

    #[test]
    fn json_holds_every_sum() {
        assert_eq!(json(-5), Value::from(-5));
        assert_eq!(json(i128::from(u64::MAX)), Value::from(u64::MAX));
        assert_eq!(json(1 << 70), Value::from("1180591620717411303424"));
        assert_eq!(signed(Cause::Fee, 7), -7);
        assert_eq!(signed(Cause::Pay, u128::MAX), i128::MAX);
    }
}
