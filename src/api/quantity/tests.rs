//! Quantities against examples of upstream's documentation, and laws that hold for all.

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    text.parse::<Quantity>().unwrap().to_string()
}

#[test]
fn canonical_forms() {
    for (text, want) in [
        ("0", "0"),
        ("0m", "0"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("0.1Gi", "107374182400m"),
        ("512", "512"),
        ("1024", "1024"),
        ("1024Ki", "1Mi"),
        ("100Ki", "100Ki"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1000k", "1M"),
        ("12e6", "12e6"),
        ("12E6", "12e6"),
        ("1e3", "1e3"),
        ("100e-3", "100e-3"),
        ("123456789", "123456789"),
        ("64974208Ki", "64974208Ki"),
        ("-1.5", "-1500m"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("1u", "1u"),
        ("9223372036854775807", "9223372036854775807"),
        ("9E", "9E"),
        ("100E", "9223372036854775807"),
        ("1.1e-10", "1e-9"),
        ("00001", "1"),
    ] {
        assert_eq!(canonical(text), want, "{text}");
    }
}

#[test]
fn refuses_what_is_no_quantity() {
    for text in ["", "-", "x", "1x", "1.2.3", "1 Gi", "Gi", "1gi", ".", "1e", "1mm", "１"] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
    assert_eq!("1 Gi".parse::<Quantity>().unwrap_err(), QuantityError::Format);
    assert_eq!("1kk".parse::<Quantity>().unwrap_err(), QuantityError::Suffix);
}

#[test]
fn values_round_up() {
    let parse = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!(parse("100m").value(), 1);
    assert_eq!(parse("1500m").milli_value(), 1500);
    assert_eq!(parse("1Gi").value(), 1 << 30);
    assert_eq!(parse("1n").milli_value(), 1);
    assert_eq!(parse("-100m").value(), -1);
    assert_eq!(parse("100u").rounded_to_milli().to_string(), "1m");
    assert_eq!(parse("1Gi").rounded_to_milli().to_string(), "1Gi");
    assert_eq!(parse("1").plus(parse("500m")).to_string(), "1500m");
    assert_eq!(parse("1Gi").minus(parse("512Mi")).to_string(), "512Mi");
    assert!(parse("1Gi") > parse("1G"));
    assert_eq!(parse("1000m"), parse("1"));
}

proptest! {
    #[test]
    fn canonical_text_means_the_same(number in -1_000_000_000_000i64..1_000_000_000_000, fraction in 0u32..1000, suffix in "(n|u|m||k|M|Ki|Mi|Gi|e3|E2|e-3)") {
        let text = format!("{number}.{fraction:03}{suffix}");
        let parsed: Quantity = text.parse().unwrap();
        let printed = parsed.to_string();
        let again: Quantity = printed.parse().unwrap();
        prop_assert_eq!(again, parsed);
        // As upstream: what is no multiple of 1,024 is printed without a suffix, and then read as decimal.
        if !suffix.ends_with('i') {
            prop_assert_eq!(again.to_string(), printed);
        }
    }

    #[test]
    fn sums_are_ordered(a in any::<i32>(), b in any::<i32>()) {
        let (x, y) = (Quantity::from_milli(a.into()), Quantity::from_milli(b.into()));
        prop_assert_eq!(x.plus(y).milli_value(), i64::from(a) + i64::from(b));
        prop_assert_eq!(x.plus(y).minus(y), x);
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
    }

    #[test]
    fn no_text_panics(text in "[-+.0-9eEinumkKMGTP]{0,60}") {
        let _ = text.parse::<Quantity>().map(|one| one.to_string());
    }
}
