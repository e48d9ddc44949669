//! `--sort-by`: order by a JSONPath, numbers as numbers, quantities by size, other text byte by byte.

use std::cmp::Ordering;

use serde_json::Value;

use api::jsonpath::{JsonPath, JsonPathError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SortError {
    #[error("couldn't find any field with path {0:?} in the list of objects")]
    Missing(String),
    #[error(transparent)]
    Path(#[from] JsonPathError),
}

/// Sorts items by the path's first value; items without one come first. A path that no item has is an error.
pub(crate) fn by_path<T>(
    items: &mut [T],
    path: &str,
    object: impl Fn(&T) -> &Value,
) -> Result<(), SortError> {
    let parsed = JsonPath::parse_relaxed(path)?;
    let mut keys: Vec<Option<Value>> = Vec::with_capacity(items.len());
    for item in items.iter() {
        keys.push(parsed.values(object(item))?.into_iter().next());
    }
    if !items.is_empty() && keys.iter().all(Option::is_none) {
        return Err(SortError::Missing(braced(path)));
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|left, right| compare_keys(keys[*left].as_ref(), keys[*right].as_ref()));
    permute(items, order);
    Ok(())
}

fn braced(path: &str) -> String {
    let inner = path.trim().trim_start_matches('{').trim_end_matches('}');
    if inner.starts_with('.') { format!("{{{inner}}}") } else { format!("{{.{inner}}}") }
}

/// Brings items into the order in which `order` lists their present places.
fn permute<T>(items: &mut [T], order: Vec<usize>) {
    let mut place = vec![0; order.len()];
    for (new, old) in order.into_iter().enumerate() {
        place[old] = new;
    }
    for index in 0..items.len() {
        while place[index] != index {
            let target = place[index];
            items.swap(index, target);
            place.swap(index, target);
        }
    }
}

fn compare_keys(left: Option<&Value>, right: Option<&Value>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(Value::Number(left)), Some(Value::Number(right))) => {
            left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(left)), Some(Value::String(right))) => match (quantity(left), quantity(right)) {
            (Some(left), Some(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
            _ => left.cmp(right),
        },
        (Some(left), Some(right)) => left.to_string().cmp(&right.to_string()),
    }
}

/// The size of a quantity, precise enough to order by.
fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let factor = match &text[end..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests;
