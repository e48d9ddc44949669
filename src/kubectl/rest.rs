//! JSON over the HTTPS client: requests by path, server warnings, errors as `Status`.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::HttpsApi;
use client::https::{RequestError, ResponseBody, error_from_response};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, WARNING};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::terminal;
use crate::trace::Trace;

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

/// The connection to the server.
pub(crate) struct Rest {
    api: HttpsApi,
    timeout: Option<Duration>,
    trace: Trace,
    warnings_as_errors: bool,
    compress: bool,
    warned: Mutex<HashSet<String>>,
}

/// What flags and the kubeconfig say of how to talk.
pub(crate) struct Options {
    pub(crate) timeout: Option<Duration>,
    pub(crate) trace: Trace,
    pub(crate) warnings_as_errors: bool,
    /// Answers may be sent compressed.
    pub(crate) compress: bool,
}

/// No answer of a server is longer than this.
const MAX_ANSWER: u64 = 4 << 30;

impl Rest {
    pub(crate) fn new(api: HttpsApi, options: Options) -> Self {
        let Options { timeout, trace, warnings_as_errors, compress } = options;
        Rest { api, timeout, trace, warnings_as_errors, compress, warned: Mutex::default() }
    }

    pub(crate) fn https(&self) -> &HttpsApi {
        &self.api
    }

    /// Whether the server warned and the user wants that to count as a failure.
    pub(crate) fn warnings_count(&self) -> usize {
        if self.warnings_as_errors { self.warned.lock().map(|warned| warned.len()).unwrap_or(0) } else { 0 }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.get_as(path, JSON).await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Result<Value> {
        parse(&self.bytes(Method::GET, path, accept, None).await?)
    }

    pub(crate) async fn get_raw(&self, path: &str) -> Result<Bytes> {
        self.bytes(Method::GET, path, "application/json, */*", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, JSON, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PUT, path, JSON, body).await
    }

    pub(crate) async fn patch(&self, path: &str, media_type: &str, body: &Value) -> Result<Value> {
        self.send(Method::PATCH, path, media_type, body).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.send(Method::DELETE, path, JSON, options).await
    }

    async fn send(&self, method: Method, path: &str, media_type: &str, body: &Value) -> Result<Value> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        parse(&self.bytes(method, path, JSON, Some((media_type, body))).await?)
    }

    pub(crate) async fn bytes(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<Bytes> {
        let exchange = async {
            let mut request = build(method, path, accept, body)?;
            if self.compress {
                request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            }
            let response = self.traced(request, async |request| self.api.request(request).await).await?;
            let response = self.checked(response).await?;
            let body = self.collect(response).await?;
            self.trace.body("Response Body", &body);
            Ok(body)
        };
        self.limited(exchange).await
    }

    /// Opens an answer that goes on: a watch, or a followed log.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<ResponseBody> {
        let opening = async {
            let request = build(Method::GET, path, accept, None)?;
            let response = self.traced(request, async |request| self.api.stream(request).await).await?;
            Ok(self.checked(response).await?.into_body())
        };
        self.limited(opening).await
    }

    /// Sends a request, and tells of it and of the answer if `-v` says so.
    async fn traced(
        &self,
        request: Request<Bytes>,
        send: impl AsyncFnOnce(Request<Bytes>) -> std::result::Result<Response<ResponseBody>, RequestError>,
    ) -> Result<Response<ResponseBody>> {
        if !self.trace.is_on() {
            return Ok(send(request).await?);
        }
        let (method, path) = (request.method().clone(), request.uri().to_string());
        self.trace.request(&method, &path, request.headers(), request.body());
        let begun = Instant::now();
        let answer = send(request).await;
        let head = answer.as_ref().ok().map(|answer| (answer.status(), answer.headers()));
        self.trace.response(&method, &path, head, begun.elapsed());
        Ok(answer?)
    }

    async fn limited<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.timeout else { return work.await };
        match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RequestError::Timeout { server: self.api.authority().to_string(), limit }.into()),
        }
    }

    /// Tells warnings; an answer that is not a success becomes an error.
    async fn checked(&self, response: Response<ResponseBody>) -> Result<Response<ResponseBody>> {
        for header in response.headers().get_all(WARNING) {
            if let Some(text) = header.to_str().ok().and_then(warning_text)
                && self.warned.lock().is_ok_and(|mut warned| warned.insert(text.clone()))
            {
                terminal::warn(&text);
            }
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = self.collect(response).await?;
        self.trace.body("Response Body", &body);
        Err(error_from_response(code, &body).into())
    }

    async fn collect(&self, response: Response<ResponseBody>) -> Result<Bytes> {
        let is_packed = response.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        let collected = response.into_body().collect().await.map_err(|error| self.lost(error))?;
        let body = collected.to_bytes();
        if !is_packed {
            return Ok(body);
        }
        let unpacked = client::https::decompressed(&body, MAX_ANSWER);
        unpacked.map_err(|error| Error::message(format!("the server's answer cannot be read: {error}")))
    }

    /// A connection that broke while an answer was being read.
    pub(crate) fn lost(&self, error: hyper::Error) -> Error {
        RequestError::Lost { server: self.api.authority().to_string(), source: error.into() }.into()
    }
}

fn build(method: Method, path: &str, accept: &str, body: Option<(&str, Bytes)>) -> Result<Request<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path).header(ACCEPT, accept);
    if let Some((media_type, _)) = &body {
        builder = builder.header(CONTENT_TYPE, *media_type);
    }
    let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
    builder.body(body).map_err(|error| Error::message(format!("invalid request {path:?}: {error}")))
}

fn parse(bytes: &[u8]) -> Result<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Error::message(format!("the server's answer is not JSON: {error}")))
}

/// The text of `299 - "text"`, quoted as RFC 9110 says.
fn warning_text(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1;
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            c => text.push(c),
        }
    }
}
