//! EventRateLimit: so many events a second, of all, of a namespace, of a user, or of one source about one
//! object. Off by default. Dry runs count as well, unlike upstream.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use api::ApiError;
use api::json::text;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::configuration::ConfigurationFault;
use super::request::{Operation, Request};

/// Buckets that are remembered if the configuration does not say.
const BUCKETS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum LimitType {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Limit {
    #[serde(rename = "type")]
    what: LimitType,
    #[serde(default)]
    qps: i32,
    #[serde(default)]
    burst: i32,
    #[serde(default)]
    cache_size: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    limits: Vec<Limit>,
}

/// The limits of a configuration, if they can be read and mean something.
pub(super) fn configured(tree: &Value) -> Result<Vec<Limit>, ConfigurationFault> {
    let read = Configuration::deserialize(tree).map_err(|error| ConfigurationFault(error.to_string()))?;
    let (version, kind) = (&read.api_version, &read.kind);
    if version != "eventratelimit.admission.k8s.io/v1alpha1" || kind != "Configuration" {
        return Err(ConfigurationFault(format!("no kind {kind:?} is registered for version {version:?}")));
    }
    if read.limits.is_empty() {
        return Err(ConfigurationFault("limits: Invalid value: null: must not be empty".to_string()));
    }
    for (at, limit) in read.limits.iter().enumerate() {
        for (part, value) in [("burst", limit.burst), ("qps", limit.qps)] {
            if value <= 0 {
                let why = format!("limits[{at}].{part}: Invalid value: {value}: must be positive");
                return Err(ConfigurationFault(why));
            }
        }
        if limit.what != LimitType::Server && limit.cache_size < 0 {
            let size = limit.cache_size;
            let why = format!("limits[{at}].cacheSize: Invalid value: {size}: must not be negative");
            return Err(ConfigurationFault(why));
        }
    }
    Ok(read.limits)
}

/// What is left of each limit.
pub(super) struct EventRateLimit {
    limits: Vec<(Limit, Mutex<Buckets>)>,
}

/// Buckets by the hash of their key, with when each was last used: a key can be as long as an event.
#[derive(Default)]
struct Buckets {
    by_key: HashMap<u64, Bucket>,
    hasher: RandomState,
    uses: u64,
}

struct Bucket {
    tokens: f64,
    at: Instant,
    used: u64,
}

impl EventRateLimit {
    pub(super) fn new(limits: &[Limit]) -> Self {
        EventRateLimit { limits: limits.iter().map(|limit| (limit.clone(), Mutex::default())).collect() }
    }

    pub(super) fn validate(
        &self,
        request: &Request<'_>,
        event: &Value,
        now: Instant,
    ) -> Result<(), ApiError> {
        let row = request.ctx.row;
        let is_event = matches!(&*row.group, "" | "events.k8s.io") && row.plural == "events";
        if !is_event || request.operation == Operation::Delete {
            return Ok(());
        }
        let mut reached = Vec::new();
        for (limit, buckets) in &self.limits {
            let key = key(limit.what, request, event);
            if !buckets.lock().take(limit, &key, now) {
                reached.push(format!("limit reached on type {:?} for key {key}", limit.what));
            }
        }
        match reached.len() {
            0 => Ok(()),
            1 => Err(ApiError::too_many_requests(reached.remove(0), 0)),
            _ => Err(ApiError::too_many_requests(format!("[{}]", reached.join(", ")), 0)),
        }
    }
}

fn key(what: LimitType, request: &Request<'_>, event: &Value) -> String {
    match what {
        LimitType::Server => String::new(),
        LimitType::Namespace => request.ctx.namespace.unwrap_or("").to_string(),
        LimitType::User => request.ctx.user.name.clone(),
        LimitType::SourceAndObject => {
            // events.k8s.io calls them otherwise.
            let (source, object) = match event["involvedObject"].is_object() {
                true => ("source", "involvedObject"),
                false => ("deprecatedSource", "regarding"),
            };
            let parts =
                ["kind", "namespace", "name", "uid", "apiVersion"].map(|part| text(&event[object], part));
            [text(&event[source], "component"), text(&event[source], "host")].concat() + &parts.concat()
        }
    }
}

impl Buckets {
    fn take(&mut self, limit: &Limit, key: &str, now: Instant) -> bool {
        let burst = f64::from(limit.burst);
        self.uses += 1;
        let key = self.hasher.hash_one(key);
        if !self.by_key.contains_key(&key) {
            self.make_room(limit);
        }
        let bucket = self.by_key.entry(key).or_insert(Bucket { tokens: burst, at: now, used: 0 });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * f64::from(limit.qps)).min(burst);
        (bucket.at, bucket.used) = (now, self.uses);
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }

    /// Forgets the half of the buckets that has not been used for longest, once there are too many.
    fn make_room(&mut self, limit: &Limit) {
        let most = usize::try_from(limit.cache_size).ok().filter(|size| *size > 0).unwrap_or(BUCKETS);
        if limit.what == LimitType::Server || self.by_key.len() < most {
            return;
        }
        let mut uses: Vec<u64> = self.by_key.values().map(|bucket| bucket.used).collect();
        uses.sort_unstable();
        let middle = uses[uses.len() / 2];
        self.by_key.retain(|_, bucket| bucket.used > middle);
    }
}
