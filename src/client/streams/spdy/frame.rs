//! Frames: from bytes and to bytes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{Headers, Packer, Unpacker};

/// The largest frame of control that is taken. Those that matter have less than a hundred bytes.
const LARGEST_CONTROL: usize = 64 * 1024;
/// The most that one frame of data carries when it is ours.
pub(super) const LARGEST_DATA: usize = 32 * 1024;
/// What is read at once.
const READ: usize = 64 * 1024;
const HEADER: usize = 8;

const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("a frame of control or its headers exceed 64 KiB")]
    TooLarge,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A frame, or a piece of one that carries data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
    },
    /// `fin` is told with the last piece.
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway,
    /// Further headers of a stream.
    Headers {
        stream: u32,
        fin: bool,
    },
    /// Settings, window updates and whatever else changes nothing here.
    Other,
}

/// What is left of a frame of data.
struct Rest {
    stream: u32,
    fin: bool,
    length: usize,
}

/// Turns what arrives into frames.
pub struct Decoder {
    buffer: BytesMut,
    rest: Option<Rest>,
    unpacker: Unpacker,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { buffer: BytesMut::new(), rest: None, unpacker: Unpacker::new() }
    }
}

fn length_of(header: &[u8]) -> usize {
    usize::from(header[5]) << 16 | usize::from(header[6]) << 8 | usize::from(header[7])
}

impl Decoder {
    /// Where what arrives is to be appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame; none if more has to arrive first.
    pub fn decode(&mut self) -> Result<Option<Frame>, SpdyError> {
        if let Some(rest) = self.rest.take() {
            return Ok(self.data(rest));
        }
        if self.buffer.len() < HEADER {
            return Ok(None);
        }
        let length = length_of(&self.buffer);
        if self.buffer[0] & 0x80 == 0 {
            let stream = self.buffer.get_u32();
            let fin = self.buffer[0] & FIN != 0;
            self.buffer.advance(4);
            return Ok(self.data(Rest { stream, fin, length }));
        }
        if length > LARGEST_CONTROL {
            return Err(SpdyError::TooLarge);
        }
        if self.buffer.len() < HEADER + length {
            self.buffer.reserve(HEADER + length - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEADER + length).freeze();
        if frame.get_u16() != VERSION {
            return Err(SpdyError::Malformed("the other end does not speak SPDY/3"));
        }
        let kind = frame.get_u16();
        let fin = frame.get_u8() & FIN != 0;
        frame.advance(3);
        self.control(kind, fin, frame).map(Some)
    }

    /// What there is of a frame's data; none if that is nothing yet.
    fn data(&mut self, rest: Rest) -> Option<Frame> {
        let length = rest.length.min(self.buffer.len());
        let left = rest.length - length;
        if length == 0 && left > 0 {
            self.rest = Some(rest);
            return None;
        }
        let (stream, fin) = (rest.stream, rest.fin && left == 0);
        if left > 0 {
            self.rest = Some(Rest { length: left, ..rest });
        }
        Some(Frame::Data { stream, fin, bytes: self.buffer.split_to(length).freeze() })
    }

    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
        let mut number =
            || body.try_get_u32().map_err(|_| SpdyError::Malformed("a frame of control is too short"));
        match kind {
            SYN_STREAM => {
                let stream = number()?;
                number()?;
                body.try_get_u16().map_err(|_| SpdyError::Malformed("a frame of control is too short"))?;
                Ok(Frame::SynStream { stream, fin, headers: self.unpacker.unpack(&body)? })
            }
            SYN_REPLY => {
                let stream = number()?;
                // The zlib stream goes on through every block, so none may be passed over.
                self.unpacker.unpack(&body)?;
                Ok(Frame::SynReply { stream, fin })
            }
            HEADERS => {
                let stream = number()?;
                self.unpacker.unpack(&body)?;
                Ok(Frame::Headers { stream, fin })
            }
            RST_STREAM => Ok(Frame::Reset { stream: number()?, status: number()? }),
            PING => Ok(Frame::Ping(number()?)),
            GO_AWAY => Ok(Frame::GoAway),
            _ => Ok(Frame::Other),
        }
    }
}

/// Reads frames from a connection.
pub struct FrameReader<R> {
    io: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R) -> Self {
        FrameReader { io, decoder: Decoder::default() }
    }

    /// The next frame; none at the end. Nothing is lost if this is given up.
    pub async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(frame) = self.decoder.decode()? {
                return Ok(Some(frame));
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(READ);
            if self.io.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Writes frames with headers, whose compression goes on from one to the next.
pub struct Encoder(Packer);

impl Default for Encoder {
    fn default() -> Self {
        Encoder(Packer::new())
    }
}

impl Encoder {
    pub(crate) fn put_syn_stream(
        &mut self,
        out: &mut BytesMut,
        stream: u32,
        headers: &[(&str, &str)],
    ) -> Result<(), SpdyError> {
        let block = self.0.pack(headers)?;
        control(out, SYN_STREAM, 0, 10 + block.len());
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        Ok(())
    }

    pub fn put_syn_reply(&mut self, out: &mut BytesMut, stream: u32) -> Result<(), SpdyError> {
        let block = self.0.pack(&[])?;
        control(out, SYN_REPLY, 0, 4 + block.len());
        out.put_u32(stream);
        out.put_slice(&block);
        Ok(())
    }
}

/// The 24 bits that a length has.
fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    debug_assert!(length < 1 << 24, "a frame's length has 24 bits");
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(VERSION);
    out.put_u16(kind);
    put_length(out, flags, length);
}

/// Data in as many frames as it takes; `fin` closes this end of the stream.
pub fn put_data(out: &mut BytesMut, stream: u32, fin: bool, bytes: &[u8]) {
    let mut pieces = bytes.chunks(LARGEST_DATA).peekable();
    if pieces.peek().is_none() {
        out.put_u32(stream);
        put_length(out, if fin { FIN } else { 0 }, 0);
    }
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        out.put_u32(stream);
        put_length(out, if fin && is_last { FIN } else { 0 }, piece.len());
        out.put_slice(piece);
    }
}

pub fn put_reset(out: &mut BytesMut, stream: u32, status: u32) {
    control(out, RST_STREAM, 0, 8);
    out.put_u32(stream);
    out.put_u32(status);
}

pub fn put_ping(out: &mut BytesMut, number: u32) {
    control(out, PING, 0, 4);
    out.put_u32(number);
}

pub fn put_go_away(out: &mut BytesMut) {
    control(out, GO_AWAY, 0, 8);
    out.put_u32(0);
    out.put_u32(0);
}
