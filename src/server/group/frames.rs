//! Frames on a connection between servers: a length, a number, a kind and the content. Answers carry the
//! number of what they answer and may come in any order.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// A message of the group's engine.
pub(super) const ENGINE: u8 = 0;
/// A request as JSON.
pub(super) const REQUEST: u8 = 1;
/// What a connection begins with, and the answer to it.
pub(super) const HELLO: u8 = 2;

/// Length of number and kind.
const HEAD: usize = 9;
/// So much memory is taken for a frame before its bytes come: a stranger's word for its length is free.
const AHEAD: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) kind: u8,
    pub(super) content: Bytes,
}

impl Frame {
    fn write_to(&self, out: &mut Vec<u8>) {
        // A frame is far below 4 GiB: its reader refuses more than `longest`.
        let length = u32::try_from(self.content.len() + HEAD).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.content);
    }
}

/// Reads a frame; `None` at the end of the stream.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), longest: usize) -> io::Result<Option<Frame>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map(drop)?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if !(HEAD..=longest.saturating_add(HEAD)).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame has {length} bytes")));
    }
    let mut bytes = Vec::with_capacity(length.min(AHEAD));
    if stream.take(length as u64).read_to_end(&mut bytes).await? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[..8]);
    let kind = bytes[8];
    Ok(Some(Frame { number: u64::from_le_bytes(number), kind, content: Bytes::from(bytes).slice(HEAD..) }))
}

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut out = Vec::with_capacity(frame.content.len() + HEAD + 4);
    frame.write_to(&mut out);
    stream.write_all(&out).await?;
    stream.flush().await
}

/// So many bytes go in one piece if they are there.
const GATHERED: usize = 64 << 10;

/// Writes what comes until nobody sends any more; what waits goes together.
pub(super) async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    frames: &mut mpsc::UnboundedReceiver<Frame>,
) -> io::Result<()> {
    let mut out = Vec::new();
    while let Some(frame) = frames.recv().await {
        out.clear();
        frame.write_to(&mut out);
        while out.len() < GATHERED
            && let Ok(more) = frames.try_recv()
        {
            more.write_to(&mut out);
        }
        stream.write_all(&out).await?;
        stream.flush().await?;
        out.shrink_to(GATHERED);
    }
    Ok(())
}
