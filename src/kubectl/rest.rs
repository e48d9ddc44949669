//! JSON over the HTTPS client: requests by path, server warnings, errors as `Status`.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use client::HttpsApi;
use client::https::{RequestError, ResponseBody, error_from_response};
use http::header::{ACCEPT, CONTENT_TYPE, WARNING};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::env::tell;
use crate::error::{Error, Result};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

/// The connection to the server.
pub(crate) struct Rest {
    api: HttpsApi,
    timeout: Option<Duration>,
    verbosity: i32,
    warnings_as_errors: bool,
    warned: Mutex<HashSet<String>>,
}

impl Rest {
    pub(crate) fn new(
        api: HttpsApi,
        timeout: Option<Duration>,
        verbosity: i32,
        warnings_as_errors: bool,
    ) -> Self {
        Rest { api, timeout, verbosity, warnings_as_errors, warned: Mutex::default() }
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
            let request = build(method, path, accept, body)?;
            self.log(&request);
            let response = self.api.request(request).await?;
            let response = self.checked(response).await?;
            self.collect(response.into_body()).await
        };
        self.limited(exchange).await
    }

    /// Opens an answer that goes on: a watch, or a followed log.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<ResponseBody> {
        let opening = async {
            let request = build(Method::GET, path, accept, None)?;
            self.log(&request);
            let response = self.api.stream(request).await?;
            Ok(self.checked(response).await?.into_body())
        };
        self.limited(opening).await
    }

    fn log(&self, request: &Request<Bytes>) {
        if self.verbosity >= 6 {
            tell(&format!("{} {}{}", request.method(), self.api.authority(), request.uri()));
        }
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
                tell(&format!("Warning: {text}"));
            }
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = self.collect(response.into_body()).await?;
        Err(error_from_response(code, &body).into())
    }

    async fn collect(&self, body: ResponseBody) -> Result<Bytes> {
        let collected = body.collect().await.map_err(|error| self.lost(error))?;
        Ok(collected.to_bytes())
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
