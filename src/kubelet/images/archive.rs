//! Image archives as `docker save`, `skopeo` and `umoci` write them: which images are in a file, and where
//! their parts lie in it.
//!
//! Layers are sent to the runtime straight from the archive. An archive that has both
//! forms (docker since 25) is read by its `manifest.json`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::name::ImageName;
use crate::files;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    #[error("{0} is not valid JSON of its kind")]
    Json(String, #[source] serde_json::Error),
    #[error("it has neither manifest.json nor index.json: not an image archive")]
    NoIndex,
    #[error("{0} is missing")]
    Missing(String),
    #[error("{0} does not match its digest")]
    Digest(String),
    #[error("no image in it is for linux/{}", architecture())]
    Platform,
    #[error(transparent)]
    Name(#[from] super::name::InvalidName),
    #[error("{0}")]
    Other(String),
}

/// One piece of content, in memory or in an archive.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>, u64),
}

impl Blob {
    pub(crate) fn memory(media_type: &str, bytes: Vec<u8>) -> Self {
        Blob {
            media_type: media_type.to_string(),
            digest: format!("sha256:{:x}", Sha256::digest(&bytes)),
            size: bytes.len() as u64,
            source: Source::Memory(Arc::new(bytes)),
        }
    }

    /// Up to `length` bytes from an offset.
    pub(crate) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = length.min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        match &self.source {
            Source::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes[from..from + length].to_vec())
            }
            Source::File(file, start) => {
                let mut buffer = vec![0; length];
                file.read_exact_at(&mut buffer, start + offset)?;
                Ok(buffer)
            }
        }
    }

    fn descriptor(&self) -> serde_json::Value {
        serde_json::json!({"mediaType": self.media_type, "digest": self.digest, "size": self.size})
    }
}

/// An image: its manifest and what that refers to, and the names to give it.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) names: Vec<String>,
    pub(crate) manifest: Blob,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

impl Bundle {
    /// An image from its parts; makes the manifest.
    pub(crate) fn of(names: Vec<String>, config: Blob, layers: Vec<Blob>) -> Self {
        const KIND: &str = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": KIND,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::memory(KIND, manifest.to_string().into_bytes());
        Bundle { names, manifest, config, layers }
    }
}

/// The machine's architecture in Go's naming.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

struct Archive {
    file: Arc<File>,
    entries: HashMap<String, (u64, u64)>,
    links: HashMap<String, String>,
}

/// Endings of the names of archives. How a file is packed is seen by its content.
const ENDINGS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst"];

/// The name of an archive without its ending; none if it is not called as one.
pub(crate) fn stem(name: &str) -> Option<&str> {
    // The longest first: `a.tar.gz` is `a`.
    ENDINGS.iter().rev().find_map(|ending| name.strip_suffix(ending)).filter(|stem| !stem.is_empty())
}

/// The images of an archive. One that is packed as a whole is unpacked into a nameless file in `scratch`.
/// Blocks.
pub(crate) fn read(path: &Path, scratch: &Path) -> Result<Vec<Bundle>, ArchiveError> {
    let archive = Archive::open(path, scratch)?;
    if archive.find("manifest.json").is_some() {
        return archive.docker();
    }
    if archive.find("index.json").is_none() {
        return Err(ArchiveError::NoIndex);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    archive.oci(stem(&name).unwrap_or("image"))
}

/// The file itself, or what is packed in it: layers are sent from where they lie in the archive.
fn unpacked(file: File, scratch: &Path) -> io::Result<File> {
    let mut head = [0; 4];
    let length = file.read_at(&mut head, 0)?;
    let packed: Box<dyn io::Read + '_> = match &head[..length] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(&file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(&file)?),
        _ => return Ok(file),
    };
    let mut plain = nameless(scratch)?;
    io::copy(&mut { packed }, &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

/// A file that goes with its descriptor.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!(".unpacked-{}", uuid::Uuid::new_v4()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Archive {
    fn open(path: &Path, scratch: &Path) -> Result<Self, ArchiveError> {
        let file = unpacked(files::open(path, files::Links::Follow)?, scratch)?;
        let length = file.metadata()?.len();
        let (mut entries, mut links) = (HashMap::new(), HashMap::new());
        let mut tar = tar::Archive::new(io::BufReader::new(&file));
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let name = clean(&entry.path()?.to_string_lossy());
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let (start, size) = (entry.raw_file_position(), entry.size());
                if start + size > length {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is cut short").into());
                }
                entries.insert(name, (start, size));
            } else if let Some(target) =
                entry.link_name()?.filter(|_| kind.is_symlink() || kind.is_hard_link())
            {
                let target = target.to_string_lossy().into_owned();
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = if kind.is_symlink() { format!("{parent}/{target}") } else { target };
                links.insert(name, clean(&target));
            }
        }
        Ok(Archive { file: Arc::new(file), entries, links })
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = clean(name);
        // Links may lead to links, but not for ever.
        for _ in 0..8 {
            if let Some(entry) = self.entries.get(&name) {
                return Some(*entry);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let (start, size) = self.find(name).ok_or_else(|| ArchiveError::Missing(name.to_string()))?;
        if size > 16 * 1024 * 1024 {
            return Err(ArchiveError::Other(format!("{name} is too large")));
        }
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(0)];
        self.file.read_exact_at(&mut buffer, start)?;
        Ok(buffer)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        serde_json::from_slice(&self.bytes(name)?)
            .map_err(|error| ArchiveError::Json(name.to_string(), error))
    }

    /// A file of the archive as content; hashes it.
    fn blob(&self, name: &str, media_type: &str) -> Result<Blob, ArchiveError> {
        let (start, size) = self.find(name).ok_or_else(|| ArchiveError::Missing(name.to_string()))?;
        let mut blob = Blob {
            media_type: media_type.to_string(),
            digest: String::new(),
            size,
            source: Source::File(self.file.clone(), start),
        };
        let mut hash = Sha256::new();
        let mut offset = 0;
        while offset < size {
            let chunk = blob.read(offset, 1 << 20)?;
            hash.update(&chunk);
            offset += chunk.len() as u64;
        }
        blob.digest = format!("sha256:{:x}", hash.finalize());
        Ok(blob)
    }

    fn docker(&self) -> Result<Vec<Bundle>, ArchiveError> {
        let images: Vec<DockerImage> = self.json("manifest.json")?;
        let mut bundles = Vec::new();
        for image in images {
            let config = self.blob(&image.config, "application/vnd.oci.image.config.v1+json")?;
            let mut layers = Vec::new();
            for layer in &image.layers {
                let mut blob = self.blob(layer, "")?;
                blob.media_type = layer_type(&blob)?.to_string();
                layers.push(blob);
            }
            let names: Result<Vec<String>, _> = image
                .repo_tags
                .unwrap_or_default()
                .iter()
                .map(|tag| ImageName::parse(tag).map(|name| name.canonical()))
                .collect();
            let names = names?;
            if names.is_empty() {
                // Stored without a name, nothing could refer to it and it would be collected at once.
                return Err(ArchiveError::Other(
                    "an image in it has no name: save it by name, not by id".to_string(),
                ));
            }
            bundles.push(Bundle::of(names, config, layers));
        }
        Ok(bundles)
    }

    fn oci(&self, stem: &str) -> Result<Vec<Bundle>, ArchiveError> {
        let index: Index = self.json("index.json")?;
        let mut bundles: Vec<Bundle> = Vec::new();
        for descriptor in &index.manifests {
            let Some(manifest) = self.manifest_for_here(descriptor, 0)? else { continue };
            let mut bundle = self.oci_bundle(&manifest)?;
            bundle.names = vec![oci_name(&descriptor.annotations, stem)?];
            // Several tags of one image are several entries.
            match bundles.iter_mut().find(|one| one.manifest.digest == bundle.manifest.digest) {
                Some(same) => same.names.append(&mut bundle.names),
                None => bundles.push(bundle),
            }
        }
        if bundles.is_empty() { Err(ArchiveError::Platform) } else { Ok(bundles) }
    }

    /// The descriptor of the manifest for this machine: itself, or one of the index that it is.
    fn manifest_for_here(
        &self,
        descriptor: &Descriptor,
        depth: u32,
    ) -> Result<Option<Descriptor>, ArchiveError> {
        let fits = descriptor
            .platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == architecture());
        if !fits || depth > 3 {
            return Ok(None);
        }
        let is_index =
            descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list");
        if !is_index {
            return Ok(Some(descriptor.clone()));
        }
        let index: Index = self.json(&blob_path(&descriptor.digest))?;
        for inner in &index.manifests {
            if let Some(found) = self.manifest_for_here(inner, depth + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn oci_bundle(&self, descriptor: &Descriptor) -> Result<Bundle, ArchiveError> {
        let manifest: Manifest = self.json(&blob_path(&descriptor.digest))?;
        let part = |one: &Descriptor, default: &str| {
            let kind = if one.media_type.is_empty() { default } else { &one.media_type };
            let blob = self.blob(&blob_path(&one.digest), kind)?;
            if blob.digest == one.digest { Ok(blob) } else { Err(ArchiveError::Digest(one.digest.clone())) }
        };
        let layers: Result<Vec<Blob>, ArchiveError> =
            manifest.layers.iter().map(|one| part(one, "application/vnd.oci.image.layer.v1.tar")).collect();
        Ok(Bundle {
            names: Vec::new(),
            manifest: part(descriptor, "application/vnd.oci.image.manifest.v1+json")?,
            config: part(&manifest.config, "application/vnd.oci.image.config.v1+json")?,
            layers: layers?,
        })
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// How a layer is packed, by its first bytes.
fn layer_type(blob: &Blob) -> io::Result<&'static str> {
    let head = blob.read(0, 4)?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    })
}

/// The name an OCI layout gives an image. One that says only a tag belongs to an image named like the file.
fn oci_name(annotations: &BTreeMap<String, String>, stem: &str) -> Result<String, ArchiveError> {
    if let Some(name) = annotations.get("io.containerd.image.name") {
        return Ok(ImageName::parse(name)?.canonical());
    }
    let name = match annotations.get("org.opencontainers.image.ref.name").map(String::as_str) {
        Some(name) if name.contains([':', '/']) => name.to_string(),
        Some(tag) => format!("{stem}:{tag}"),
        None => stem.to_string(),
    };
    Ok(ImageName::parse(&name)?.canonical())
}

#[cfg(test)]
mod tests;
