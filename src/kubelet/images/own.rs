//! The images of a node for commands on its machine: `minik8s image import | list | rm`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::import::{ImportFailure, Importer, import};
use crate::runtime::RuntimeError;

/// An image that a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnImage {
    /// With their tags, or by digest where it has none.
    pub names: Vec<String>,
    pub id: String,
    pub size: u64,
}

/// Why an image is not removed, or images are not listed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the node has no such image")]
    Unknown,
    #[error("the runtime refuses: {0}")]
    Runtime(Box<str>),
}

impl From<RuntimeError> for ImageError {
    fn from(error: RuntimeError) -> Self {
        ImageError::Runtime(error.message().into())
    }
}

/// Clones stand for the same node.
#[derive(Clone)]
pub struct Images(pub(crate) Importer);

impl Images {
    /// Imports an archive; answers with the names of its images. Pods that wait for one try again.
    pub async fn import(&self, file: &Path) -> Result<Vec<String>, ImportFailure> {
        import(&self.0, file).await
    }

    pub async fn list(&self) -> Result<Vec<OwnImage>, ImageError> {
        let found = self.0.runtime.images().await?;
        let own = |image: k8s_cri::v1::Image| OwnImage {
            names: if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags },
            id: image.id,
            size: image.size,
        };
        let mut images: Vec<OwnImage> = found.into_iter().map(own).collect();
        images.sort_by(|one, other| (&one.names, &one.id).cmp(&(&other.names, &other.id)));
        Ok(images)
    }

    pub async fn remove(&self, name: &str) -> Result<(), ImageError> {
        match self.0.runtime.image(name).await? {
            Some(_) => Ok(self.0.runtime.remove_image(name).await?),
            None => Err(ImageError::Unknown),
        }
    }
}
