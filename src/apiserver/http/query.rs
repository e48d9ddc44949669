//! Query parameters: decoding, and the options they stand for.

use std::time::Duration;

use api::{
    ApiError, CreateOptions, DeleteOptions, DryRun, FieldError, FieldSelector, FieldValidation,
    LabelSelector, ListOptions, PatchKind, ResourceVersionMatch, UpdateOptions, WatchOptions, apply, managed,
};

use crate::registry::propagation;

/// Decoded pairs, in order.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decoded(name)?, decoded(value)?));
        }
        Ok(Query { pairs })
    }

    /// The first value of a parameter; absent and empty are the same.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect()
    }

    /// Whether a parameter is there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.pairs
            .iter()
            .any(|(key, value)| key == name && !matches!(&**value, "false" | "0" | "False" | "f"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    }

    fn labels(&self) -> Result<LabelSelector, ApiError> {
        match self.get("labelSelector") {
            None => Ok(LabelSelector::everything()),
            Some(text) => {
                LabelSelector::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))
            }
        }
    }

    pub(crate) fn fields(&self) -> Result<FieldSelector, ApiError> {
        match self.get("fieldSelector") {
            None => Ok(FieldSelector::default()),
            Some(text) => {
                FieldSelector::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))
            }
        }
    }

    fn version_match(&self) -> Result<Option<ResourceVersionMatch>, ApiError> {
        match self.get("resourceVersionMatch") {
            None => Ok(None),
            Some("Exact") => Ok(Some(ResourceVersionMatch::Exact)),
            Some("NotOlderThan") => Ok(Some(ResourceVersionMatch::NotOlderThan)),
            Some(other) => Err(invalid_list(&format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            ))),
        }
    }

    pub(crate) fn list_options(&self) -> Result<ListOptions, ApiError> {
        if self.has("sendInitialEvents") && !self.flag("watch") {
            return Err(invalid_list(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ));
        }
        Ok(ListOptions {
            labels: self.labels()?,
            fields: self.fields()?,
            limit: self.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            continue_token: self.get("continue").map(str::to_string),
            resource_version: self.get("resourceVersion").map(str::to_string),
            resource_version_match: self.version_match()?,
        })
    }

    pub(crate) fn watch_options(&self) -> Result<WatchOptions, ApiError> {
        let send_initial_events = self.has("sendInitialEvents").then(|| self.flag("sendInitialEvents"));
        match (send_initial_events, self.version_match()?) {
            (Some(_), Some(ResourceVersionMatch::NotOlderThan)) => {}
            (Some(_), _) => {
                return Err(invalid_list(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            (None, Some(_)) => {
                return Err(invalid_list(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (None, None) => {}
        }
        let timeout = self.number::<u64>("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        Ok(WatchOptions {
            labels: self.labels()?,
            fields: self.fields()?,
            resource_version: self.get("resourceVersion").map(str::to_string),
            allow_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events,
            timeout: Some(timeout.map_or_else(default_timeout, Duration::from_secs)),
        })
    }

    pub(crate) fn dry_run(&self) -> Result<DryRun, ApiError> {
        match self.get("dryRun") {
            None => Ok(DryRun::No),
            Some("All") => Ok(DryRun::All),
            Some(other) => Err(ApiError::new(
                422,
                "Invalid",
                format!(
                    "dryRun: Invalid value: {other:?}: dryRun: Unsupported value: {other:?}: supported values: \"All\""
                ),
            )),
        }
    }

    fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(ApiError::new(
                422,
                "Invalid",
                format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
        }
    }

    /// The field manager that the request names; `options` is the kind of its options, as faults name it.
    fn field_manager(&self, options: &str) -> Result<Option<String>, ApiError> {
        let Some(name) = self.get("fieldManager") else { return Ok(None) };
        let faults: Vec<String> = managed::manager_faults(name, "fieldManager")
            .into_iter()
            .map(|fault| fault.to_string())
            .collect();
        let what = format!("{options}.meta.k8s.io \"\" is invalid");
        match &*faults {
            [] => Ok(Some(name.to_string())),
            [one] => Err(ApiError::new(422, "Invalid", format!("{what}: {one}"))),
            all => Err(ApiError::new(422, "Invalid", format!("{what}: [{}]", all.join(", ")))),
        }
    }

    pub(crate) fn create_options(&self) -> Result<CreateOptions, ApiError> {
        Ok(CreateOptions {
            dry_run: self.dry_run()?,
            field_manager: self.field_manager("CreateOptions")?,
            field_validation: self.field_validation()?,
        })
    }

    /// Options of a write of what is there; `options` is `UpdateOptions` or `PatchOptions`.
    pub(crate) fn update_options(&self, options: &str) -> Result<UpdateOptions, ApiError> {
        Ok(UpdateOptions {
            dry_run: self.dry_run()?,
            field_manager: self.field_manager(options)?,
            field_validation: self.field_validation()?,
            force: self.flag("force"),
        })
    }

    /// Options of a patch: who applies has to say who it is, and nobody else takes fields from others.
    pub(crate) fn patch_options(&self, kind: PatchKind) -> Result<UpdateOptions, ApiError> {
        let fault = match kind {
            PatchKind::Apply if self.get("fieldManager").is_none() => apply::manager_required(),
            PatchKind::Apply => return self.update_options("PatchOptions"),
            _ if self.has("force") => {
                FieldError::forbidden("force", "may not be specified for non-apply patch")
            }
            _ => return self.update_options("PatchOptions"),
        };
        let why = format!("PatchOptions.meta.k8s.io \"\" is invalid: {fault}");
        let invalid = ApiError::new(422, "Invalid", why);
        Err(invalid.with_cause(fault.kind.reason(), Some(&fault.field), &fault.message()))
    }

    /// Options of a deletion without a body.
    pub(crate) fn delete_options(&self) -> Result<DeleteOptions, ApiError> {
        let orphan = self.has("orphanDependents").then(|| self.flag("orphanDependents"));
        let propagation_policy = match (self.get("propagationPolicy"), orphan) {
            (Some(policy), _) => Some(propagation(policy)?),
            (None, Some(true)) => Some(api::PropagationPolicy::Orphan),
            (None, Some(false)) => Some(api::PropagationPolicy::Background),
            (None, None) => None,
        };
        Ok(DeleteOptions {
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            propagation_policy,
            dry_run: self.dry_run()?,
            ..DeleteOptions::default()
        })
    }
}

/// Watches without a timeout end after half an hour to an hour, so that clients do not all come back at once.
fn default_timeout() -> Duration {
    Duration::from_secs(rand::Rng::random_range(&mut rand::rng(), 1800..3600))
}

fn invalid_list(why: &str) -> ApiError {
    ApiError::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {why}"))
}

fn decoded(text: &str) -> Result<String, ApiError> {
    if text.contains('+') { percent_decoded(&text.replace('+', " ")) } else { percent_decoded(text) }
}

/// Undoes percent encoding.
pub(crate) fn percent_decoded(text: &str) -> Result<String, ApiError> {
    if !text.contains('%') {
        return Ok(text.to_string());
    }
    let bad = || ApiError::bad_request(format!("invalid URL escape in {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Percent encoding of everything that could mean something in a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
