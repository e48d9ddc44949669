//! One field of a schedule: `*/5`, `1-5`, `mon,wed`, as a set of numbers.

/// What the numbers of a field may be, and names for them (the first is `min`).
pub(super) struct Bounds {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) names: &'static [&'static str],
}

/// What is wrong with a field, in the words of upstream's library.
#[derive(Debug, thiserror::Error)]
pub(super) enum RangeError {
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("beginning of range ({start}) below minimum ({min}): {text}")]
    Below { start: u32, min: u32, text: String },
    #[error("end of range ({end}) above maximum ({max}): {text}")]
    Above { end: u32, max: u32, text: String },
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Reversed { start: u32, end: u32, text: String },
    #[error("too large a step: {0}")]
    LargeStep(String),
    #[error("step of range should be a positive number: {0}")]
    ZeroStep(String),
    #[error("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")]
    NoNumber { text: String, why: &'static str },
    #[error("negative number ({number}) not allowed: {text}")]
    Negative { number: i64, text: String },
}

/// The numbers that a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    bits: u64,
    /// It names all, and says so with a star.
    star: bool,
}

impl Field {
    /// A list of ranges.
    pub(super) fn parse(text: &str, bounds: &Bounds) -> Result<Self, RangeError> {
        let mut field = Field { bits: 0, star: false };
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (bits, star) = parse_range(range, bounds)?;
            field.bits |= bits;
            field.star |= star;
        }
        Ok(field)
    }

    pub(super) fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & (1 << number) != 0)
    }

    pub(super) fn is_star(self) -> bool {
        self.star
    }
}

/// `*`, `5`, `1-5`, each with `/step`: the numbers, and whether it is all of them.
fn parse_range(text: &str, bounds: &Bounds) -> Result<(u64, bool), RangeError> {
    let parts: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = parts[0].split('-').collect();
    let mut star = false;
    let (start, mut end) = match limits[..] {
        ["*" | "?", ..] => {
            star = true;
            (bounds.min, bounds.max)
        }
        [one] => {
            let one = number_or_name(one, bounds)?;
            (one, one)
        }
        [low, high] => (number_or_name(low, bounds)?, number_or_name(high, bounds)?),
        _ => return Err(RangeError::Hyphens(text.to_string())),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // `N/step` goes on to the end.
            if limits.len() == 1 {
                end = bounds.max;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(RangeError::Slashes(text.to_string())),
    };
    if start < bounds.min {
        return Err(RangeError::Below { start, min: bounds.min, text: text.to_string() });
    }
    if end > bounds.max {
        return Err(RangeError::Above { end, max: bounds.max, text: text.to_string() });
    }
    if start > end {
        return Err(RangeError::Reversed { start, end, text: text.to_string() });
    }
    let Ok(step) = usize::try_from(step) else { return Err(RangeError::LargeStep(text.to_string())) };
    if step == 0 {
        return Err(RangeError::ZeroStep(text.to_string()));
    }
    let bits = (start..=end).step_by(step).fold(0, |bits, number| bits | 1 << number);
    Ok((bits, star))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, RangeError> {
    match (0..).zip(bounds.names).find(|(_, name)| name.eq_ignore_ascii_case(text)) {
        Some((at, _)) => Ok(bounds.min + at),
        None => number(text),
    }
}

/// A number as Go's `Atoi` reads it; what is out of any bounds stays so.
fn number(text: &str) -> Result<u32, RangeError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let fail = |why| Err(RangeError::NoNumber { text: text.to_string(), why });
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return fail("invalid syntax");
    }
    match text.parse::<i64>() {
        Err(_) => fail("value out of range"),
        Ok(number) if number < 0 => Err(RangeError::Negative { number, text: text.to_string() }),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
    }
}
