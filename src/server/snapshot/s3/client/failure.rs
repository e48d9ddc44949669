//! Why a call has failed, and whether it is tried again.

use std::time::Duration;

use client::https::RequestError;
use http::StatusCode;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const TRIES: u32 = 6;

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sending(#[from] RequestError),
    #[error("the answer was cut short: {0}")]
    Cut(String),
    #[error("{code} ({status}): {message}")]
    Refused { status: StatusCode, code: String, message: String },
    #[error("the store's answer is not understood: {0}")]
    Answer(String),
    #[error("{0}")]
    Local(#[from] std::io::Error),
}

impl Failure {
    /// Whether it may go better the next time.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Failure::Sending(RequestError::Tls { source, .. }) => !source.to_string().contains("certificate"),
            Failure::Sending(RequestError::Invalid { .. } | RequestError::TokenFile { .. }) => false,
            Failure::Sending(_) | Failure::Cut(_) => true,
            Failure::Refused { status, code, .. } => {
                status.is_server_error()
                    || matches!(status.as_u16(), 408 | 429)
                    || matches!(
                        code.as_str(),
                        "RequestTimeout" | "SlowDown" | "InternalError" | "IncompleteBody"
                    )
            }
            Failure::Answer(_) | Failure::Local(_) => false,
        }
    }

    pub(super) fn advice(&self) -> &'static str {
        match self {
            Failure::Refused { code, .. } => match code.as_str() {
                "NoSuchBucket" => "make the bucket, or correct --snapshot-s3-bucket",
                "NoSuchKey" | "NoSuchUpload" => "see 'minik8s snapshot list' for what there is",
                "RequestTimeTooSkewed" => "set the clock of this machine",
                "AccessDenied"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "NotSignedUp"
                | "ExpiredToken" => {
                    "check --snapshot-s3-access-key, --snapshot-s3-secret-key and what they may do"
                }
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "AuthorizationQueryParametersError" => {
                    "correct --snapshot-s3-region or --snapshot-s3-endpoint"
                }
                _ => "see what the store says of it",
            },
            Failure::Sending(RequestError::Tls { .. }) => {
                "check --snapshot-s3-endpoint-ca, or whether the store speaks TLS (--snapshot-s3-insecure if not)"
            }
            Failure::Sending(_) | Failure::Cut(_) => "check --snapshot-s3-endpoint and the way there",
            Failure::Answer(_) => "check that --snapshot-s3-endpoint is an S3-compatible store",
            Failure::Local(_) => "check the file's place and the space of its disk",
        }
    }
}

/// How often something was tried, and the pause before it is tried again.
pub(super) struct Tries {
    count: u32,
    pause: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Tries { count: 0, pause: FIRST_PAUSE }
    }
}

impl Tries {
    /// Waits, if it may help; else gives the failure back.
    pub(super) async fn again(&mut self, failure: Failure, deadline: Instant) -> Result<(), Failure> {
        self.count += 1;
        if !failure.may_pass() || self.count >= TRIES || Instant::now() + self.pause >= deadline {
            return Err(failure);
        }
        tracing::debug!(%failure, retry = ?self.pause, "S3");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// What an error document says; none if it is not one.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Option<Failure> {
    let text = std::str::from_utf8(body).ok()?;
    let start = text.find("<Error>").or_else(|| text.find("<Error "))?;
    let inside = |name: &str| {
        let (_, rest) = text[start..].split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value.to_string())
    };
    let message = inside("Message").unwrap_or_else(|| "the store says no more".to_string());
    Some(Failure::Refused { status, code: inside("Code")?, message })
}
