//! Between the versions of a custom resource: strategy `None`, which changes nothing but the name of the
//! version, and strategy `Webhook`, which asks a server (`ConversionReview`).
//!
//! A webhook's answer counts only for what conversions may change: everything of the metadata but labels and
//! annotations stays as it was. What it makes is pruned by the schema of the version that it is in, like
//! everything else that comes from outside.

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::json::{items, text};
use client::BoxFuture;
use serde_json::{Value, json};

use crate::outbound::Wanted::{Members, Whole};
use crate::outbound::{Outbound, OutboundError, Target, Trust, Wanted, bundle, select};
use crate::registry::{Conversion, Relabel};
use crate::schemas::Schemas;

/// How long a webhook may take, as upstream has it.
const LIMIT: Duration = Duration::from_secs(30);
/// Objects of one question, and their bytes. A long list takes several, so that no answer grows without
/// bounds.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 256 * 1024;

const GROUP: &str = "apiextensions.k8s.io";

/// What counts of an answer.
const ANSWER: Wanted<'_> =
    Members(&[("kind", Whole), ("apiVersion", Whole), ("response", Members(RESPONSE))]);
const RESPONSE: &[(&str, Wanted<'_>)] =
    &[("uid", Whole), ("result", Members(RESULT)), ("convertedObjects", Whole)];
const RESULT: &[(&str, Wanted<'_>)] = &[("status", Whole), ("message", Whole)];

/// The conversion that a definition asks for.
pub(super) fn of(
    definition: &Value,
    schemas: &Arc<Schemas>,
    outbound: &Arc<Outbound>,
) -> Arc<dyn Conversion> {
    let conversion = &definition["spec"]["conversion"];
    if text(conversion, "strategy") != "Webhook" {
        return Arc::new(Relabel);
    }
    let config = &conversion["webhook"]["clientConfig"];
    let versions = items(conversion, "webhook.conversionReviewVersions").iter().filter_map(Value::as_str);
    let review = versions.into_iter().find(|version| matches!(*version, "v1" | "v1beta1"));
    Arc::new(Webhook {
        outbound: outbound.clone(),
        target: Target::of(config),
        trust: Trust::in_authorities(bundle(config)),
        review: review.map(str::to_string),
        schemas: schemas.clone(),
    })
}

/// A server that knows how.
struct Webhook {
    outbound: Arc<Outbound>,
    target: Target,
    trust: Trust,
    /// The version of the question.
    review: Option<String>,
    schemas: Arc<Schemas>,
}

impl Conversion for Webhook {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        Box::pin(async move {
            let stale: Vec<usize> =
                (0..objects.len()).filter(|at| text(&objects[*at], "apiVersion") != version).collect();
            for batch in stale.chunks(BATCH) {
                let originals: Vec<Value> = batch.iter().map(|at| objects[*at].take()).collect();
                let converted = self.ask(&originals, version).await?;
                for ((at, original), converted) in batch.iter().zip(originals).zip(converted) {
                    objects[*at] = self.accept(original, converted, version)?;
                }
            }
            Ok(objects)
        })
    }

    fn question(&self) -> Option<usize> {
        Some(BATCH_BYTES)
    }
}

/// Upstream makes no Status of what goes wrong in conversions: reason unknown, code 500.
fn failed(original: &Value, why: &str) -> ApiError {
    let kind = text(original, "kind");
    let message = format!("conversion webhook for {}, Kind={kind} {why}", text(original, "apiVersion"));
    ApiError::new(500, "", message)
}

impl Webhook {
    async fn ask(&self, objects: &[Value], version: &str) -> Result<Vec<Value>, ApiError> {
        let Some(first) = objects.first() else { return Ok(Vec::new()) };
        let failed = |why: &dyn std::fmt::Display| failed(first, &format!("failed: {why}"));
        let Some(review) = &self.review else {
            return Err(ApiError::new(500, "", "no supported conversion review versions"));
        };
        let uid = uuid::Uuid::new_v4().to_string();
        let question = json!({
            "kind": "ConversionReview", "apiVersion": format!("{GROUP}/{review}"),
            "request": { "uid": uid, "desiredAPIVersion": version, "objects": objects },
        });
        let body = serde_json::to_vec(&question).map_err(ApiError::internal)?;
        let read = |answer: &[u8]| select(answer, ANSWER);
        let answer = self.outbound.post(&self.target, &self.trust, body, LIMIT, read).await;
        let answer = answer.map_err(|error: OutboundError| failed(&error))?;
        let converted = converted(answer, review, &uid).map_err(|why| failed(&why))?;
        if converted.len() != objects.len() {
            let why = format!("returned {} objects, expected {}", converted.len(), objects.len());
            return Err(self::failed(first, &why));
        }
        Ok(converted)
    }

    fn accept(&self, original: Value, mut converted: Value, version: &str) -> Result<Value, ApiError> {
        check(&original, &converted, version)
            .map_err(|why| failed(&original, &format!("returned invalid object: {why}")))?;
        restore_metadata(&original, &mut converted)
            .map_err(|why| failed(&original, &format!("returned invalid metadata: {why}")))?;
        let name = version.rsplit('/').next().unwrap_or_default();
        if let Some(schema) = self.schemas.of(name) {
            schema.prune(&mut converted);
        }
        Ok(converted)
    }
}

/// What is wrong with a webhook's answer, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("expected webhook response of {GROUP}/{wanted}, Kind=ConversionReview, got {got}")]
    Kind { wanted: String, got: String },
    #[error("no response provided")]
    Nothing,
    #[error("expected response.uid={wanted:?}, got {got:?}")]
    Uid { wanted: String, got: String },
    #[error("{0}")]
    Told(String),
    #[error("response.result.status was '{0}', not 'Success'")]
    Failure(String),
    #[error("{0}")]
    Object(String),
}

/// The objects of an answer.
pub(super) fn converted(mut answer: Value, review: &str, uid: &str) -> Result<Vec<Value>, Malformed> {
    if !answer["response"].is_object() {
        return Err(Malformed::Nothing);
    }
    // The first version of the question was not held to its form.
    if review == "v1" {
        let (version, kind) = (text(&answer, "apiVersion"), text(&answer, "kind"));
        if version != format!("{GROUP}/v1") || kind != "ConversionReview" {
            let got = format!("{version}, Kind={kind}");
            return Err(Malformed::Kind { wanted: review.to_string(), got });
        }
        let got = text(&answer, "response.uid");
        if got != uid {
            return Err(Malformed::Uid { wanted: uid.to_string(), got: got.to_string() });
        }
    }
    let status = text(&answer, "response.result.status");
    if status != "Success" {
        return Err(match text(&answer, "response.result.message") {
            "" => Malformed::Failure(status.to_string()),
            message => Malformed::Told(message.to_string()),
        });
    }
    match answer["response"]["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// Holds what came back to what was sent.
pub(super) fn check(original: &Value, converted: &Value, version: &str) -> Result<(), Malformed> {
    let invalid = |why: String| Err(Malformed::Object(why));
    if !converted.is_object() {
        return invalid("it is not a JSON object".to_string());
    }
    let got = text(converted, "apiVersion");
    if got != version {
        return invalid(format!("invalid groupVersion (expected {version}, received {got})"));
    }
    let (wanted, got) = (text(original, "kind"), text(converted, "kind"));
    if wanted != got {
        return invalid(format!("invalid kind (expected {wanted}, received {got})"));
    }
    for (path, what) in
        [("metadata.name", "name"), ("metadata.namespace", "namespace"), ("metadata.uid", "UID")]
    {
        let (wanted, got) = (text(original, path), text(converted, path));
        if wanted != got {
            return invalid(format!("must have the same {what}: {wanted} != {got}"));
        }
    }
    Ok(())
}

/// The metadata that was there, with the labels and annotations that the webhook gave.
pub(super) fn restore_metadata(original: &Value, converted: &mut Value) -> Result<(), Malformed> {
    let given = converted["metadata"].take();
    let Value::Object(mut given) = given else {
        return Err(Malformed::Object("missing metadata in converted object".to_string()));
    };
    let mut metadata = original["metadata"].clone();
    for part in ["labels", "annotations"] {
        let Some(members) = metadata.as_object_mut() else { break };
        members.remove(part);
        match given.remove(part) {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) if map.values().all(Value::is_string) => {
                if !map.is_empty() {
                    members.insert(part.to_string(), Value::Object(map));
                }
            }
            Some(_) => {
                let why = format!("metadata.{part}: must be a map of strings");
                return Err(Malformed::Object(why));
            }
        }
    }
    converted["metadata"] = metadata;
    Ok(())
}
