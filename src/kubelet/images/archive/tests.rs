//! Archives of both forms, and broken ones.

use super::*;

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, data.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn on_disk(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("My-App.tar");
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn oci(tag: &str) -> Vec<u8> {
    let layer = tar_of(&[("x", b"1".to_vec())]);
    let config = br#"{"os":"linux"}"#.to_vec();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": {"digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}]})
    .to_string()
    .into_bytes();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(&manifest), "size": manifest.len(),
         "annotations": {"org.opencontainers.image.ref.name": tag}}]});
    tar_of(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json", index.to_string().into_bytes()),
        (&blob_path(&digest(&manifest)), manifest),
        (&blob_path(&digest(&config)), config),
        (&blob_path(&digest(&layer)), layer),
    ])
}

#[test]
fn docker_archives_are_read_with_packed_layers() {
    let plain = tar_of(&[("x", b"1".to_vec())]);
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["busybox:1", "r.example/b"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let bytes = tar_of(&[
        ("manifest.json", manifest.to_string().into_bytes()),
        ("c.json", b"{}".to_vec()),
        ("a/layer.tar", plain.clone()),
        ("b/layer.tar", zstd),
    ]);
    let (_keep, path) = on_disk(&bytes);
    let bundles = read(&path, path.parent().unwrap()).unwrap();
    assert_eq!(bundles[0].names, ["docker.io/library/busybox:1", "r.example/b:latest"]);
    assert_eq!(bundles[0].layers[0].digest, digest(&plain));
    assert!(bundles[0].layers[1].media_type.ends_with("+zstd"));
    assert_eq!(bundles[0].layers[0].read(0, 1 << 20).unwrap(), plain);
}

#[test]
fn oci_layouts_are_read_and_named() {
    for (tag, want) in [("busybox:2", "docker.io/library/busybox:2"), ("v1", "docker.io/library/my-app:v1")] {
        let (_keep, path) = on_disk(&oci(tag));
        let bundles = read(&path, path.parent().unwrap()).unwrap();
        assert_eq!((bundles.len(), bundles[0].names.as_slice()), (1, [want.to_string()].as_slice()));
    }
}

#[test]
fn broken_archives_say_why() {
    let (_keep, path) =
        on_disk(b"this is not a tar file at all, but it is long enough to have a header if it were one");
    assert!(read(&path, path.parent().unwrap()).is_err());
    let (_keep, path) = on_disk(&tar_of(&[("x", b"1".to_vec())]));
    assert!(matches!(read(&path, path.parent().unwrap()), Err(ArchiveError::NoIndex)));
    let nameless = serde_json::json!([{"Config": "c.json", "RepoTags": null, "Layers": []}]);
    let files = [("manifest.json", nameless.to_string().into_bytes()), ("c.json", b"{}".to_vec())];
    let (_keep, path) = on_disk(&tar_of(&files));
    assert!(read(&path, path.parent().unwrap()).unwrap_err().to_string().contains("has no name"));
    let whole = oci("a:b");
    let (_keep, path) = on_disk(&whole[..whole.len() - 4096]);
    assert!(read(&path, path.parent().unwrap()).is_err());
}

#[test]
fn archives_that_are_packed_as_a_whole_are_read() {
    let bytes = oci("2");
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, &bytes).unwrap();
    for packed in [packer.finish().unwrap(), zstd::encode_all(bytes.as_slice(), 1).unwrap()] {
        // What it is called says nothing about how it is packed.
        let (keep, path) = on_disk(&packed);
        let bundles = read(&path, keep.path()).unwrap();
        assert_eq!(bundles[0].names, ["docker.io/library/my-app:2"]);
        assert_eq!(bundles[0].layers[0].read(0, 1).unwrap(), b"x");
        assert_eq!(std::fs::read_dir(keep.path()).unwrap().count(), 1, "nothing is left beside it");
        std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
        assert!(read(&path, keep.path()).is_err(), "it is cut short");
    }
}

#[test]
fn archives_are_known_by_their_names() {
    for (name, wanted) in
        [("a.tar", Some("a")), ("a.b.tar.gz", Some("a.b")), ("a.tgz", Some("a")), ("a.tar.zst", Some("a"))]
    {
        assert_eq!(stem(name), wanted, "{name}");
    }
    for name in ["a.zip", "a.gz", ".tar", "tar", "a.tar.part"] {
        assert_eq!(stem(name), None, "{name}");
    }
}
