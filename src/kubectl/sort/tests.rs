//! Tests of `--sort-by`.

use serde_json::{Value, json};

use super::by_path;

fn sorted(path: &str, values: &[Value]) -> Result<Vec<String>, String> {
    let mut items: Vec<(usize, Value)> =
        values.iter().enumerate().map(|(index, value)| (index, json!({"a": value}))).collect();
    if let Some((_, item)) = items.iter_mut().find(|(_, item)| item["a"].is_null()) {
        *item = json!({});
    }
    by_path(&mut items, path, |(_, item)| item).map_err(|error| error.to_string())?;
    Ok(items.iter().map(|(index, _)| index.to_string()).collect())
}

#[test]
fn order_follows_the_kind_of_value() {
    assert_eq!(sorted(".a", &[json!(10), json!(9), json!(100)]).unwrap(), ["1", "0", "2"]);
    assert_eq!(sorted("a", &[json!("p9"), json!("p10"), json!("a")]).unwrap(), ["2", "1", "0"]);
    assert_eq!(sorted("{.a}", &[json!("1Gi"), json!("500Mi"), json!("2")]).unwrap(), ["2", "1", "0"]);
    assert_eq!(sorted(".a", &[json!("x"), Value::Null]).unwrap(), ["1", "0"], "without the field first");
    assert_eq!(
        sorted(".b", &[json!(1)]).unwrap_err(),
        "couldn't find any field with path \"{.b}\" in the list of objects"
    );
}
