//! Files of a volume that change all at once: they live in a directory with a time for a name, `..data` is a
//! symbolic link to it, and what containers see are links through `..data`. Swapping that one link is the
//! update; readers never see a mix. Layout and names are upstream's AtomicWriter's, which applications watch
//! for.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use crate::files::tree::{self, Access, GroupChange};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    /// Owner, if it must not be root.
    pub(crate) owner: Option<u32>,
}

/// Files by path relative to the volume.
pub(crate) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Brings a volume to these files, which `group` may read. Does nothing if it holds them already.
pub(crate) fn write(volume: &Path, files: &Files, group: Option<u32>, now: Timestamp) -> io::Result<()> {
    for path in files.keys() {
        check(path)?;
    }
    let link = volume.join(DATA);
    let old = std::fs::read_link(&link).ok().map(|target| volume.join(target));
    if old.as_deref().is_some_and(|old| holds(old, files)) {
        return show(volume, files);
    }
    let name = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let directory = volume.join(format!("{name}.{:010}", rand::random::<u32>()));
    std::fs::create_dir(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
    let written = fill(&directory, files).and_then(|()| {
        if let Some(group) = group {
            // Before anybody sees them; what containers see already is not walked again.
            tree::give(&directory, group, Access::Read, GroupChange::Always)?;
            tree::give_directory(volume, group, Access::Read)?;
        }
        let next = volume.join(NEXT);
        let _ = std::fs::remove_file(&next);
        symlink(directory.file_name().unwrap_or_default(), &next)?;
        std::fs::rename(&next, &link)
    });
    if let Err(error) = written {
        let _ = tree::remove(&directory);
        return Err(error);
    }
    show(volume, files)?;
    hide(volume, files)?;
    for stale in stale(volume, &directory)? {
        tree::remove(&stale)?;
    }
    Ok(())
}

fn check(path: &str) -> io::Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") || path.len() > 4096 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path:?}")));
    }
    Ok(())
}

/// Whether a directory has exactly these files.
fn holds(directory: &Path, files: &Files) -> bool {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    if walk(directory, directory, &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let full = directory.join(path);
        let Ok(metadata) = std::fs::metadata(&full) else { return false };
        // An fsGroup may have added bits for the group.
        metadata.mode() & 0o707 == file.mode & 0o707
            && file.owner.is_none_or(|owner| owner == metadata.uid())
            && std::fs::read(&full).is_ok_and(|data| data == file.data)
    })
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(root, &entry.path(), found)?;
        } else {
            found.push(entry.path().strip_prefix(root).map(Path::to_path_buf).unwrap_or_default());
        }
    }
    Ok(())
}

fn fill(directory: &Path, files: &Files) -> io::Result<()> {
    for (path, file) in files {
        let full = directory.join(path);
        if let Some(parent) = full.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&full, &file.data)?;
        // Set apart from creation, so that the umask has no say.
        std::fs::set_permissions(&full, std::fs::Permissions::from_mode(file.mode))?;
        if let Some(owner) = file.owner {
            chown(&full, Some(owner), None)?;
        }
    }
    Ok(())
}

/// First parts of the paths: what the volume shows at its top.
fn tops(files: &Files) -> std::collections::BTreeSet<&str> {
    files.keys().filter_map(|path| path.split('/').next()).collect()
}

fn show(volume: &Path, files: &Files) -> io::Result<()> {
    for top in tops(files) {
        let link = volume.join(top);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), link)?;
        }
    }
    Ok(())
}

/// Removes links to files that are no more.
fn hide(volume: &Path, files: &Files) -> io::Result<()> {
    let wanted = tops(files);
    for entry in std::fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with("..") && !wanted.contains(name) && entry.file_type()?.is_symlink() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn stale(volume: &Path, current: &Path) -> io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(volume)? {
        let entry = entry?;
        let dated = entry.file_name().to_str().is_some_and(|name| name.starts_with(".."));
        if dated && entry.file_type()?.is_dir() && entry.path() != current {
            stale.push(entry.path());
        }
    }
    Ok(stale)
}
