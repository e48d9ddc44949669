//! Ratios as the downward API shows them.

use super::*;

#[test]
fn ratio_rounds_up() {
    let quantity = |text: &str| Quantity(text.to_string());
    for (resource, amount, divisor, want) in [
        ("cpu", "1500m", "1", 2),
        ("cpu", "250m", "1m", 250),
        ("cpu", "250m", "0", 1),
        ("memory", "64Mi", "1Mi", 64),
        ("memory", "64Mi", "0", 67_108_864),
        ("memory", "0", "1Mi", 0),
    ] {
        assert_eq!(
            ratio(resource, &quantity(amount), Some(&quantity(divisor))),
            want,
            "{amount} / {divisor}"
        );
    }
    assert_eq!(ratio("cpu", &quantity("2"), None), 2);
}
