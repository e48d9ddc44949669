//! Compression of large answers for clients that accept it.
//!
//! As upstream has it: objects and lists above 128 KiB, at the level that costs least. Answers that are made
//! piece by piece stay so: what is held back is what decides whether an answer is large, and each piece goes
//! on as soon as it is compressed. Never compressed: watches, logs and what others answer.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;

/// Answers up to this size are sent as they are.
const THRESHOLD: usize = 128 * 1024;
const LEVEL: u32 = 1;

/// Whether a client takes gzip. Upstream's clients name it without a weight.
fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim() == "gzip")
}

/// Whether an answer may be large and its client wants it compressed then.
pub(super) fn is_wanted(request: &HeaderMap, response: &Response<Body>) -> bool {
    let size = http_body::Body::size_hint(response.body());
    let is_small = size.upper().is_some_and(|most| most <= THRESHOLD as u64);
    !is_small && is_accepted(request) && !response.headers().contains_key(CONTENT_ENCODING)
}

/// The answer, compressed if it is large.
pub(super) async fn compressed(response: Response<Body>) -> Response<Body> {
    let (mut parts, mut body) = response.into_parts();
    let (mut start, mut length) = (Vec::new(), 0);
    while length <= THRESHOLD {
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                length += data.len();
                start.push(Ok(data));
            }
            Some(Err(error)) => {
                start.push(Err(error));
                break;
            }
            // It is small after all.
            None => return Response::from_parts(parts, joined(start)),
        }
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let body = Compressed { start: start.into_iter(), body, encoder: Some(encoder) };
    Response::from_parts(parts, Body::new(body))
}

fn joined(pieces: Vec<Result<Bytes, axum::Error>>) -> Body {
    match <[_; 1]>::try_from(pieces) {
        Ok([Ok(only)]) => Body::from(only),
        Ok([Err(error)]) => Body::from_stream(futures::stream::iter([Err::<Bytes, _>(error)])),
        Err(pieces) => Body::from_stream(futures::stream::iter(pieces)),
    }
}

/// A body that is compressed while it passes.
struct Compressed {
    start: std::vec::IntoIter<Result<Bytes, axum::Error>>,
    body: Body,
    /// None once the end has been written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        if let Some(piece) = self.start.next() {
            return Poll::Ready(Some(piece));
        }
        loop {
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(mut encoder) = this.encoder.take() else { return Poll::Ready(None) };
            let piece = match this.poll_piece(cx) {
                Poll::Pending => {
                    this.encoder = Some(encoder);
                    return Poll::Pending;
                }
                Poll::Ready(piece) => piece,
            };
            let written = match piece {
                None => encoder.finish(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(data)) => encoder.write_all(&data).map(|()| {
                    let out = std::mem::take(encoder.get_mut());
                    this.encoder = Some(encoder);
                    out
                }),
            };
            match written {
                // The encoder keeps what it has not seen enough of.
                Ok(out) if out.is_empty() && this.encoder.is_some() => {}
                Ok(out) if out.is_empty() => return Poll::Ready(None),
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out))))),
                Err(error) => return Poll::Ready(Some(Err(axum::Error::new(error)))),
            }
        }
    }
}
