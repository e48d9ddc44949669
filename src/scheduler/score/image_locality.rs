//! ImageLocality: better where the images are already, in proportion to their size; an image that few nodes have counts
//! less, so that its nodes are not overrun.

use std::collections::BTreeMap;

use super::MAX;

const LEAST: i64 = 23 << 20;
const MOST_PER_IMAGE: i64 = 1000 << 20;

/// `spread` gives the share of nodes that have an image.
pub(crate) fn score(images: &[String], present: &BTreeMap<String, i64>, spread: impl Fn(&str) -> f64) -> i64 {
    if images.is_empty() || present.is_empty() {
        return 0;
    }
    let tagged = |image: &str| {
        let name = image.rsplit('/').next().unwrap_or(image);
        if name.contains(':') || name.contains('@') { image.to_string() } else { format!("{image}:latest") }
    };
    let size = |image: &String| {
        let image = tagged(image);
        present.get(&image).map_or(0, |size| (*size as f64 * spread(&image)) as i64)
    };
    let sum: i64 = images.iter().map(size).sum();
    let most = MOST_PER_IMAGE * i64::try_from(images.len()).unwrap_or(i64::MAX >> 40);
    MAX * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}
