//! Bounds the memory that JSON can take, before it is parsed.

use super::limits::JSON_VALUES;
use crate::error::{Error, Result};

/// Counts the values in these texts, all together.
///
/// Errors: ARTIFACT-LIMIT.
pub(super) fn check<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let count: usize = texts.map(count).sum();
    if count <= JSON_VALUES {
        return Ok(());
    }
    let text = format!("the header's JSON has {count} values in all, the limit is {JSON_VALUES}");
    Err(Error::new("ARTIFACT-LIMIT", text))
}

/// Not fewer than there are in any text that is JSON: every value but the first stands behind `[`, `{`, `:` or `,`.
/// Names of members count as values. In other texts it does not matter: they are refused as soon as they are parsed.
fn count(text: &[u8]) -> usize {
    let (mut count, mut inside, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'[' | b'{' | b':' | b',' if !inside => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_all_values_are_counted() {
        for (text, least) in [
            ("1", 1),
            ("[]", 1),
            ("[1,2]", 3),
            (r#"{"a":[{},{}],"b":"x"}"#, 7),
            (r#"["[[[[,,,,", "\\\",{[", 1]"#, 4),
        ] {
            let found = count(text.as_bytes());
            assert!((least..=least + 3).contains(&found), "{text}: {found}");
        }
    }

    #[test]
    fn the_sum_is_limited() {
        let half = [b'['; JSON_VALUES / 2 - 1];
        check([&half[..], &half].into_iter()).unwrap();
        assert_eq!(check([&half[..], &half, &[]].into_iter()).unwrap_err().code, "ARTIFACT-LIMIT");
    }
}
