//! What a plugin answers: a code, why, and, once the framework has passed it on, which plugin it was.

use std::borrow::Cow;
use std::sync::Arc;

use api::ApiError;

/// The codes of kube-scheduler's framework.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    /// The pod may go on.
    #[default]
    Success,
    /// Something went wrong that says nothing about the pod: it is tried again after its back-off.
    Error,
    /// Not now; evicting other pods might help.
    Unschedulable,
    /// Not now, whoever is evicted.
    UnschedulableAndUnresolvable,
    /// Permit only: the pod waits for the plugin's word.
    Wait,
    /// The plugin has nothing to do for this pod: what depends on the call is left out.
    Skip,
    /// All is well but something outside has to happen first; an event of it brings the pod back without
    /// back-off.
    Pending,
}

#[derive(Clone, Debug, Default)]
pub struct Status {
    code: Code,
    reasons: Vec<Cow<'static, str>>,
    plugin: Option<&'static str>,
    /// What the API answered, where that was the reason.
    source: Option<Arc<ApiError>>,
}

impl Status {
    pub fn success() -> Self {
        Status { code: Code::Success, reasons: Vec::new(), plugin: None, source: None }
    }

    pub fn skip() -> Self {
        Status { code: Code::Skip, ..Status::success() }
    }

    pub fn wait() -> Self {
        Status { code: Code::Wait, ..Status::success() }
    }

    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Status { code, reasons: vec![reason.into()], ..Status::success() }
    }

    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Status::new(Code::Unschedulable, reason)
    }

    /// `UnschedulableAndUnresolvable`.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Status::new(Code::UnschedulableAndUnresolvable, reason)
    }

    pub fn pending(reason: impl Into<Cow<'static, str>>) -> Self {
        Status::new(Code::Pending, reason)
    }

    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Status::new(Code::Error, reason)
    }

    /// The API refused a call.
    pub fn api_error(error: ApiError) -> Self {
        Status { source: Some(Arc::new(error.clone())), ..Status::error(error.to_string()) }
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn reasons(&self) -> &[Cow<'static, str>] {
        &self.reasons
    }

    pub(crate) fn push_reason(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.reasons.push(reason.into());
    }

    pub(crate) fn with_code(code: Code, reasons: Vec<Cow<'static, str>>) -> Self {
        Status { code, reasons, ..Status::success() }
    }

    /// The plugin that answered so.
    pub fn plugin(&self) -> Option<&'static str> {
        self.plugin
    }

    pub(crate) fn by(self, plugin: &'static str) -> Self {
        Status { plugin: Some(plugin), ..self }
    }

    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }

    pub fn is_success(&self) -> bool {
        self.code == Code::Success
    }

    pub fn is_skip(&self) -> bool {
        self.code == Code::Skip
    }

    pub fn is_wait(&self) -> bool {
        self.code == Code::Wait
    }

    pub fn is_error(&self) -> bool {
        self.code == Code::Error
    }

    /// The pod is turned away, as opposed to something having gone wrong.
    pub fn is_rejected(&self) -> bool {
        matches!(self.code, Code::Unschedulable | Code::UnschedulableAndUnresolvable | Code::Pending)
    }

    /// The same as an error that says what was being done.
    pub(crate) fn while_doing(self, what: impl std::fmt::Display) -> Self {
        let text = format!("{what}: {}", self.message());
        Status { source: self.source, ..Status::error(text) }
    }

    /// The API says that the pod is not there any more, or is bound already.
    pub(crate) fn pod_is_gone(&self) -> bool {
        self.source.as_ref().is_some_and(|error| error.is_not_found() || error.is_conflict())
    }
}
