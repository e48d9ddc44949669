//! SPDY/3.1 as Kubernetes' streaming speaks it: frames, header blocks, and connections of many streams.
//!
//! What is different from the draft is different because the other end is always Go's `spdystream`: it
//! neither sends window updates nor heeds them, so what bounds a stream is the connection (a reader that
//! stands still stops the writer by TCP). Nothing here buffers more than one frame of control (64 KiB) and
//! what one read brought; data is handed on in the pieces in which it arrives. Absent: pushed streams,
//! credentials, priorities, flow control.

mod connection;
mod dictionary;
mod frame;
mod headers;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Driver, StreamError, StreamReader, StreamWriter};
pub use frame::{
    Decoder, Encoder, Frame, FrameReader, SpdyError, put_data, put_go_away, put_ping, put_reset,
};
pub use headers::Headers;
