//! An image made on the spot from the machine's static busybox, as `docker save` would write it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::run;

/// The image's name as pods write it.
pub const BUSYBOX: &str = "busybox:test";

fn header(path_kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(path_kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The one layer: busybox, a link for each of its applets, and the directories that programs expect.
fn layer() -> io::Result<Vec<u8>> {
    let program = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox"))?;
    let mut archive = tar::Builder::new(Vec::new());
    for folder in ["bin/", "etc/", "tmp/", "root/", "www/"] {
        let mode = if folder == "tmp/" { 0o1777 } else { 0o755 };
        archive.append_data(&mut header(tar::EntryType::Directory, 0, mode), folder, io::empty())?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    let page = "hello from busybox\n";
    for (path, text) in [("etc/passwd", passwd), ("www/index.html", page)] {
        archive.append_data(
            &mut header(tar::EntryType::Regular, text.len() as u64, 0o644),
            path,
            text.as_bytes(),
        )?;
    }
    archive.append_data(
        &mut header(tar::EntryType::Regular, program.len() as u64, 0o755),
        "bin/busybox",
        program.as_slice(),
    )?;
    let applets = run(Command::new("busybox").arg("--list"), "").ok();
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        archive.append_link(
            &mut header(tar::EntryType::Symlink, 0, 0o777),
            format!("bin/{applet}"),
            "busybox",
        )?;
    }
    archive.into_inner()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The image's only layer and its configuration.
pub(crate) fn parts() -> io::Result<(Vec<u8>, String)> {
    let layer = layer()?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/bin"],
            "Cmd": ["/bin/httpd", "-f", "-p", "80", "-h", "/www"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] },
        "history": [{ "created": "2024-01-01T00:00:00Z", "created_by": "test" }],
    });
    Ok((layer, config.to_string()))
}

/// Writes the image as a `docker save` archive; its default command serves `/www` on port 80.
pub fn write_busybox_image(path: &Path) -> io::Result<()> {
    let (layer, config) = parts()?;
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let layer_name = format!("{}/layer.tar", hex(&layer));
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [BUSYBOX], "Layers": [layer_name] }]).to_string();
    // Appears whole: the node imports what is complete.
    let fresh = path.with_extension("part");
    let mut archive = tar::Builder::new(File::create(&fresh)?);
    for (name, bytes) in [
        (layer_name.as_str(), layer.as_slice()),
        (&config_name, config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        archive.append_data(&mut header(tar::EntryType::Regular, bytes.len() as u64, 0o644), name, bytes)?;
    }
    archive.into_inner()?.flush()?;
    fs::rename(fresh, path)
}
