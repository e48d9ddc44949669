//! Quantities that manifests hold.

use super::*;

fn quantity(text: &str) -> Quantity {
    Quantity(text.to_string())
}

#[test]
fn suffixes_scale() {
    for (text, want) in
        [("1", 1), ("1Ki", 1024), ("1.5Gi", 1_610_612_736), ("1e3", 1000), ("2M", 2_000_000), ("100m", 1)]
    {
        assert_eq!(value(&quantity(text)), want, "{text}");
    }
    assert_eq!(milli(&quantity("250m")), 250);
    assert_eq!(milli(&quantity("0.1")), 100);
    assert_eq!(milli(&quantity("1n")), 1);
    assert_eq!(nanos(&quantity("1x")), None);
    assert_eq!(nanos(&quantity("")), None);
}

#[test]
fn ratio_rounds_up() {
    assert_eq!(ratio(&quantity("1500m"), Some(&quantity("1"))), Some(2));
    assert_eq!(ratio(&quantity("250m"), Some(&quantity("1m"))), Some(250));
    assert_eq!(ratio(&quantity("64Mi"), Some(&quantity("1Mi"))), Some(64));
    assert_eq!(ratio(&quantity("64Mi"), Some(&quantity("0"))), Some(67_108_864));
}
