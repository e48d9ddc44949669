//! Snapshots in an S3-compatible store: the flags, and what is kept where.
//!
//! Flags are named as k3s' users know them (`--etcd-s3-…` works too). Keys are best given by environment or
//! configuration file: command lines are seen by everyone on the machine. A cluster has a folder of its own:
//! pruning takes what is in it for this cluster's.

mod client;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use agent::Problem;
use clap::Args;
use rusty_s3::{Bucket, Credentials, UrlStyle};
use serde::{Deserialize, Serialize};

pub(crate) use client::Client;

/// A text that no log and no message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Hidden(text.to_string()))
    }
}

/// How the bucket is found: as part of the host's name or of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum Lookup {
    /// By name at Amazon, by path elsewhere
    Auto,
    Dns,
    Path,
}

#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct S3Args {
    /// Keep snapshots in an S3-compatible store too
    #[arg(long, global = true, env = "MINIK8S_SNAPSHOT_S3", alias = "etcd-s3", alias = "s3")]
    pub(crate) snapshot_s3: bool,
    /// Host and port of the store
    #[arg(long, global = true, env = "MINIK8S_SNAPSHOT_S3_ENDPOINT", value_name = "HOST[:PORT]", default_value = AMAZON, alias = "etcd-s3-endpoint", alias = "s3-endpoint")]
    snapshot_s3_endpoint: String,
    /// File with the authorities that the store's certificate leads to [default: the system's]
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_ENDPOINT_CA",
        value_name = "FILE",
        alias = "etcd-s3-endpoint-ca",
        alias = "s3-endpoint-ca"
    )]
    snapshot_s3_endpoint_ca: Option<PathBuf>,
    /// Do not check the store's certificate
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_SKIP_SSL_VERIFY",
        alias = "etcd-s3-skip-ssl-verify",
        alias = "s3-skip-ssl-verify"
    )]
    snapshot_s3_skip_ssl_verify: bool,
    /// Talk to the store without TLS
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_INSECURE",
        alias = "etcd-s3-insecure",
        alias = "s3-insecure"
    )]
    snapshot_s3_insecure: bool,
    /// Access key; better given by MINIK8S_SNAPSHOT_S3_ACCESS_KEY, AWS_ACCESS_KEY_ID or the configuration
    /// file
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_ACCESS_KEY",
        hide_env_values = true,
        value_name = "KEY",
        alias = "etcd-s3-access-key",
        alias = "s3-access-key"
    )]
    snapshot_s3_access_key: Option<Hidden>,
    /// Secret key; better given by MINIK8S_SNAPSHOT_S3_SECRET_KEY, AWS_SECRET_ACCESS_KEY or the configuration
    /// file
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_SECRET_KEY",
        hide_env_values = true,
        value_name = "KEY",
        alias = "etcd-s3-secret-key",
        alias = "s3-secret-key"
    )]
    snapshot_s3_secret_key: Option<Hidden>,
    /// Token of temporary keys
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_SESSION_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        alias = "etcd-s3-session-token",
        alias = "s3-session-token"
    )]
    snapshot_s3_session_token: Option<Hidden>,
    /// Bucket, which must exist
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_BUCKET",
        value_name = "NAME",
        alias = "etcd-s3-bucket",
        alias = "s3-bucket"
    )]
    snapshot_s3_bucket: Option<String>,
    /// Whether the bucket is part of the host's name
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_BUCKET_LOOKUP_TYPE",
        value_enum,
        value_name = "TYPE",
        default_value = "auto",
        alias = "etcd-s3-bucket-lookup-type",
        alias = "s3-bucket-lookup-type"
    )]
    snapshot_s3_bucket_lookup_type: Lookup,
    #[arg(long, global = true, env = "MINIK8S_SNAPSHOT_S3_REGION", value_name = "REGION", default_value = DEFAULT_REGION, alias = "etcd-s3-region", alias = "s3-region", help = "Region of the bucket")]
    snapshot_s3_region: String,
    /// Folder in the bucket; clusters that share a bucket need one each
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_FOLDER",
        value_name = "FOLDER",
        alias = "etcd-s3-folder",
        alias = "s3-folder"
    )]
    snapshot_s3_folder: Option<String>,
    /// How many snapshots of the schedule are kept there
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_RETENTION",
        value_name = "N",
        default_value_t = 5,
        alias = "etcd-s3-retention",
        alias = "s3-retention"
    )]
    snapshot_s3_retention: usize,
    /// Longest time an upload or download may take, retries included
    #[arg(
        long,
        global = true,
        env = "MINIK8S_SNAPSHOT_S3_TIMEOUT",
        value_name = "DURATION",
        default_value = "5m",
        alias = "etcd-s3-timeout",
        alias = "s3-timeout"
    )]
    snapshot_s3_timeout: String,
}

const AMAZON: &str = "s3.amazonaws.com";
const DEFAULT_REGION: &str = "us-east-1";

/// Settings that have been checked. Makes no connection.
#[derive(Clone)]
pub(crate) struct Target {
    bucket: Bucket,
    credentials: Option<Credentials>,
    /// Without slashes at its ends; mostly empty.
    folder: String,
    ca_pem: Option<Vec<u8>>,
    skip_verify: bool,
    timeout: Duration,
    pub(crate) retention: usize,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slash = if self.folder.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket.name(), self.folder)
    }
}

impl Target {
    /// The key of a snapshot.
    fn key(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_string() } else { format!("{}/{name}", self.folder) }
    }
}

fn wrong(why: impl std::fmt::Display, advice: impl std::fmt::Display) -> Problem {
    Problem::new("keep snapshots in S3", why, advice)
}

impl S3Args {
    /// What the flags say; none without `--snapshot-s3`.
    pub(crate) fn target(&self) -> Result<Option<Target>, Problem> {
        match (self.snapshot_s3, &self.snapshot_s3_bucket) {
            (false, None) => Ok(None),
            (false, Some(_)) => {
                Err(wrong("a bucket is given, but the upload is not switched on", "give --snapshot-s3 too"))
            }
            (true, None) => Err(wrong("no bucket is given", "give --snapshot-s3-bucket")),
            (true, Some(bucket)) => self.checked(bucket).map(Some),
        }
    }

    /// Makes it mean the same in another process: with absolute paths and the keys that this one's
    /// environment gives.
    pub(crate) fn resolve(&mut self) -> Result<(), Problem> {
        if let Some(path) = &mut self.snapshot_s3_endpoint_ca {
            *path = std::path::absolute(&*path)
                .map_err(|error| wrong(error, "give --snapshot-s3-endpoint-ca an absolute path"))?;
        }
        if let Some(credentials) = self.credentials()? {
            self.snapshot_s3_access_key = Some(Hidden(credentials.key().to_string()));
            self.snapshot_s3_secret_key = Some(Hidden(credentials.secret().to_string()));
            self.snapshot_s3_session_token = credentials.token().map(|token| Hidden(token.to_string()));
        }
        Ok(())
    }

    fn checked(&self, bucket: &str) -> Result<Target, Problem> {
        if self.snapshot_s3_retention == 0 {
            return Err(wrong("none would be kept", "give --snapshot-s3-retention 1 or more"));
        }
        let folder = self.snapshot_s3_folder.as_deref().unwrap_or("").trim_matches('/');
        let is_path = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !folder.is_empty() && !folder.split('/').all(is_path) {
            return Err(wrong(format!("{folder:?} is not a folder"), "correct --snapshot-s3-folder"));
        }
        let timeout = self.snapshot_s3_timeout.parse::<jiff::SignedDuration>().ok();
        let timeout =
            timeout.and_then(|timeout| Duration::try_from(timeout).ok()).filter(|one| !one.is_zero());
        let timeout = timeout.ok_or_else(|| {
            let why = format!("{:?} is not a duration", self.snapshot_s3_timeout);
            wrong(why, "correct --snapshot-s3-timeout, such as 5m")
        })?;
        let ca_pem = self.snapshot_s3_endpoint_ca.as_deref().map(read_authorities).transpose()?;
        Ok(Target {
            bucket: self.bucket(bucket)?,
            credentials: self.credentials()?,
            folder: folder.to_string(),
            ca_pem,
            skip_verify: self.snapshot_s3_skip_ssl_verify,
            timeout,
            retention: self.snapshot_s3_retention,
        })
    }

    fn bucket(&self, name: &str) -> Result<Bucket, Problem> {
        let region = self.snapshot_s3_region.clone();
        let given = self.snapshot_s3_endpoint.as_str();
        // Amazon's general endpoint knows one region only.
        let host = match given {
            AMAZON if region != DEFAULT_REGION => format!("s3.{region}.amazonaws.com"),
            other => other.to_string(),
        };
        let text = match (given.contains("://"), self.snapshot_s3_insecure) {
            (true, _) => host,
            (false, true) => format!("http://{host}"),
            (false, false) => format!("https://{host}"),
        };
        let advice = "correct --snapshot-s3-endpoint, such as s3.example.com:9000";
        let url =
            text.parse().map_err(|error| wrong(format!("{given:?} is not an endpoint: {error}"), advice))?;
        let style = match self.snapshot_s3_bucket_lookup_type {
            Lookup::Dns => UrlStyle::VirtualHost,
            Lookup::Auto if given.contains("amazonaws.com") && !name.contains('.') => UrlStyle::VirtualHost,
            Lookup::Auto | Lookup::Path => UrlStyle::Path,
        };
        let bucket = Bucket::new(url, style, name.to_string(), region);
        bucket.map_err(|error| {
            wrong(format!("bucket {name:?} at {given:?}: {error}"), "correct --snapshot-s3-bucket")
        })
    }

    /// The keys that are given, or those in the environment of Amazon's tools. None: requests are not signed.
    fn credentials(&self) -> Result<Option<Credentials>, Problem> {
        let token = self.snapshot_s3_session_token.clone();
        match (&self.snapshot_s3_access_key, &self.snapshot_s3_secret_key) {
            (Some(key), Some(secret)) => Ok(Some(match token {
                Some(token) => Credentials::new_with_token(key.0.clone(), secret.0.clone(), token.0),
                None => Credentials::new(key.0.clone(), secret.0.clone()),
            })),
            (None, None) => Ok(Credentials::from_env()),
            _ => Err(wrong(
                "only one of the two keys is given",
                "give --snapshot-s3-access-key and --snapshot-s3-secret-key, or their variables",
            )),
        }
    }
}

fn read_authorities(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|error| {
        let what = format!("read the authorities in {}", path.display());
        Problem::new(what, error, "correct --snapshot-s3-endpoint-ca")
    })
}

#[cfg(test)]
mod tests;
