//! Resource quantities: parsing, canonical form, arithmetic and comparison, as `resource.Quantity` of
//! apimachinery.
//!
//! A quantity is a decimal number with a suffix: binary (`Ki` … `Ei`), decimal (`n u m k M G T P E`) or an
//! exponent (`e3`, `E3`). It is held as a count of nano units in 128 bits, which covers upstream's range
//! (2^63 − 1 with nine decimal places) exactly, together with the format its text had, because the canonical
//! text keeps the format. Finer fractions round up and larger values are capped, as upstream does.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// One unit in nano units.
const UNIT: i128 = 1_000_000_000;
/// The largest magnitude: 2^63 − 1 units.
const LIMIT: i128 = i64::MAX as i128 * UNIT;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `100m`, `1k`.
    #[default]
    DecimalSi,
    /// `64Mi`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// The text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Quantity { nano: 0, format: Format::DecimalSi };

    /// Whole units.
    pub fn new(value: i64, format: Format) -> Self {
        Quantity { nano: i128::from(value) * UNIT, format }
    }

    /// Thousandths of a unit, such as CPU shares.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nano: (i128::from(milli) * (UNIT / 1000)).clamp(-LIMIT, LIMIT), format: Format::DecimalSi }
    }

    /// Bytes, written with binary suffixes.
    pub fn bytes(value: i64) -> Self {
        Self::new(value, Format::BinarySi)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nano, UNIT))
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_up(self.nano, UNIT / 1000))
    }

    /// The same amount in whole thousandths, rounded away from zero.
    #[must_use]
    pub(crate) fn rounded_to_milli(self) -> Self {
        let milli = UNIT / 1000;
        Quantity { nano: divide_up(self.nano, milli) * milli, format: self.format }
    }

    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / UNIT as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// The sum; the format is the receiver's unless that is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: (self.nano + other.nano).clamp(-LIMIT, LIMIT), format }
    }

    /// The difference; the format is the receiver's unless that is zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Quantity { nano: -other.nano, format: other.format })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Division that rounds away from zero.
fn divide_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

/// What a suffix means.
enum Scale {
    /// Power of ten.
    Ten(i32),
    /// Power of two.
    Two(u32),
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

fn read_suffix(suffix: &str) -> Option<(Scale, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(own, _)| *own == suffix) {
        return Some((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(own, _)| *own == suffix) {
        return Some((Scale::Two(*exponent), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((Scale::Ten(exponent.parse().ok()?), Format::DecimalExponent))
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || !is_suffix_text(suffix) {
            return Err(QuantityError::Format);
        }
        let (scale, format) = read_suffix(suffix).ok_or(QuantityError::Suffix)?;
        let nano = to_nano(whole, fraction, &scale);
        Ok(Quantity { nano: if negative { -nano } else { nano }, format })
    }
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`.
fn is_suffix_text(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits times scale in nano units: capped above, rounded up below.
fn to_nano(whole: &str, fraction: &str, scale: &Scale) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    // Digits as one integer with `shift` powers of ten to multiply (or divide) by; 10^-9 units are the unit
    // here.
    let (mut shift, factor) = match scale {
        Scale::Ten(exponent) => (exponent.saturating_add(9), 1),
        Scale::Two(exponent) => (9, 1_i128 << exponent),
    };
    shift = shift.saturating_sub(i32::try_from(fraction.len()).unwrap_or(i32::MAX));
    let mut digits: i128 = 0;
    let mut inexact = false;
    for byte in whole.bytes().chain(fraction.bytes()) {
        // Beyond 2^100 only the order of magnitude matters: every further digit is one more power of ten.
        if digits >= 1 << 100 {
            shift = shift.saturating_add(1);
            inexact |= byte != b'0';
        } else {
            digits = digits * 10 + i128::from(byte - b'0');
        }
    }
    if digits == 0 {
        return 0;
    }
    while shift < 0 && digits != 0 {
        // A binary factor goes in before digits are lost, as long as it fits.
        inexact |= digits % 10 != 0 && factor == 1;
        if factor != 1 {
            return divide_binary(digits, factor, shift);
        }
        digits /= 10;
        shift += 1;
    }
    let mut value = digits.checked_mul(factor).unwrap_or(LIMIT);
    if inexact && value < LIMIT {
        value += 1;
    }
    while shift > 0 && value < LIMIT {
        value = value.saturating_mul(10);
        shift -= 1;
    }
    value.min(LIMIT)
}

/// `digits * factor / 10^-shift`, rounded up. Many digits lose their last ones first so that nothing
/// overflows.
fn divide_binary(mut digits: i128, factor: i128, mut shift: i32) -> i128 {
    let mut inexact = false;
    while digits.checked_mul(factor).is_none() && shift < 0 {
        inexact |= digits % 10 != 0;
        digits /= 10;
        shift += 1;
    }
    let mut value = digits.saturating_mul(factor);
    while shift < 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        shift += 1;
    }
    (value + i128::from(inexact)).min(LIMIT)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the value whole; binary suffixes only
    /// for whole values of at least 1024.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let below_binary = self.nano.abs() < 1024 * UNIT || self.nano % UNIT != 0;
        let format = match self.format {
            Format::BinarySi if below_binary => Format::DecimalSi,
            format => format,
        };
        if format == Format::BinarySi {
            let mut mantissa = self.nano / UNIT;
            let mut power = 0;
            while mantissa % 1024 == 0 && power < BINARY.len() {
                mantissa /= 1024;
                power += 1;
            }
            let suffix = if power == 0 { "" } else { BINARY[power - 1].0 };
            return write!(f, "{mantissa}{suffix}");
        }
        let (mut mantissa, mut exponent) = (self.nano, -9);
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        match (format, exponent) {
            (_, 0) => write!(f, "{mantissa}"),
            (Format::DecimalExponent, _) => write!(f, "{mantissa}e{exponent}"),
            _ => {
                let suffix =
                    DECIMAL.iter().find(|(_, own)| *own == exponent).map_or("", |(suffix, _)| suffix);
                write!(f, "{mantissa}{suffix}")
            }
        }
    }
}
