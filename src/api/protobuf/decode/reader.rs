//! The wire: tags, varints, length-delimited bytes. Never reads past its end.

use super::super::ProtobufError;
use super::super::wire::{FIXED32, FIXED64, LENGTH, VARINT};
use super::Decoded;

pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Decoded<u8> {
        let (first, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn varint(&mut self) -> Decoded<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed("integer overflow".to_string()))
    }

    /// Field number and wire type; none at the end.
    pub(super) fn tag(&mut self) -> Decoded<Option<(u16, u8)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(ProtobufError::Malformed(format!("illegal tag {number}")));
        }
        // No message here has numbers this large: they are skipped like all that is unknown.
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        Ok(Some((number, (tag & 7) as u8)))
    }

    pub(super) fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        if count > self.rest.len() {
            return Err(ProtobufError::Truncated);
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| ProtobufError::Truncated)?)
    }

    pub(super) fn text(&mut self) -> Decoded<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes)
            .map_err(|_| ProtobufError::Malformed("field contains invalid UTF-8".to_string()))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| ProtobufError::Truncated)
    }

    pub(super) fn skip(&mut self, wire: u8) -> Decoded<()> {
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LENGTH => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            _ => Err(ProtobufError::Malformed(format!("illegal wireType {wire}"))),
        }
    }
}
