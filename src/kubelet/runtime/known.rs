//! What containerd has records of, whoever has made it.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1 as c8d;
use containerd_client::services::v1::containers_client::ContainersClient;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::{Cri, RuntimeError};
use crate::images::content::NAMESPACE;

/// The records hold the containers' whole specifications.
const LARGEST_REPLY: usize = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// containerd does not tell.
#[derive(Debug, thiserror::Error)]
pub enum NoRecords {
    #[error("its socket's path cannot be used")]
    Socket,
    #[error("{0}")]
    Refused(String),
}

/// The ids of all sandboxes and containers of the CRI's namespace.
pub async fn known_containers(socket: &Path) -> Result<HashSet<String>, NoRecords> {
    let cri = Cri::new(socket).ok_or(NoRecords::Socket)?;
    let mut client = ContainersClient::new(cri.channel()).max_decoding_message_size(LARGEST_REPLY);
    let mut request = Request::new(c8d::ListContainersRequest::default());
    request.set_timeout(TIMEOUT);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    let listed = client.list(request).await;
    let listed = listed.map_err(|status| NoRecords::Refused(RuntimeError::from(status).to_string()))?;
    Ok(listed.into_inner().containers.into_iter().map(|container| container.id).collect())
}
