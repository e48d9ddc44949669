//! The few calls of S3 that snapshots need: put (in parts above a size), list, get, delete.
//!
//! `rusty_s3` signs and reads answers, our own HTTP client sends: so there is one TLS stack. A file is read
//! part by part; memory is bounded by one part. What may go better the next time is tried again, with growing
//! pauses, until the time is up. Signed addresses are as good as keys while they last, so they appear in no
//! message.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use agent::Problem;
use agent::problem::chain;
use bytes::Bytes;
use client::https::{HttpsApi, HttpsConfig, RequestError, ResponseBody};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2, S3Action};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::time::Instant;

use super::Target;

mod failure;

use failure::{Failure, Tries, refusal};

/// Larger files go up in parts of this size (S3 wants 5 MiB or more) or, if that were too many parts, larger
/// ones.
const PART: u64 = 8 << 20;
const MOST_PARTS: u64 = 9_000;
/// How long a signed address works: longer than any one try.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A snapshot in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Without the folder.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// As the store writes times: RFC 3339.
    pub(crate) modified: String,
}

pub(crate) struct Client {
    target: Target,
    http: HttpsApi,
}

/// One answer, read to its end.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body).map_err(|error| Failure::Answer(error.to_string()))
    }
}

impl Client {
    /// Must be called, and used, within a tokio runtime.
    pub(crate) fn new(target: Target) -> Result<Self, Problem> {
        let base = target.bucket.base_url();
        let config = HttpsConfig {
            ca_pem: target.ca_pem.clone(),
            insecure_skip_tls_verify: target.skip_verify,
            connect_timeout: CONNECT_TIMEOUT,
            ..HttpsConfig::new(base.origin().ascii_serialization())
        };
        let http = HttpsApi::new(config).map_err(|error| {
            Problem::new(
                format!("reach {target}"),
                chain(&error),
                "correct --snapshot-s3-endpoint or its CA file",
            )
        })?;
        Ok(Client { target, http })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Uploads a file under its name.
    pub(crate) async fn upload(&self, path: &Path, name: &str) -> Result<(), Problem> {
        let deadline = Instant::now() + self.target.timeout;
        let outcome = async {
            let size = tokio::fs::metadata(path).await?.len();
            let key = self.target.key(name);
            if size <= PART {
                let content = Bytes::from(tokio::fs::read(path).await?);
                let action = self.target.bucket.put_object(self.target.credentials.as_ref(), &key);
                self.call(deadline, Method::PUT, &action, &content).await?;
            } else {
                self.upload_parts(deadline, path, &key, size).await?;
            }
            self.check_size(deadline, &key, size).await
        };
        outcome.await.map_err(|failure| self.problem(&format!("upload the snapshot {name} to"), &failure))
    }

    async fn upload_parts(
        &self,
        deadline: Instant,
        path: &Path,
        key: &str,
        size: u64,
    ) -> Result<(), Failure> {
        let (bucket, credentials) = (&self.target.bucket, self.target.credentials.as_ref());
        let begin = bucket.create_multipart_upload(credentials, key);
        let begun = self.call(deadline, Method::POST, &begin, &Bytes::new()).await?;
        let begun = CreateMultipartUpload::parse_response(begun.text()?)
            .map_err(|error| Failure::Answer(error.to_string()))?;
        let upload = begun.upload_id();
        let outcome = self.send_parts(deadline, path, key, size, upload).await;
        if outcome.is_err() {
            // Parts of an upload that is never completed are paid for, and seen by nobody.
            let abort = bucket.abort_multipart_upload(credentials, key, upload);
            let soon = Instant::now() + CONNECT_TIMEOUT;
            if let Err(failure) = self.call(soon, Method::DELETE, &abort, &Bytes::new()).await {
                tracing::warn!(%failure, "the parts of a failed upload of a snapshot are left behind");
            }
        }
        outcome
    }

    async fn send_parts(
        &self,
        deadline: Instant,
        path: &Path,
        key: &str,
        size: u64,
        upload: &str,
    ) -> Result<(), Failure> {
        let (bucket, credentials) = (&self.target.bucket, self.target.credentials.as_ref());
        let length = PART.max(size.div_ceil(MOST_PARTS));
        let mut file = File::open(path).await?;
        let mut tags = Vec::new();
        for number in 0..size.div_ceil(length) {
            let from = number * length;
            let mut part = vec![0; usize::try_from(length.min(size - from)).unwrap_or(usize::MAX)];
            file.seek(SeekFrom::Start(from)).await?;
            file.read_exact(&mut part).await?;
            let part = Bytes::from(part);
            let number = u16::try_from(number + 1).unwrap_or(u16::MAX);
            let action = bucket.upload_part(credentials, key, number, upload);
            let sent = self.call(deadline, Method::PUT, &action, &part).await?;
            let tag = sent.headers.get(http::header::ETAG).and_then(|tag| tag.to_str().ok());
            tags.push(tag.ok_or_else(|| Failure::Answer("a part has no ETag".to_string()))?.to_string());
        }
        let tags = || tags.iter().map(String::as_str);
        let body = Bytes::from(bucket.complete_multipart_upload(credentials, key, upload, tags()).body());
        let action = bucket.complete_multipart_upload(credentials, key, upload, tags());
        self.call(deadline, Method::POST, &action, &body).await.map(drop)
    }

    /// A store that has taken less than it was given must not pass for a backup.
    async fn check_size(&self, deadline: Instant, key: &str, size: u64) -> Result<(), Failure> {
        let action = self.target.bucket.head_object(self.target.credentials.as_ref(), key);
        let answer = self.call(deadline, Method::HEAD, &action, &Bytes::new()).await?;
        let length = answer.headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        match length.and_then(|length| length.parse::<u64>().ok()) {
            Some(stored) if stored == size => Ok(()),
            stored => Err(Failure::Answer(format!("{size} bytes were sent, it holds {stored:?}"))),
        }
    }

    /// Everything in the folder, oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<Object>, Problem> {
        let deadline = Instant::now() + self.target.timeout;
        self.list_until(deadline).await.map_err(|failure| self.problem("list the snapshots in", &failure))
    }

    async fn list_until(&self, deadline: Instant) -> Result<Vec<Object>, Failure> {
        let prefix = self.target.key("");
        let (mut found, mut next) = (Vec::new(), None::<String>);
        loop {
            let mut action = self.target.bucket.list_objects_v2(self.target.credentials.as_ref());
            action.with_prefix(prefix.clone());
            if let Some(token) = next.take() {
                action.with_continuation_token(token);
            }
            let answer = self.call(deadline, Method::GET, &action, &Bytes::new()).await?;
            let page = ListObjectsV2::parse_response(answer.text()?)
                .map_err(|error| Failure::Answer(error.to_string()))?;
            for object in page.contents {
                let Some(name) = object.key.strip_prefix(&prefix) else { continue };
                if !name.contains('/') && name.ends_with(super::super::SUFFIX) {
                    found.push(Object {
                        name: name.to_string(),
                        size: object.size.unwrap_or(0),
                        modified: object.last_modified.unwrap_or_default(),
                    });
                }
            }
            next = page.next_continuation_token;
            if next.is_none() {
                break;
            }
        }
        found.sort_by(|a, b| (&a.modified, &a.name).cmp(&(&b.modified, &b.name)));
        Ok(found)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Problem> {
        let deadline = Instant::now() + self.target.timeout;
        let outcome = async {
            let key = self.target.key(name);
            // Deleting what is not there is a success to S3; to whoever mistyped a name it is not.
            let head = self.target.bucket.head_object(self.target.credentials.as_ref(), &key);
            self.call(deadline, Method::HEAD, &head, &Bytes::new()).await?;
            let action = self.target.bucket.delete_object(self.target.credentials.as_ref(), &key);
            self.call(deadline, Method::DELETE, &action, &Bytes::new()).await
        };
        outcome
            .await
            .map(drop)
            .map_err(|failure| self.problem(&format!("delete the snapshot {name} in"), &failure))
    }

    /// Deletes all but the newest `keep` of those that were named by us. Returns their names.
    pub(crate) async fn prune(&self, keep: usize) -> Result<Vec<String>, Problem> {
        let mut names: Vec<String> = self.list().await?.into_iter().map(|object| object.name).collect();
        names = super::super::outdated(names, keep);
        for name in &names {
            self.delete(name).await?;
        }
        Ok(names)
    }

    /// Downloads a snapshot; the file appears whole or not at all.
    pub(crate) async fn download(&self, name: &str, path: &Path) -> Result<(), Problem> {
        let deadline = Instant::now() + self.target.timeout;
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = std::path::PathBuf::from(part);
        let mut tries = Tries::default();
        let outcome = loop {
            let attempt = tokio::time::timeout_at(deadline, self.fetch(name, &part)).await;
            match attempt.unwrap_or_else(|_| Err(self.late())) {
                Ok(()) => break Ok(()),
                Err(failure) => match tries.again(failure, deadline).await {
                    Ok(()) => {}
                    Err(failure) => break Err(failure),
                },
            }
        };
        let outcome = match outcome {
            Ok(()) => tokio::fs::rename(&part, path).await.map_err(Failure::from),
            Err(failure) => {
                let _ = tokio::fs::remove_file(&part).await;
                Err(failure)
            }
        };
        outcome.map_err(|failure| self.problem(&format!("download the snapshot {name} from"), &failure))
    }

    async fn fetch(&self, name: &str, part: &Path) -> Result<(), Failure> {
        let key = self.target.key(name);
        let action = self.target.bucket.get_object(self.target.credentials.as_ref(), &key);
        let response = self.send(Method::GET, &action, Bytes::new()).await?;
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(part).await?;
        let (mut body, mut received) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::Cut(chain(&error)))?;
            if let Ok(data) = frame.into_data() {
                received += data.len() as u64;
                file.write_all(&data).await?;
            }
        }
        file.sync_all().await?;
        match length {
            Some(length) if length != received => {
                Err(Failure::Cut(format!("{received} of {length} bytes have come")))
            }
            _ => Ok(()),
        }
    }

    /// One call: signed anew, sent and read for each try.
    async fn call<'a>(
        &self,
        deadline: Instant,
        method: Method,
        action: &impl S3Action<'a>,
        body: &Bytes,
    ) -> Result<Answer, Failure> {
        let mut tries = Tries::default();
        loop {
            let attempt = self.once(method.clone(), action, body.clone());
            match tokio::time::timeout_at(deadline, attempt).await.unwrap_or_else(|_| Err(self.late())) {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.again(failure, deadline).await?,
            }
        }
    }

    async fn once<'a>(
        &self,
        method: Method,
        action: &impl S3Action<'a>,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let response = self.send(method, action, body).await?;
        let headers = response.headers().clone();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Failure::Cut(chain(&error)))?.to_bytes();
        // Completing an upload may fail after the head of the answer was sent.
        match refusal(StatusCode::OK, &body) {
            Some(refused) if body.starts_with(b"<") => Err(refused),
            _ => Ok(Answer { headers, body }),
        }
    }

    async fn send<'a>(
        &self,
        method: Method,
        action: &impl S3Action<'a>,
        body: Bytes,
    ) -> Result<Response<ResponseBody>, Failure> {
        let url = action.sign(SIGNED_FOR);
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let request = Request::builder().method(method).uri(path).body(body);
        let request = request.map_err(|source| RequestError::Invalid { source })?;
        let response = self.http.request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(refusal(status, &body).unwrap_or_else(|| Failure::Refused {
            status,
            // HEAD has no body to say more in.
            code: if status == StatusCode::NOT_FOUND { "NoSuchKey" } else { "refused" }.to_string(),
            message: "the store says no more".to_string(),
        }))
    }

    fn late(&self) -> Failure {
        let server = self.http.authority().to_string();
        RequestError::Timeout { server, limit: self.target.timeout }.into()
    }

    fn problem(&self, what: &str, failure: &Failure) -> Problem {
        let place = format!("{} at {}", self.target, self.http.authority());
        Problem::new(format!("{what} {place}"), chain(failure), failure.advice())
    }
}
