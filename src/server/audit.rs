//! The flags of audit, under upstream's names and with its defaults, and what follows from them.
//!
//! Two things are not as upstream has them, so that no request waits for a disk or a network: the log is
//! written from a queue by default (`--audit-log-mode batch`; upstream's requests write it themselves), and
//! the webhook is only sent to from a queue.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::Problem;
use agent::problem::chain;
use apiserver::{
    Audit, AuditMode, LogFormat, LogOptions, Post, SinkOptions, Throttle, Truncation, WebhookOptions,
};
use bytes::Bytes;
use clap::Args;
use client::https::{ConfigError, HttpsApi};
use client::kubeconfig::{Kubeconfig, KubeconfigError, Overrides};
use http::Request;

/// How long the server has to take a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const VERSION: &str = "audit.k8s.io/v1";
const MODES: [&str; 3] = ["batch", "blocking", "blocking-strict"];

#[derive(Args, Clone, Debug)]
pub(crate) struct AuditArgs {
    /// Which requests are audited, and how much of them: a file with a Policy of audit.k8s.io/v1
    #[arg(long, env = "MINIK8S_AUDIT_POLICY_FILE", value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    webhook: WebhookArgs,
}

#[derive(Args, Clone, Debug)]
struct LogArgs {
    /// Where audit events are written, one a line; `-` is standard output
    #[arg(long, env = "MINIK8S_AUDIT_LOG_PATH", value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// Days that rotated audit logs are kept; 0 keeps them
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_MAXAGE",
        value_name = "DAYS",
        default_value_t = 366,
        allow_negative_numbers = true
    )]
    audit_log_maxage: i64,
    /// How many rotated audit logs are kept; 0 keeps all
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_MAXBACKUP",
        value_name = "N",
        default_value_t = 100,
        allow_negative_numbers = true
    )]
    audit_log_maxbackup: i64,
    /// Mebibytes after which the audit log is rotated; 0 never rotates it
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_MAXSIZE",
        value_name = "MIB",
        default_value_t = 100,
        allow_negative_numbers = true
    )]
    audit_log_maxsize: i64,
    /// Compress rotated audit logs with gzip
    #[arg(long, env = "MINIK8S_AUDIT_LOG_COMPRESS", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_log_compress: bool,
    /// How the audit log is written: json, or legacy for people
    #[arg(long, env = "MINIK8S_AUDIT_LOG_FORMAT", value_name = "FORMAT", default_value = "json")]
    audit_log_format: String,
    /// Version of audit events in the log
    #[arg(long, env = "MINIK8S_AUDIT_LOG_VERSION", value_name = "VERSION", default_value = VERSION, hide = true)]
    audit_log_version: String,
    /// Who writes the audit log: batch (a queue), blocking (the request itself), or blocking-strict (a
    /// request that cannot be written down fails)
    #[arg(long, env = "MINIK8S_AUDIT_LOG_MODE", value_name = "MODE", default_value = "batch")]
    audit_log_mode: String,
    /// Audit events that wait to be written; more are dropped and counted
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_BATCH_BUFFER_SIZE",
        value_name = "N",
        default_value_t = 10_000,
        allow_negative_numbers = true
    )]
    audit_log_batch_buffer_size: i64,
    /// Audit events that are written at once
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_BATCH_MAX_SIZE",
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    audit_log_batch_max_size: i64,
    /// How long audit events are gathered that are written at once
    #[arg(long, env = "MINIK8S_AUDIT_LOG_BATCH_MAX_WAIT", value_name = "DURATION", default_value = "0s")]
    audit_log_batch_max_wait: String,
    /// Bound the batches that are written in a second
    #[arg(long, env = "MINIK8S_AUDIT_LOG_BATCH_THROTTLE_ENABLE", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_log_batch_throttle_enable: bool,
    /// Batches that are written in a second, on average
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_BATCH_THROTTLE_QPS",
        value_name = "N",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    audit_log_batch_throttle_qps: f32,
    /// Batches that are written one right after the other
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_BATCH_THROTTLE_BURST",
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    audit_log_batch_throttle_burst: i64,
    /// Leave objects out of audit events that are too large
    #[arg(long, env = "MINIK8S_AUDIT_LOG_TRUNCATE_ENABLED", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_log_truncate_enabled: bool,
    /// Largest audit event, in bytes
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_TRUNCATE_MAX_EVENT_SIZE",
        value_name = "BYTES",
        default_value_t = 102_400,
        allow_negative_numbers = true
    )]
    audit_log_truncate_max_event_size: i64,
    /// Most bytes of audit events that are written at once
    #[arg(
        long,
        env = "MINIK8S_AUDIT_LOG_TRUNCATE_MAX_BATCH_SIZE",
        value_name = "BYTES",
        default_value_t = 10_485_760,
        allow_negative_numbers = true
    )]
    audit_log_truncate_max_batch_size: i64,
}

#[derive(Args, Clone, Debug)]
struct WebhookArgs {
    /// A server that audit events are sent to: a kubeconfig file with its URL and credentials
    #[arg(long, env = "MINIK8S_AUDIT_WEBHOOK_CONFIG_FILE", value_name = "FILE")]
    audit_webhook_config_file: Option<PathBuf>,
    /// How long is waited before a batch of audit events is sent again
    #[arg(
        long,
        alias = "audit-webhook-batch-initial-backoff",
        env = "MINIK8S_AUDIT_WEBHOOK_INITIAL_BACKOFF",
        value_name = "DURATION",
        default_value = "10s"
    )]
    audit_webhook_initial_backoff: String,
    /// Version of audit events that are sent
    #[arg(long, env = "MINIK8S_AUDIT_WEBHOOK_VERSION", value_name = "VERSION", default_value = VERSION, hide = true)]
    audit_webhook_version: String,
    /// How audit events are sent: batch (from a queue)
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_MODE",
        value_name = "MODE",
        default_value = "batch",
        hide = true
    )]
    audit_webhook_mode: String,
    /// Audit events that wait to be sent; more are dropped and counted
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_BATCH_BUFFER_SIZE",
        value_name = "N",
        default_value_t = 10_000,
        allow_negative_numbers = true
    )]
    audit_webhook_batch_buffer_size: i64,
    /// Audit events that are sent at once
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_BATCH_MAX_SIZE",
        value_name = "N",
        default_value_t = 400,
        allow_negative_numbers = true
    )]
    audit_webhook_batch_max_size: i64,
    /// How long audit events are gathered that are sent at once
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_BATCH_MAX_WAIT",
        value_name = "DURATION",
        default_value = "30s"
    )]
    audit_webhook_batch_max_wait: String,
    /// Bound the batches that are sent in a second
    #[arg(long, env = "MINIK8S_AUDIT_WEBHOOK_BATCH_THROTTLE_ENABLE", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_webhook_batch_throttle_enable: bool,
    /// Batches that are sent in a second, on average
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_BATCH_THROTTLE_QPS",
        value_name = "N",
        default_value_t = 10.0,
        allow_negative_numbers = true
    )]
    audit_webhook_batch_throttle_qps: f32,
    /// Batches that are sent one right after the other
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_BATCH_THROTTLE_BURST",
        value_name = "N",
        default_value_t = 15,
        allow_negative_numbers = true
    )]
    audit_webhook_batch_throttle_burst: i64,
    /// Leave objects out of audit events that are too large to be sent
    #[arg(long, env = "MINIK8S_AUDIT_WEBHOOK_TRUNCATE_ENABLED", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_webhook_truncate_enabled: bool,
    /// Largest audit event that is sent, in bytes
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_TRUNCATE_MAX_EVENT_SIZE",
        value_name = "BYTES",
        default_value_t = 102_400,
        allow_negative_numbers = true
    )]
    audit_webhook_truncate_max_event_size: i64,
    /// Most bytes of audit events that are sent at once
    #[arg(
        long,
        env = "MINIK8S_AUDIT_WEBHOOK_TRUNCATE_MAX_BATCH_SIZE",
        value_name = "BYTES",
        default_value_t = 10_485_760,
        allow_negative_numbers = true
    )]
    audit_webhook_truncate_max_batch_size: i64,
}

/// The settings of a back-end as its flags have them.
struct Given<'a> {
    plugin: &'static str,
    mode: &'a str,
    version: &'a str,
    buffer: i64,
    batch: i64,
    wait: &'a str,
    throttle: Option<(f32, i64)>,
    truncates: bool,
    /// Largest event, largest batch.
    truncation: (i64, i64),
}

/// Why flags are refused, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum FlagError {
    #[error("invalid audit {plugin} mode {mode}, allowed modes are \"{}\"", MODES.join(","))]
    Mode { plugin: &'static str, mode: String },
    #[error("invalid audit {what} {value}, must be a positive number")]
    Positive { what: String, value: String },
    #[error(
        "invalid audit truncate {plugin} max batch size {batch}, must be greater than max event size ({event})"
    )]
    Truncation { plugin: &'static str, batch: i64, event: i64 },
    #[error("invalid group version, allowed versions are [\"{VERSION}\"]")]
    Version,
    #[error("invalid audit log format {0}, allowed formats are \"legacy,json\"")]
    Format(String),
    #[error("--{0} {1} can't be a negative number")]
    Negative(&'static str, i64),
    #[error("{0:?} is no length of time, such as 30s")]
    Duration(String),
    #[error("an audit webhook in the mode {0} would hold requests up: batch is the only one")]
    Blocking(String),
}

impl Given<'_> {
    fn options(&self) -> Result<SinkOptions, FlagError> {
        let plugin = self.plugin;
        let mode = match self.mode {
            "batch" => AuditMode::Batch,
            "blocking" => AuditMode::Blocking,
            "blocking-strict" => AuditMode::BlockingStrict,
            mode => return Err(FlagError::Mode { plugin, mode: mode.to_string() }),
        };
        let positive = |what: &str, value: i64| {
            usize::try_from(value)
                .ok()
                .filter(|value| *value > 0)
                .ok_or_else(|| FlagError::Positive { what: what.to_string(), value: value.to_string() })
        };
        let mut options = SinkOptions { mode, ..SinkOptions::default() };
        // What is not used is not looked at.
        if mode == AuditMode::Batch {
            options.buffer = positive(&format!("batch {plugin} buffer size"), self.buffer)?;
            options.batch = positive(&format!("batch {plugin} max batch size"), self.batch)?;
            options.wait = duration(self.wait)?;
            if let Some((rate, burst)) = self.throttle {
                if rate <= 0.0 || rate.is_nan() {
                    let what = format!("batch {plugin} throttle QPS");
                    return Err(FlagError::Positive { what, value: rate.to_string() });
                }
                let burst = positive(&format!("batch {plugin} throttle burst"), burst)?;
                let burst = u32::try_from(burst).unwrap_or(u32::MAX);
                options.throttle = Some(Throttle { rate, burst });
            }
        }
        let (event, batch) = self.truncation;
        let largest = positive(&format!("truncate {plugin} max event size"), event)?;
        let most = usize::try_from(batch).ok().filter(|most| *most >= largest);
        let most = most.ok_or(FlagError::Truncation { plugin, batch, event })?;
        options.truncation = self.truncates.then_some(Truncation { event: largest, batch: most });
        if self.version != VERSION {
            return Err(FlagError::Version);
        }
        Ok(options)
    }
}

fn duration(text: &str) -> Result<Duration, FlagError> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|wait| Duration::try_from(wait).ok());
    parsed.ok_or_else(|| FlagError::Duration(text.to_string()))
}

impl LogArgs {
    fn options(&self, path: &Path) -> Result<(LogOptions, SinkOptions), FlagError> {
        let given = Given {
            plugin: "log",
            mode: &self.audit_log_mode,
            version: &self.audit_log_version,
            buffer: self.audit_log_batch_buffer_size,
            batch: self.audit_log_batch_max_size,
            wait: &self.audit_log_batch_max_wait,
            throttle: self
                .audit_log_batch_throttle_enable
                .then_some((self.audit_log_batch_throttle_qps, self.audit_log_batch_throttle_burst)),
            truncates: self.audit_log_truncate_enabled,
            truncation: (self.audit_log_truncate_max_event_size, self.audit_log_truncate_max_batch_size),
        };
        let sink = given.options()?;
        let format = match self.audit_log_format.as_str() {
            "json" => LogFormat::Json,
            "legacy" => LogFormat::Legacy,
            other => return Err(FlagError::Format(other.to_string())),
        };
        let natural = |flag, value: i64| u64::try_from(value).map_err(|_| FlagError::Negative(flag, value));
        let max_age = natural("audit-log-maxage", self.audit_log_maxage)?;
        let max_backups = natural("audit-log-maxbackup", self.audit_log_maxbackup)?;
        let log = LogOptions {
            path: path.to_path_buf(),
            format,
            max_age: u32::try_from(max_age).unwrap_or(u32::MAX),
            max_backups: usize::try_from(max_backups).unwrap_or(usize::MAX),
            max_size: natural("audit-log-maxsize", self.audit_log_maxsize)?,
            compress: self.audit_log_compress,
        };
        Ok((log, sink))
    }
}

impl WebhookArgs {
    fn options(&self) -> Result<(Duration, SinkOptions), FlagError> {
        let given = Given {
            plugin: "webhook",
            mode: &self.audit_webhook_mode,
            version: &self.audit_webhook_version,
            buffer: self.audit_webhook_batch_buffer_size,
            batch: self.audit_webhook_batch_max_size,
            wait: &self.audit_webhook_batch_max_wait,
            throttle: self
                .audit_webhook_batch_throttle_enable
                .then_some((self.audit_webhook_batch_throttle_qps, self.audit_webhook_batch_throttle_burst)),
            truncates: self.audit_webhook_truncate_enabled,
            truncation: (
                self.audit_webhook_truncate_max_event_size,
                self.audit_webhook_truncate_max_batch_size,
            ),
        };
        let sink = given.options()?;
        if sink.mode != AuditMode::Batch {
            return Err(FlagError::Blocking(self.audit_webhook_mode.clone()));
        }
        Ok((duration(&self.audit_webhook_initial_backoff)?, sink))
    }
}

impl AuditArgs {
    /// What the flags ask for; none if they ask for nothing. The log is opened. Called within a runtime.
    pub(crate) fn open(&self) -> Result<Option<Arc<Audit>>, Problem> {
        let wrong = |error: FlagError| Problem::new("set up audit", chain(&error), "correct the flag");
        let path = self.log.audit_log_path.as_deref().filter(|path| !path.as_os_str().is_empty());
        let file = self.webhook.audit_webhook_config_file.as_deref();
        let log = path.map(|path| self.log.options(path)).transpose().map_err(wrong)?;
        let webhook = file.map(|_| self.webhook.options()).transpose().map_err(wrong)?;
        let Some(policy) = &self.audit_policy_file else {
            if log.is_some() || webhook.is_some() {
                tracing::warn!("no audit policy file is given: nothing is audited (--audit-policy-file)");
            }
            return Ok(None);
        };
        let refused = |what: &Path, why: String, flag: &str| {
            Problem::new(format!("audit by {}", what.display()), why, format!("correct {flag}"))
        };
        let flag = "--audit-policy-file";
        let text = std::fs::read(policy).map_err(|error| refused(policy, error.to_string(), flag))?;
        let mut audit = Audit::new(&text).map_err(|error| refused(policy, chain(&error), flag))?;
        if log.is_none() && webhook.is_none() {
            return Ok(None);
        }
        if let (Some((options, sink)), Some(path)) = (log, path) {
            let opened = audit.log_to(options, sink);
            audit = opened.map_err(|error| refused(path, chain(&error), "--audit-log-path"))?;
        }
        if let (Some((first_pause, sink)), Some(file)) = (webhook, file) {
            let wrong = |why: String| refused(file, why, "--audit-webhook-config-file");
            let post = post_to(file).map_err(|error| wrong(chain(&error)))?;
            let opened = audit.send_to(WebhookOptions { post, first_pause }, sink);
            audit = opened.map_err(|error| wrong(chain(&error)))?;
        }
        Ok(Some(Arc::new(audit)))
    }
}

/// Why events cannot be sent by a file.
#[derive(Debug, thiserror::Error)]
enum SenderError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Posts to the server that a kubeconfig file names, at its URL.
fn post_to(file: &Path) -> Result<Post, SenderError> {
    let kubeconfig = Kubeconfig::parse(&std::fs::read_to_string(file)?, file)?;
    let mut config = kubeconfig.https_config(&Overrides::default())?;
    // The path goes with each request: it is the whole of it, without a slash at its end.
    let host = config.server.find("://").map_or(0, |at| at + 3);
    let path = match config.server[host..].find('/') {
        Some(at) => config.server.split_off(host + at),
        None => "/".to_string(),
    };
    let api = HttpsApi::new(config)?;
    Ok(Arc::new(move |body: Bytes| {
        let (api, path) = (api.clone(), path.clone());
        Box::pin(async move {
            let request = Request::post(&path).header("content-type", "application/json").body(body);
            let request = request.map_err(io::Error::other)?;
            let sent = tokio::time::timeout(SEND_TIMEOUT, api.request(request)).await;
            let answer =
                sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(io::Error::other)?;
            match answer.status().is_success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("the server answers {}", answer.status()))),
            }
        })
    }))
}

#[cfg(test)]
mod tests;
