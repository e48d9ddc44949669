//! [`ObjectApi`] over HTTPS: each call is a request, each failure a `Status`.

use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, KindRow, ListOptions, Object, Patch, PatchKind, UpdateOptions,
    WatchEvent, WatchOptions,
};
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;

use super::decode::{self, Frames, connection_error, error_from_response};
use super::query::{
    collection_path, create_query, delete_body, list_query, path_of, update_query, watch_query,
};
use super::{HttpsApi, RequestError, ResponseBody};
use crate::{BoxFuture, EventStream, ObjectApi, ObjectList, ObjectRef};

const JSON: &str = "application/json";

impl HttpsApi {
    /// Sends a call and reads the whole answer, within the call's time limit.
    async fn call(
        &self,
        method: Method,
        path: String,
        body: Option<(&str, Bytes)>,
    ) -> Result<Bytes, ApiError> {
        let limit = self.inner.call_timeout;
        let request = request(method, &path, body)?;
        let exchange = async {
            let response = self.request(request).await.map_err(|error| connection_error(&error))?;
            self.whole(response).await
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let error = RequestError::Timeout { server: self.authority().to_string(), limit };
                Err(connection_error(&error))
            }
        }
    }

    async fn whole(&self, response: Response<ResponseBody>) -> Result<Bytes, ApiError> {
        let code = response.status();
        let body = response.into_body().collect().await.map_err(|error| {
            let server = self.authority().to_string();
            connection_error(&RequestError::Lost { server, source: error.into() })
        })?;
        let body = body.to_bytes();
        if code.is_success() { Ok(body) } else { Err(error_from_response(code, &body)) }
    }

    async fn send_tree(&self, method: Method, path: String, tree: &Value) -> Result<Bytes, ApiError> {
        self.call(method, path, Some((JSON, encode(tree)?))).await
    }

    async fn open_watch(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<EventStream, ApiError> {
        let path = collection_path(row, namespace) + &watch_query(options);
        let opening = self.stream(request(Method::GET, &path, None)?);
        let limit = self.inner.call_timeout;
        let timed_out = |_| RequestError::Timeout { server: self.authority().to_string(), limit };
        let response =
            tokio::time::timeout(limit, opening).await.map_err(timed_out).and_then(|outcome| outcome);
        let response = response.map_err(|error| connection_error(&error))?;
        if !response.status().is_success() {
            return Err(match self.whole(response).await {
                Err(error) => error,
                Ok(_) => ApiError::internal("a watch was refused without an error"),
            });
        }
        Ok(events(row.clone(), response.into_body()))
    }
}

fn encode(tree: &Value) -> Result<Bytes, ApiError> {
    serde_json::to_vec(tree)
        .map(Bytes::from)
        .map_err(|error| ApiError::internal(format!("encoding: {error}")))
}

fn request(method: Method, path: &str, body: Option<(&str, Bytes)>) -> Result<Request<Bytes>, ApiError> {
    let mut builder = Request::builder().method(method).uri(path).header(ACCEPT, JSON);
    if let Some((media_type, _)) = &body {
        builder = builder.header(CONTENT_TYPE, *media_type);
    }
    let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
    builder.body(body).map_err(|error| ApiError::bad_request(format!("the request cannot be sent: {error}")))
}

/// Turns the body of a watch into events. Ends after an error event and when the connection ends.
fn events(row: KindRow, body: ResponseBody) -> EventStream {
    struct Reader {
        row: KindRow,
        body: ResponseBody,
        frames: Frames,
        ended: bool,
    }
    let reader = Reader { row, body, frames: Frames::default(), ended: false };
    let stream = futures::stream::unfold(reader, |mut reader| async move {
        loop {
            if let Some(frame) = reader.frames.next() {
                let event = decode::event(&reader.row, &frame);
                if matches!(event, WatchEvent::Error(_)) {
                    reader.ended = true;
                    reader.frames = Frames::default();
                }
                return Some((event, reader));
            }
            if reader.ended {
                return None;
            }
            if reader.frames.overflows() {
                reader.ended = true;
                return Some((WatchEvent::Error(ApiError::internal("a watch event is too large")), reader));
            }
            match reader.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        reader.frames.push(data);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, kind = %reader.row.kind, "watch connection lost");
                    return None;
                }
                None => {
                    reader.ended = true;
                    // A frame that was cut off by the end is not an event; the reader resumes where it is.
                    let last = reader.frames.rest().map(|rest| decode::event(&reader.row, &rest));
                    return last
                        .filter(|event| !matches!(event, WatchEvent::Error(_)))
                        .map(|event| (event, reader));
                }
            }
        }
    });
    stream.boxed()
}

impl ObjectApi for HttpsApi {
    fn get<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        Box::pin(async move { decode::object(row, self.call(Method::GET, path_of(row, at), None).await?) })
    }

    fn list<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a ListOptions,
    ) -> BoxFuture<'a, Result<ObjectList, ApiError>> {
        let path = collection_path(row, namespace) + &list_query(options);
        Box::pin(async move { decode::list(row, &self.call(Method::GET, path, None).await?) })
    }

    fn watch<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a WatchOptions,
    ) -> BoxFuture<'a, Result<EventStream, ApiError>> {
        Box::pin(self.open_watch(row, namespace, options))
    }

    fn create<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        let path = collection_path(row, namespace) + &create_query(options);
        Box::pin(async move { decode::object(row, self.send_tree(Method::POST, path, &body).await?) })
    }

    fn create_sub<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        let path = path_of(row, at) + &create_query(options);
        Box::pin(async move {
            let answer = self.send_tree(Method::POST, path, &body).await?;
            serde_json::from_slice(&answer)
                .map_err(|error| ApiError::internal(format!("unreadable answer: {error}")))
        })
    }

    fn update<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        let path = path_of(row, at) + &update_query(options);
        Box::pin(async move { decode::object(row, self.send_tree(Method::PUT, path, &body).await?) })
    }

    fn patch<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        patch: Patch,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        let path = path_of(row, at) + &update_query(options);
        let media_type = match patch.kind {
            PatchKind::Json => "application/json-patch+json",
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
            PatchKind::Apply => "application/apply-patch+yaml",
        };
        Box::pin(async move {
            let body = Some((media_type, encode(&patch.body)?));
            decode::object(row, self.call(Method::PATCH, path, body).await?)
        })
    }

    fn delete<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, ApiError>> {
        Box::pin(async move {
            let answer = self.send_tree(Method::DELETE, path_of(row, at), &delete_body(options)).await?;
            if decode::is_status(&answer) { Ok(None) } else { decode::object(row, answer).map(Some) }
        })
    }

    fn delete_collection<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        list: &'a ListOptions,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let path = collection_path(row, namespace) + &list_query(list);
        Box::pin(async move { self.send_tree(Method::DELETE, path, &delete_body(options)).await.map(|_| ()) })
    }
}
