//! Writing an image into containerd: content, then the image record; a lease keeps the garbage collector away
//! meanwhile.

use std::collections::HashMap;

use containerd_client::services::v1 as c8d;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::types::Descriptor;
use tonic::{Code, Request, Status};

use super::archive::{Blob, Bundle};
use crate::files;
use crate::runtime::{Cri, RuntimeError};

/// The CRI's namespace in containerd.
pub(crate) const NAMESPACE: &str = "k8s.io";
const CHUNK: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("the runtime refused: {0}")]
    Runtime(#[from] RuntimeError),
    #[error("cannot read the archive: {0}")]
    Read(#[from] std::io::Error),
}

impl From<Status> for ImportError {
    fn from(status: Status) -> Self {
        ImportError::Runtime(status.into())
    }
}

fn request<T>(message: T, lease: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("containerd-namespace", tonic::metadata::MetadataValue::from_static(NAMESPACE));
    if let Some(lease) = lease.and_then(|lease| lease.parse().ok()) {
        metadata.insert("containerd-lease", lease);
    }
    request
}

/// Stores a bundle and names it.
pub(crate) async fn store(cri: &Cri, bundle: &Bundle) -> Result<(), ImportError> {
    let mut leases = LeasesClient::new(cri.channel());
    let expiry = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let labels: HashMap<String, String> =
        [("containerd.io/gc.expire".to_string(), expiry.to_string())].into();
    let create = c8d::CreateRequest { id: format!("minik8s-import-{}", uuid::Uuid::new_v4()), labels };
    let lease = leases.create(request(create, None)).await?.into_inner().lease.unwrap_or_default().id;
    let stored = store_leased(cri, bundle, &lease).await;
    let delete = c8d::DeleteRequest { id: lease, sync: false };
    if let Err(error) = leases.delete(request(delete, None)).await {
        tracing::debug!(%error, "the lease of an import is left to expire");
    }
    stored
}

async fn store_leased(cri: &Cri, bundle: &Bundle, lease: &str) -> Result<(), ImportError> {
    let mut references: HashMap<String, String> = HashMap::new();
    references.insert("containerd.io/gc.ref.content.config".into(), bundle.config.digest.clone());
    for (index, layer) in bundle.layers.iter().enumerate() {
        references.insert(format!("containerd.io/gc.ref.content.l.{index}"), layer.digest.clone());
        write(cri, layer, HashMap::new(), lease).await?;
    }
    write(cri, &bundle.config, HashMap::new(), lease).await?;
    write(cri, &bundle.manifest, references, lease).await?;
    for name in &bundle.names {
        tag(cri, name, &bundle.manifest, lease).await?;
    }
    Ok(())
}

async fn write(
    cri: &Cri,
    blob: &Blob,
    labels: HashMap<String, String>,
    lease: &str,
) -> Result<(), ImportError> {
    let mut client = ContentClient::new(cri.channel());
    let info = c8d::InfoRequest { digest: blob.digest.clone() };
    if client.info(request(info, Some(lease))).await.is_ok() {
        return relabel(&mut client, blob, labels, lease).await;
    }
    let reference = format!("minik8s-import-{}", blob.digest);
    let base = c8d::WriteContentRequest {
        r#ref: reference,
        total: i64::try_from(blob.size).unwrap_or(i64::MAX),
        expected: blob.digest.clone(),
        ..Default::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let feed = feed(blob, base, labels, sender);
    let answer = async {
        let mut replies = client.write(request(stream, Some(lease))).await?.into_inner();
        while replies.message().await?.is_some() {}
        Ok::<(), Status>(())
    };
    let (fed, answered) = futures::future::join(feed, answer).await;
    match answered {
        Err(status) if status.code() == Code::AlreadyExists => {}
        Err(status) => return Err(status.into()),
        Ok(()) => fed?,
    }
    Ok(())
}

async fn feed(
    blob: &Blob,
    base: c8d::WriteContentRequest,
    labels: HashMap<String, String>,
    sender: tokio::sync::mpsc::Sender<c8d::WriteContentRequest>,
) -> std::io::Result<()> {
    let mut offset = 0;
    while offset < blob.size {
        let part = blob.clone();
        let data = files::blocking(move || part.read(offset, CHUNK)).await?;
        let at = i64::try_from(offset).unwrap_or(i64::MAX);
        offset += data.len() as u64;
        let part = c8d::WriteContentRequest {
            action: c8d::WriteAction::Write as i32,
            offset: at,
            data,
            ..base.clone()
        };
        if sender.send(part).await.is_err() {
            // The other side has ended and its answer says why.
            return Ok(());
        }
    }
    let commit = c8d::WriteContentRequest {
        action: c8d::WriteAction::Commit as i32,
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        labels,
        ..base
    };
    let _ = sender.send(commit).await;
    Ok(())
}

/// Content that was there already may lack the references that keep its parts.
async fn relabel(
    client: &mut ContentClient<tonic::transport::Channel>,
    blob: &Blob,
    labels: HashMap<String, String>,
    lease: &str,
) -> Result<(), ImportError> {
    if labels.is_empty() {
        return Ok(());
    }
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    let info = c8d::Info { digest: blob.digest.clone(), labels, ..Default::default() };
    let update = c8d::UpdateRequest { info: Some(info), update_mask: Some(prost_types::FieldMask { paths }) };
    client.update(request(update, Some(lease))).await?;
    Ok(())
}

async fn tag(cri: &Cri, name: &str, manifest: &Blob, lease: &str) -> Result<(), ImportError> {
    let target = Descriptor {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest.clone(),
        size: i64::try_from(manifest.size).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
    };
    let image = c8d::Image { name: name.to_string(), target: Some(target), ..Default::default() };
    let mut client = ImagesClient::new(cri.channel());
    let create = c8d::CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    match client.create(request(create, Some(lease))).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => {
            let update =
                c8d::UpdateImageRequest { image: Some(image), update_mask: None, source_date_epoch: None };
            client.update(request(update, Some(lease))).await?;
            Ok(())
        }
        Err(status) => Err(status.into()),
    }
}
