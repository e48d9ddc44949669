//! Header blocks: pairs with lengths, compressed with one zlib stream per direction of a connection.

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::DICTIONARY;
use super::frame::SpdyError;

/// Names and values. Names are in lower case, as they are on the wire.
pub type Headers = Vec<(String, String)>;

/// The most that a block may be once it is unpacked. Those of streams have a hundred bytes.
pub(super) const LARGEST_BLOCK: usize = 64 * 1024;

pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Fails only in the middle of a stream. Without the dictionary the other end reads the blocks all the
        // same.
        let _ = compress.set_dictionary(DICTIONARY);
        Packer(compress)
    }

    pub(super) fn pack(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).map_err(|_| SpdyError::TooLarge)?);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(text.len()).map_err(|_| SpdyError::TooLarge)?);
            plain.put_slice(text.as_bytes());
        }
        if plain.len() > LARGEST_BLOCK {
            return Err(SpdyError::TooLarge);
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let mut taken = 0;
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(&plain[taken..], &mut packed, FlushCompress::Sync)
                .map_err(|_| SpdyError::Malformed("headers cannot be packed"))?;
            taken += usize::try_from(self.0.total_in() - before).unwrap_or(0);
            // Room that is left over says that everything was flushed.
            if taken == plain.len() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(256);
        }
    }
}

pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Self {
        Unpacker(Decompress::new(true))
    }

    pub(super) fn unpack(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        const BROKEN: SpdyError = SpdyError::Malformed("a header block is no zlib stream");
        let mut plain = Vec::with_capacity(1024);
        let mut taken = 0;
        loop {
            let (input, output) = (self.0.total_in(), plain.len());
            let outcome = self.0.decompress_vec(&block[taken..], &mut plain, FlushDecompress::Sync);
            taken += usize::try_from(self.0.total_in() - input).unwrap_or(0);
            match outcome {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| BROKEN)?;
                    continue;
                }
                Err(_) => return Err(BROKEN),
            }
            let is_full = plain.len() == plain.capacity();
            if taken >= block.len() && !is_full {
                return Ok(plain);
            }
            if plain.len() >= LARGEST_BLOCK {
                return Err(SpdyError::TooLarge);
            }
            if is_full {
                plain.reserve(4096);
            } else if plain.len() == output && self.0.total_in() == input {
                return Err(BROKEN);
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, SpdyError> {
    const CUT: SpdyError = SpdyError::Malformed("a header block is cut off");
    let count = plain.try_get_u32().map_err(|_| CUT)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain).ok_or(CUT)?;
        let value = text(&mut plain).ok_or(CUT)?;
        headers.push((name, value));
    }
    Ok(headers)
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
    let bytes = plain.get(..length)?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    plain.advance(length);
    Some(text)
}
