//! Archives between a thread that reads or writes files and a session that carries the pieces.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tar::{Builder, EntryType, Header};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use crate::env::tell;

/// The pieces of an archive as a session's input.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    pub(super) fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Pieces { receiver, piece: Bytes::new() }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.piece.is_empty() {
            let Some(piece) = ready!(self.receiver.poll_recv(context)) else { return Poll::Ready(Ok(())) };
            self.piece = piece;
        }
        let length = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece[..length]);
        self.piece.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Where a thread writes an archive to.
pub(super) struct Sender(pub(super) mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a thread reads an archive from.
struct Receiver {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            self.piece = piece;
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece[..length]);
        self.piece.advance(length);
        Ok(length)
    }
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or("/")
}

/// What comes before the last part; empty for a name alone.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => "",
    }
}

/// Writes a file, a link or a directory with all that is in it as `name`.
pub(super) fn pack(source: &Path, name: &str, sender: Sender) -> io::Result<()> {
    let mut builder = Builder::new(io::BufWriter::with_capacity(64 * 1024, sender));
    builder.follow_symlinks(false);
    add(&mut builder, source, Path::new(name)).map_err(|error| {
        let about = format!("{}: {error}", source.display());
        if error.kind() == io::ErrorKind::BrokenPipe { error } else { io::Error::new(error.kind(), about) }
    })?;
    builder.into_inner()?.flush()
}

fn add<W: Write>(builder: &mut Builder<W>, source: &Path, name: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    if !metadata.is_dir() {
        return builder.append_path_with_name(source, name);
    }
    let mut entries = fs::read_dir(source)?.collect::<io::Result<Vec<_>>>()?;
    if entries.is_empty() {
        return builder.append_dir(name, source);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        add(builder, &entry.path(), &name.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes the files of an archive below `target`, or to it if the archive is one file. What is not there is
/// made; links are passed over, and so is what would lie elsewhere.
pub(super) fn unpack(
    pieces: mpsc::Receiver<Bytes>,
    prefix: &str,
    target: &Path,
    hint: &str,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(Receiver { pieces, piece: Bytes::new() });
    let mut has_warned = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(rest) = name.strip_prefix(prefix) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "tar contents corrupted"));
        };
        let Some(path) = below(target, rest) else {
            tell(&format!("warning: file {rest:?} is outside target destination, skipping"));
            continue;
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path)?,
            EntryType::Symlink | EntryType::Link => {
                let link = link_name(entry.header());
                let more = if has_warned { String::new() } else { format!(" (consider using \"{hint}\")") };
                has_warned = true;
                tell(&format!(
                    "warning: skipping symlink: {:?} -> {link:?}{more}",
                    path.display().to_string()
                ));
            }
            _ => {
                let mut file = File::create(&path)?;
                io::copy(&mut entry, &mut file)?;
            }
        }
    }
    Ok(())
}

fn link_name(header: &Header) -> String {
    header.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default()
}

/// The place of an entry; none if it would leave the destination.
fn below(target: &Path, rest: &str) -> Option<PathBuf> {
    let mut path = target.to_path_buf();
    for part in Path::new(rest.trim_start_matches('/')).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}
