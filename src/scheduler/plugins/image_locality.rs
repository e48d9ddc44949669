//! ImageLocality: better where the images are already, in proportion to their size; an image that few nodes
//! have counts less, so that its nodes are not overrun.

use std::sync::Arc;

use crate::framework::{Cycle, MAX_NODE_SCORE, Plugin, Points, ScorePlugin, Status};
use crate::node::NodeInfo;

pub(super) const NAME: &str = "ImageLocality";

const LEAST: i64 = 23 << 20;
const MOST_PER_IMAGE: i64 = 1000 << 20;

#[derive(Default)]
pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.score(self);
    }
}

impl ScorePlugin for ImageLocality {
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        let images = &cycle.pod.requirements.images;
        if images.is_empty() || node.images.is_empty() {
            return Ok(0);
        }
        let mut sum = 0;
        for image in images {
            let image = tagged(image);
            let size = node.images.get(&image).copied().unwrap_or(0);
            sum += (size as f64 * cycle.cache.image_share(&image)) as i64;
        }
        let most = MOST_PER_IMAGE * i64::try_from(images.len()).unwrap_or(i64::MAX >> 40);
        Ok(MAX_NODE_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST))
    }

    /// The share of nodes that have an image may be that of an earlier time: the score is a hint.
    fn only_node(&self) -> bool {
        true
    }
}

fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') { image.to_string() } else { format!("{image}:latest") }
}
