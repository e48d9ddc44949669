//! The calls of the KV service, answered by the task of their connection.
//!
//! The shortest way that gRPC allows: one message in, one message or status out. Deadlines that a client
//! sends along are its own to keep, as it resets a call that takes too long. Calls with anything unusual
//! about them, such as compression, take the long way (see [`super::bridge`]).

use std::future::{Future, poll_fn};
use std::sync::{Arc, LazyLock};
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Request, Status};

use super::front::LARGEST_MESSAGE;
use super::kv::Kv;
use super::page::Page;
use super::pb;
use super::pb::kv_server::Kv as _;
use super::server::ConnectionContext;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// A request has to be complete after this.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Whether the message is compressed, and its length.
pub(super) const PREFIX: usize = 5;

static SUCCESS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let status = HeaderName::from_static("grpc-status");
    HeaderMap::from_iter([(status, HeaderValue::from_static("0"))])
});

#[derive(Clone, Copy)]
pub(super) enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Method {
    /// `None` for what takes the long way.
    pub(super) fn of(request: &http::Request<RecvStream>) -> Option<Self> {
        let method = match request.uri().path().strip_prefix("/etcdserverpb.KV/")? {
            "Range" => Method::Range,
            "Put" => Method::Put,
            "DeleteRange" => Method::DeleteRange,
            "Txn" => Method::Txn,
            _ => return None,
        };
        let headers = request.headers();
        let plain = request.method() == http::Method::POST
            && headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
            && headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity");
        plain.then_some(method)
    }
}

/// Why there is no request to answer.
enum NoRequest {
    /// The client has gone, or taken it back.
    Gone,
    Refused(Status),
}

/// Answers a call. It is no error if the client has gone meanwhile.
pub(super) async fn answer(
    method: Method,
    context: Arc<ConnectionContext>,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let answer = match timeout(BODY_TIMEOUT, receive(&mut body)).await {
        Ok(Ok(message)) => tokio::select! {
            biased;
            answer = call(method, &context, message) => answer,
            // The call ends when the client resets it.
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
        },
        Ok(Err(NoRequest::Refused(status))) => Err(status),
        Ok(Err(NoRequest::Gone)) => return,
        Err(_) => Err(Status::deadline_exceeded("the request did not arrive in time")),
    };
    if let Err(e) = send(answer, &mut respond).await {
        tracing::trace!("an answer on the etcd API: {e}");
    }
}

/// The one message of a request.
async fn receive(body: &mut RecvStream) -> Result<Bytes, NoRequest> {
    let mut first = Bytes::new();
    // As a rule everything is in the first frame, and stays where it is.
    let mut gathered = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|_| NoRequest::Gone)?;
        let _ = body.flow_control().release_capacity(chunk.len());
        length += chunk.len();
        if first.is_empty() {
            first = chunk;
        } else {
            if gathered.is_empty() {
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(&chunk);
        }
        let begin = if gathered.is_empty() { &first[..] } else { &gathered[..] };
        let declared = begin.get(1..PREFIX).map_or(0, |mut bytes| bytes.get_u32() as usize);
        let size = declared.max(length.saturating_sub(PREFIX));
        if size > LARGEST_MESSAGE {
            return Err(NoRequest::Refused(Status::out_of_range(format!(
                "Error, decoded message length too large: found {size} bytes, \
                 the limit is: {LARGEST_MESSAGE} bytes"
            ))));
        }
    }
    let message = if gathered.is_empty() { first } else { gathered.freeze() };
    unframe(message).map_err(NoRequest::Refused)
}

/// Takes the prefix off a message.
fn unframe(mut message: Bytes) -> Result<Bytes, Status> {
    if message.is_empty() {
        return Err(Status::internal("Missing request message."));
    }
    if message.len() < PREFIX {
        return Err(Status::internal("Unexpected EOF decoding stream."));
    }
    let (compressed, length) = (message.get_u8(), message.get_u32() as usize);
    if compressed != 0 {
        return Err(Status::internal(
            "protocol error: received message with compressed-flag but no grpc-encoding was specified",
        ));
    }
    match message.len() {
        most if most < length => Err(Status::internal("Unexpected EOF decoding stream.")),
        all if all == length => Ok(message),
        _ => Err(Status::internal("more than one message in a request that has one")),
    }
}

/// What is sent to the client.
enum Answer {
    Whole(Bytes),
    Pieces(Page),
}

async fn call(method: Method, context: &ConnectionContext, message: Bytes) -> Result<Answer, Status> {
    match method {
        Method::Put => framed(context.kv.put(decode(message)?).await),
        Method::Range => {
            let request: Request<pb::RangeRequest> = decode(message)?;
            if request.get_ref().range_end.is_empty() {
                return framed(context.kv.range(request).await);
            }
            let page =
                async move |kv: Arc<Kv>| kv.range(request).await.map(|page| Page::new(page.into_inner()));
            at(context, true, page).await.map(Answer::Pieces)
        }
        Method::DeleteRange => {
            let request: Request<pb::DeleteRangeRequest> = decode(message)?;
            let long = !request.get_ref().range_end.is_empty();
            at(context, long, async move |kv| framed(kv.delete_range(request).await)).await
        }
        Method::Txn => {
            let request: Request<pb::TxnRequest> = decode(message)?;
            let long = ranges(request.get_ref());
            at(context, long, async move |kv| framed(kv.txn(request).await)).await
        }
    }
}

/// Whether a transaction concerns ranges, whose answer may be of any size.
fn ranges(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestRange(range)) => !range.range_end.is_empty(),
        Some(Request::RequestDeleteRange(delete)) => !delete.range_end.is_empty(),
        Some(Request::RequestTxn(inner)) => ranges(inner),
        Some(Request::RequestPut(_)) | None => false,
    })
}

/// Makes a call on this thread, or elsewhere if it may take long, so that others on this thread do not wait
/// for it.
async fn at<T, F>(
    context: &ConnectionContext,
    long: bool,
    call: impl FnOnce(Arc<Kv>) -> F,
) -> Result<T, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    if !long {
        return call(Arc::clone(&context.kv)).await;
    }
    // Ends with the call if that is dropped.
    let mut task = JoinSet::new();
    task.spawn_on(call(Arc::clone(&context.elsewhere)), &context.runtime);
    let stopped = || Err(Status::unavailable("etcdserver: server stopped"));
    task.join_next().await.and_then(Result::ok).unwrap_or_else(stopped)
}

fn framed(answer: Result<tonic::Response<impl Message>, Status>) -> Result<Answer, Status> {
    answer.map(|answer| Answer::Whole(frame(&answer.into_inner())))
}

fn decode<M: Message + Default>(message: Bytes) -> Result<Request<M>, Status> {
    let message = M::decode(message).map_err(|e| Status::internal(e.to_string()))?;
    Ok(Request::new(message))
}

/// A message with its prefix.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    put_prefix(length, &mut out);
    message.encode_raw(&mut out);
    out.freeze()
}

/// What comes before a message of so many bytes.
pub(super) fn put_prefix(length: usize, out: &mut BytesMut) {
    out.put_u8(0);
    // Answers that need more than 4 GiB do not exist: the store holds less.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

async fn send(answer: Result<Answer, Status>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return respond.send_response(status.into_http::<()>(), true).map(|_| ()),
    };
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    let mut stream = respond.send_response(response, false)?;
    match answer {
        Answer::Whole(message) => stream.send_data(message, false)?,
        Answer::Pieces(mut page) => {
            // Trailers need no room.
            while page.goes_on() {
                if !room(&mut stream).await? {
                    return Ok(());
                }
                if let Some(piece) = page.next() {
                    stream.send_data(piece, false)?;
                }
            }
        }
    }
    stream.send_trailers(SUCCESS.clone())
}

/// Waits until the client takes more; `false` if it never will.
async fn room(stream: &mut SendStream<Bytes>) -> Result<bool, h2::Error> {
    stream.reserve_capacity(1);
    poll_fn(|cx| poll_room(stream, cx)).await
}

/// The same for those who have asked for capacity.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut task::Context<'_>,
) -> Poll<Result<bool, h2::Error>> {
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(capacity) => drop(capacity?),
            None => return Poll::Ready(Ok(false)),
        }
    }
    Poll::Ready(Ok(true))
}
