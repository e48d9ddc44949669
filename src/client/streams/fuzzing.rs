//! A way in for the fuzz target: what a runtime or a client could send as SPDY. Kept here so that what the
//! target has found is tried by ordinary tests, too.

use super::spdy::{Decoder, Frame};

/// Any bytes, in any pieces, give frames or an error: nothing panics, nothing is made of nothing, and the
/// pieces in which bytes arrive change nothing.
///
/// Input: one byte that says how large the pieces are, then what arrives.
///
/// # Panics
///
/// If that does not hold.
pub fn spdy(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    let whole = frames(&mut std::iter::once(bytes));
    let pieces = frames(&mut bytes.chunks(usize::from(*size) + 1));
    assert_eq!(whole, pieces, "the pieces in which it arrives change what it says");
}

/// All frames, the data of each stream joined as far as nothing comes between.
fn frames(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::default();
    let mut all: Vec<Frame> = Vec::new();
    let (mut data, mut arrived) = (0, 0);
    for piece in pieces {
        arrived += piece.len();
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.decode() {
                Ok(Some(Frame::Data { stream, fin, bytes })) => {
                    data += bytes.len();
                    assert!(data <= arrived, "data out of nothing");
                    join(&mut all, stream, fin, &bytes);
                }
                Ok(Some(frame)) => all.push(frame),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    (all, false)
}

fn join(all: &mut Vec<Frame>, stream: u32, fin: bool, bytes: &[u8]) {
    if let Some(Frame::Data { stream: last, fin: ended, bytes: before }) = all.last_mut()
        && *last == stream
        && !*ended
    {
        *before = [before, bytes].concat().into();
        *ended = fin;
        return;
    }
    all.push(Frame::Data { stream, fin, bytes: bytes.to_vec().into() });
}
