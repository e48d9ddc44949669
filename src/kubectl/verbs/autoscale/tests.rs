//! Targets of metrics, as they are typed.

use super::*;

#[test]
fn shares_quantities_and_bare_numbers_are_read() {
    let aimed =
        |resource: &str, unit: &str, given: &str| aim(resource, unit, given).map_err(|e| e.to_string());
    assert_eq!(aimed("cpu", "m", "70%"), Ok(json!({"type": "Utilization", "averageUtilization": 70})));
    assert_eq!(aimed("cpu", "m", "500m"), Ok(json!({"type": "AverageValue", "averageValue": "500m"})));
    assert_eq!(aimed("cpu", "m", "500"), Ok(json!({"type": "AverageValue", "averageValue": "500m"})));
    assert_eq!(aimed("memory", "Mi", "200"), Ok(json!({"type": "AverageValue", "averageValue": "200Mi"})));
    assert_eq!(aimed("memory", "Mi", "1Gi"), Ok(json!({"type": "AverageValue", "averageValue": "1Gi"})));
    assert_eq!(aimed("cpu", "m", "-1%"), Err("error: invalid percentage value: -1".to_string()));
    assert_eq!(aimed("memory", "Mi", "lots"), Err("error: invalid resource memory value: lots".to_string()));
}
