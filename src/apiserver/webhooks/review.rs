//! `AdmissionReview`: the question to a webhook and what its answer means.

use api::ApiError;
use api::json::text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::attributes::{Attributes, Gvk, Gvr};
use super::hook::Hook;
use crate::outbound::Wanted::{Members, Whole};
use crate::outbound::{Outbound, OutboundError, Wanted, select};

const GROUP: &str = "admission.k8s.io";

/// What counts of an answer.
const ANSWER: Wanted<'_> =
    Members(&[("kind", Whole), ("apiVersion", Whole), ("response", Members(RESPONSE))]);
const RESPONSE: &[(&str, Wanted<'_>)] = &[
    ("uid", Whole),
    ("allowed", Whole),
    ("status", Whole),
    ("patch", Whole),
    ("patchType", Whole),
    ("warnings", Whole),
    ("auditAnnotations", Whole),
];

/// What a webhook is asked.
pub(crate) struct Question<'a> {
    pub(crate) request: &'a Attributes<'a>,
    /// The version of the kind that it wants to see.
    pub(crate) kind: &'a Gvk,
    pub(crate) resource: &'a Gvr,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
}

/// What a webhook that lets the request pass says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// A JSON patch.
    pub(crate) patch: Option<Value>,
    pub(crate) warnings: Vec<String>,
    /// For the audit log.
    pub(crate) annotations: Vec<(String, String)>,
}

/// Why a request does not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The webhook could not be asked, or gave no sense: its failure policy decides.
    Calling(Broken),
    /// It refuses, or the request may not be put to it.
    Refused(ApiError, Vec<String>),
}

/// What went wrong in asking. Texts are upstream's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(
        "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
    )]
    NoVersion,
    #[error("failed to call webhook: {0}")]
    Call(#[from] OutboundError),
    #[error("received invalid webhook response: {0}")]
    Answer(String),
    #[error("received undecodable patch in webhook response: {0}")]
    Patch(String),
}

impl From<OutboundError> for Failure {
    fn from(error: OutboundError) -> Self {
        Failure::Calling(Broken::Call(error))
    }
}

impl Question<'_> {
    /// Asks.
    pub(crate) async fn put(
        &self,
        hook: &Hook,
        outbound: &Outbound,
        mutating: bool,
    ) -> Result<Answer, Failure> {
        if self.request.dry_run && !hook.dry {
            let message = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Failure::Refused(ApiError::bad_request(message), Vec::new()));
        }
        let Some(version) = hook.review else { return Err(Failure::Calling(Broken::NoVersion)) };
        let uid = uuid::Uuid::new_v4().to_string();
        let body = self.body(&uid, version);
        let read = |answer: &[u8]| read(select(answer, ANSWER)?, (&uid, version), mutating, &hook.name);
        outbound.post(&hook.target, &hook.trust, body, hook.limit, read).await
    }

    /// The objects are written as they are, without being copied into the tree of the question.
    fn body(&self, uid: &str, version: &str) -> Vec<u8> {
        let mut request = self.request.json(uid, self.kind, self.resource).to_string();
        request.pop();
        let null = Value::Null;
        for (member, object) in [("object", self.object), ("oldObject", self.old)] {
            request.push_str(&format!(",{member:?}:{}", object.unwrap_or(&null)));
        }
        format!(r#"{{"kind":"AdmissionReview","apiVersion":"{GROUP}/{version}","request":{request}}}}}"#)
            .into_bytes()
    }
}

/// What an answer means.
pub(super) fn read(
    mut review: Value,
    (uid, version): (&str, &str),
    mutating: bool,
    hook: &str,
) -> Result<Answer, Failure> {
    let invalid = |why: String| Failure::Calling(Broken::Answer(why));
    if !review["response"].is_object() {
        return Err(invalid("webhook response was absent".to_string()));
    }
    let mut response = review["response"].take();
    let given = text(&response, "uid");
    // The first version of the review was not held to its form.
    if version == "v1" {
        if given != uid {
            return Err(invalid(format!("expected response.uid={uid:?}, got {given:?}")));
        }
        let (given, kind) = (text(&review, "apiVersion"), text(&review, "kind"));
        if kind != "AdmissionReview" || given != format!("{GROUP}/v1") {
            return Err(invalid(format!(
                "expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {given}, Kind={kind}"
            )));
        }
        check_patch(&response, mutating).map_err(|why| invalid(why.to_string()))?;
    }
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let warnings: Vec<String> = warnings.map(str::to_string).collect();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let annotations: Vec<(String, String)> =
        annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string()))).collect();
    if response["allowed"] != true {
        return Err(Failure::Refused(denied(hook, response["status"].take()), warnings));
    }
    let patch = text(&response, "patch");
    if !mutating || patch.is_empty() {
        return Ok(Answer { patch: None, warnings, annotations });
    }
    let undecodable = |why: String| Failure::Calling(Broken::Patch(why));
    let bytes = STANDARD.decode(patch).map_err(|error| undecodable(error.to_string()))?;
    let patch = select(&bytes, Whole).map_err(|error| undecodable(error.to_string()))?;
    let is_empty = patch.as_array().is_some_and(Vec::is_empty) || patch.is_null();
    Ok(Answer { patch: (!is_empty).then_some(patch), warnings, annotations })
}

fn check_patch(response: &Value, mutating: bool) -> Result<(), &'static str> {
    let (patch, kind) = (text(response, "patch"), &response["patchType"]);
    match (mutating, patch.is_empty(), kind.is_null()) {
        (true, false, true) => Err("webhook returned response.patch but not response.patchType"),
        (true, true, false) => Err("webhook returned response.patchType but not response.patch"),
        (true, false, false) if kind != "JSONPatch" => {
            Err("webhook returned an unsupported response.patchType")
        }
        (false, false, _) => Err("validating webhook may not return response.patch"),
        (false, true, false) => Err("validating webhook may not return response.patchType"),
        _ => Ok(()),
    }
}

/// The refusal that a webhook's Status asks for.
fn denied(hook: &str, mut status: Value) -> ApiError {
    if !status.is_object() {
        status = json!({});
    }
    if status["code"].as_i64().is_none_or(|code| !(400..600).contains(&code)) {
        status["code"] = json!(400);
    }
    if matches!(text(&status, "status"), "" | "Success") {
        status["status"] = json!("Failure");
    }
    let by = format!("admission webhook {hook:?} denied the request");
    let message = match (text(&status, "message"), text(&status, "reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(400);
    status["message"] = json!(message);
    match serde_json::from_value(status) {
        Ok(status) => ApiError::from_status(status),
        Err(_) => ApiError::new(code, "", message),
    }
}
