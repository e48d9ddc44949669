//! A connection of many streams, seen from the end that opens them.
//!
//! [`Connection::new`] gives a handle and a driver. The driver is the connection's one task: it alone touches
//! the socket, so giving up on a stream in the middle of a write never leaves half a frame on the wire.
//! Everything between the two is bounded: a stream that is not read holds a few pieces and then stops the
//! connection, as it does with upstream's.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::frame::{
    Encoder, Frame, FrameReader, LARGEST_DATA, SpdyError, put_data, put_go_away, put_ping, put_reset,
};

/// Pieces of data that wait for the reader of a stream.
const UNREAD: usize = 16;
/// Frames that wait to be written.
const UNWRITTEN: usize = 16;
/// What is gathered before it is written.
const GATHERED: usize = 64 * 1024;
/// `CANCEL`: whoever opened the stream wants nothing more of it.
const CANCEL: u32 = 5;

/// Why a stream gives nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("the stream was reset by the other end")]
    Reset,
    #[error("the connection was lost")]
    Lost,
}

/// What a stream's reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Received {
    Data(Bytes),
    End,
    Reset,
}

type Streams = Arc<Mutex<HashMap<u32, mpsc::Sender<Received>>>>;

enum Order {
    Open { headers: Vec<(&'static str, String)>, reader: mpsc::Sender<Received>, id: oneshot::Sender<u32> },
    Data { stream: u32, fin: bool, bytes: Bytes },
    Reset(u32),
    Ping(u32),
}

/// Opens streams. Clones share the connection, which closes with the last of them and of its streams.
#[derive(Clone)]
pub struct Connection {
    orders: mpsc::Sender<Order>,
    streams: Streams,
}

/// The connection's task.
pub struct Driver<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    orders: mpsc::Receiver<Order>,
    pings: mpsc::Sender<Order>,
    echoes: mpsc::Receiver<Order>,
    streams: Streams,
}

impl<S: AsyncRead + AsyncWrite> Driver<S> {
    /// Carries bytes until either end closes the connection.
    pub async fn run(self) -> Result<(), SpdyError> {
        let Driver { mut reader, writer, orders, pings, echoes, streams } = self;
        let _cleared = Cleared(streams.clone());
        let reading = async {
            while let Some(frame) = reader.next().await? {
                deliver(frame, &streams, &pings).await;
            }
            Ok(())
        };
        tokio::pin!(reading);
        tokio::select! {
            done = &mut reading => done,
            done = write(writer, orders, echoes, &streams) => match done {
                Ok(()) => Ok(()),
                // The other end takes nothing more; what it said before that still counts.
                Err(_) => reading.await,
            },
        }
    }
}

/// Readers of streams learn that the connection is gone, however its task ends.
struct Cleared(Streams);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

/// Hands a frame to its stream.
async fn deliver(frame: Frame, streams: &Streams, pings: &mpsc::Sender<Order>) {
    let (stream, piece, is_last) = match frame {
        Frame::Data { stream, fin, bytes } => (stream, Some(Received::Data(bytes)), fin),
        Frame::SynReply { stream, fin } | Frame::Headers { stream, fin } => (stream, None, fin),
        Frame::Reset { stream, .. } => {
            let reader = streams.lock().remove(&stream);
            if let Some(reader) = reader {
                let _ = reader.send(Received::Reset).await;
            }
            return;
        }
        Frame::Ping(number) => {
            // One that finds no room is lost; whoever pings that fast has others to wait for.
            let _ = pings.try_send(Order::Ping(number));
            return;
        }
        // Nobody may open streams towards us. Who goes away still ends what is open, and then the connection.
        Frame::SynStream { .. } | Frame::GoAway | Frame::Other => return,
    };
    let reader = streams.lock().get(&stream).cloned();
    let Some(reader) = reader else { return };
    if let Some(piece) = piece.filter(|piece| !matches!(piece, Received::Data(bytes) if bytes.is_empty())) {
        let _ = reader.send(piece).await;
    }
    if is_last {
        streams.lock().remove(&stream);
        let _ = reader.send(Received::End).await;
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut orders: mpsc::Receiver<Order>,
    mut echoes: mpsc::Receiver<Order>,
    streams: &Streams,
) -> Result<(), SpdyError> {
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    let mut next = 1;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(echo) = echoes.recv() => Some(echo),
        };
        let Some(order) = order else { break };
        put(order, &mut out, &mut encoder, &mut next, streams)?;
        while out.len() < GATHERED
            && let Ok(order) = orders.try_recv()
        {
            put(order, &mut out, &mut encoder, &mut next, streams)?;
        }
        writer.write_all_buf(&mut out).await?;
        writer.flush().await?;
    }
    put_go_away(&mut out);
    writer.write_all_buf(&mut out).await?;
    writer.shutdown().await?;
    Ok(())
}

fn put(
    order: Order,
    out: &mut BytesMut,
    encoder: &mut Encoder,
    next: &mut u32,
    streams: &Streams,
) -> Result<(), SpdyError> {
    match order {
        Order::Open { headers, reader, id } => {
            let stream = *next;
            // Streams of the end that connected have odd numbers.
            *next = next.checked_add(2).ok_or(SpdyError::Malformed("the connection has no streams left"))?;
            let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            streams.lock().insert(stream, reader);
            encoder.put_syn_stream(out, stream, &pairs)?;
            if id.send(stream).is_err() {
                streams.lock().remove(&stream);
                put_reset(out, stream, CANCEL);
            }
        }
        Order::Data { stream, fin, bytes } => put_data(out, stream, fin, &bytes),
        Order::Reset(stream) => put_reset(out, stream, CANCEL),
        Order::Ping(number) => put_ping(out, number),
    }
    Ok(())
}

impl Connection {
    /// The handle of a connection, and its task.
    pub fn new<S: AsyncRead + AsyncWrite>(io: S) -> (Connection, Driver<S>) {
        let (reader, writer) = tokio::io::split(io);
        let (sender, orders) = mpsc::channel(UNWRITTEN);
        let (pings, echoes) = mpsc::channel(UNWRITTEN);
        let streams = Streams::default();
        let driver = Driver {
            reader: FrameReader::new(reader),
            writer,
            orders,
            pings,
            echoes,
            streams: streams.clone(),
        };
        (Connection { orders: sender, streams }, driver)
    }

    /// Opens a stream. The other end sees streams in the order in which they were opened.
    pub async fn open(
        &self,
        headers: Vec<(&'static str, String)>,
    ) -> Result<(StreamReader, StreamWriter), StreamError> {
        let (reader, pieces) = mpsc::channel(UNREAD);
        let (id, stream) = oneshot::channel();
        let order = Order::Open { headers, reader, id };
        self.orders.send(order).await.map_err(|_| StreamError::Lost)?;
        let stream = stream.await.map_err(|_| StreamError::Lost)?;
        let reader = StreamReader { stream, pieces, streams: self.streams.clone() };
        Ok((reader, StreamWriter { stream, orders: self.orders.clone() }))
    }

    /// Returns once the connection is gone.
    pub async fn closed(&self) {
        self.orders.closed().await;
    }

    /// How many streams are open, for tests of what leaks.
    #[cfg(test)]
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.lock().len()
    }
}

/// What the other end sends on a stream. What comes after it is dropped is thrown away.
pub struct StreamReader {
    stream: u32,
    pieces: mpsc::Receiver<Received>,
    streams: Streams,
}

impl StreamReader {
    /// The next piece; none at the end. Nothing is lost if this is given up.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        match self.pieces.recv().await {
            Some(Received::Data(bytes)) => Ok(Some(bytes)),
            Some(Received::End) => Ok(None),
            Some(Received::Reset) => Err(StreamError::Reset),
            None => Err(StreamError::Lost),
        }
    }

    /// All that comes, but no more than `most` of it. A reset is an end, too: runtimes write their last word
    /// and then reset what is left. A connection that is lost is an error only if nothing had been said.
    pub async fn read_to_end(&mut self, most: usize) -> Result<Vec<u8>, StreamError> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(piece)) => {
                    let room = most.saturating_sub(all.len()).min(piece.len());
                    all.extend_from_slice(&piece[..room]);
                }
                Err(StreamError::Lost) if all.is_empty() => return Err(StreamError::Lost),
                Ok(None) | Err(_) => return Ok(all),
            }
        }
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.stream);
    }
}

/// What goes to the other end of a stream.
pub struct StreamWriter {
    stream: u32,
    orders: mpsc::Sender<Order>,
}

impl StreamWriter {
    /// Writes all of it, in frames; waits while the connection takes no more.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(LARGEST_DATA));
            self.order(Order::Data { stream: self.stream, fin: false, bytes: piece }).await?;
        }
        Ok(())
    }

    /// Nothing more comes from this end.
    pub async fn close(&self) -> Result<(), StreamError> {
        self.order(Order::Data { stream: self.stream, fin: true, bytes: Bytes::new() }).await
    }

    /// This end wants neither to read nor to write any more.
    pub async fn reset(&self) -> Result<(), StreamError> {
        self.order(Order::Reset(self.stream)).await
    }

    async fn order(&self, order: Order) -> Result<(), StreamError> {
        self.orders.send(order).await.map_err(|_| StreamError::Lost)
    }
}
