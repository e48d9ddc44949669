//! Follows the frames of an HTTP/2 connection and repairs authorities that are URLs. Pure.
//!
//! etcd's own client up to 3.5 dials one endpoint by its URL (`endpoint status`, `snapshot save`) and then
//! sends `:authority: http://127.0.0.1:2379`. etcd takes it; our HTTP/2 library resets the stream, and
//! nothing behind it can help. So the three characters `://` are changed in passing to ones that an authority
//! may have. Their replacements have Huffman codes of the same length: no length changes anywhere, and no
//! header has to be decoded.

use bytes::{Buf, BytesMut};

pub(super) const PREFACE: usize = 24;
/// How the preface begins.
pub(super) const PREFIX: &[u8] = b"PRI ";
const FRAME_HEADER: usize = 9;
/// Larger header blocks are not waited for; they are refused further on.
const LARGEST_BLOCK: usize = 64 * 1024;

/// Follows the frames of an HTTP/2 connection.
pub(super) struct Frames {
    /// Bytes that pass unseen: the preface, payloads other than headers.
    skip: usize,
    /// Bytes at the start of the buffer that may be read.
    pub(super) passed: usize,
    /// Whether it is HTTP/2 at all; not known before the first bytes.
    known: bool,
}

impl Frames {
    pub(super) fn new() -> Self {
        Frames { skip: PREFACE, passed: 0, known: false }
    }

    /// Takes up to `most` of the bytes that may be read.
    pub(super) fn pass(&mut self, most: usize) -> usize {
        let count = self.passed.min(most);
        self.passed -= count;
        count
    }

    pub(super) fn advance(&mut self, buffer: &mut [u8]) {
        if !self.known {
            let sure = buffer.len().min(PREFIX.len());
            if buffer[..sure] != PREFIX[..sure] {
                // HTTP/1.1: everything passes.
                self.skip = usize::MAX;
            } else if sure < PREFIX.len() {
                return;
            }
            self.known = true;
        }
        loop {
            let rest = &mut buffer[self.passed..];
            if self.skip > 0 {
                let passing = self.skip.min(rest.len());
                if passing == 0 {
                    return;
                }
                self.skip -= passing;
                self.passed += passing;
                continue;
            }
            let Some(header) = rest.get(..FRAME_HEADER) else { return };
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let headers = matches!(header[3], 1 | 9);
            if !headers || length > LARGEST_BLOCK {
                self.passed += FRAME_HEADER;
                self.skip = length;
                continue;
            }
            let Some(block) = rest.get_mut(FRAME_HEADER..FRAME_HEADER + length) else { return };
            repair(block);
            self.passed += FRAME_HEADER + length;
        }
    }
}

/// A literal `:authority` to be indexed, as every client sends it.
const AUTHORITY: u8 = 0x41;

/// Makes an authority that begins with `http://` or `https://` begin with `httpB--` or `httpsB--`.
fn repair(block: &mut [u8]) {
    for start in 0..block.len().saturating_sub(8) {
        if block[start] != AUTHORITY {
            continue;
        }
        let huffman = block[start + 1] & 0x80 != 0;
        let value = &mut block[start + 2..];
        if huffman {
            repair_huffman(value);
        } else if let Some(colon) = [4, 5].into_iter().find(|at| value.get(*at..at + 3) == Some(b"://"))
            && value.starts_with(b"http")
        {
            value[colon..colon + 3].copy_from_slice(b"B--");
        }
    }
}

/// The codes are 7 bits for `:` and `B`, 6 bits for `/` and `-`.
fn repair_huffman(value: &mut [u8]) {
    if let [0x9d, 0x29, 0xae, c, d, e, ..] = value {
        if (*c, *d, *e & 0x80) == (0xe3, 0x0c, 0) {
            (*c, *d) = (0xea, 0xcb);
        }
    } else if let [0x9d, 0x29, 0xad, 0x17, d, e, ..] = value
        && (*d, *e & 0xfc) == (0x18, 0x60)
    {
        *d = 0x56;
        *e = *e & 0x03 | 0x58;
    }
}

/// For the fuzz target: any bytes, arriving in pieces, pass in their order, as many as came.
pub(crate) fn fuzz_connection(pieces: usize, bytes: &[u8]) {
    let mut frames = Frames::new();
    let (mut buffer, mut through) = (BytesMut::new(), 0);
    for piece in bytes.chunks(pieces.max(1)) {
        buffer.extend_from_slice(piece);
        frames.advance(&mut buffer);
        assert!(frames.passed <= buffer.len(), "only what has come can pass");
        through += frames.passed;
        buffer.advance(frames.passed);
        frames.passed = 0;
        assert!(buffer.len() <= LARGEST_BLOCK + FRAME_HEADER + piece.len(), "what is held back is bounded");
    }
    assert_eq!(through + buffer.len(), bytes.len());
}
