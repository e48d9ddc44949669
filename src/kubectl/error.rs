//! What a command ends with when it fails, in kubectl's words.

use std::fmt;
use std::io;

use api::ApiError;
use client::https::{ConfigError, RequestError};
use client::kubeconfig::KubeconfigError;

use api::jsonpath::JsonPathError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub(crate) enum Error {
    /// The server refused. `doing` is put before the message: `error when creating "x.yaml"`.
    Api {
        doing: String,
        error: ApiError,
    },
    /// No server answered.
    Request(RequestError),
    /// `error: …`.
    Message(String),
    /// A mistake in the arguments: `error: …` and a pointer to the help of this command.
    Usage {
        message: String,
        command: String,
    },
    /// Printed as it is.
    Raw(String),
    Many(Vec<Error>),
    /// Everything was said; only the exit code is left.
    Exit(i32),
    Io(io::Error),
}

impl Error {
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Error::Message(text.into())
    }

    pub(crate) fn usage(command: &str, text: impl Into<String>) -> Self {
        Error::Usage { message: text.into(), command: command.to_string() }
    }

    /// Says what was being done when the server refused.
    pub(crate) fn doing(self, what: impl Into<String>) -> Self {
        match self {
            Error::Api { doing, error } if doing.is_empty() => Error::Api { doing: what.into(), error },
            other => other,
        }
    }

    pub(crate) fn api(&self) -> Option<&ApiError> {
        match self {
            Error::Api { error, .. } => Some(error),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.api().is_some_and(ApiError::is_not_found)
    }

    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Error::Exit(code) => *code,
            _ => 1,
        }
    }

    /// Nobody reads any more (`kubectl … | head`).
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// One error for many: itself if it is alone.
pub(crate) fn collect(mut errors: Vec<Error>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Many(errors)),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Api { doing, error } => f.write_str(&api_text(doing, error)),
            Error::Request(error) => f.write_str(&request_text(error)),
            Error::Message(text) => write!(f, "error: {text}"),
            Error::Usage { message, command } => {
                write!(f, "error: {message}\nSee '{command} -h' for help and examples")
            }
            Error::Raw(text) => f.write_str(text),
            Error::Many(errors) => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("\n"))
            }
            Error::Exit(_) => Ok(()),
            Error::Io(error) => write!(f, "error: {error}"),
        }
    }
}

fn api_text(doing: &str, error: &ApiError) -> String {
    if error.reason() == "Invalid" {
        return invalid_text(error);
    }
    let about = if doing.is_empty() { String::new() } else { format!("{doing}: ") };
    match error.reason() {
        "" => format!("Error from server: {about}{}", error.message()),
        "Unauthorized" if doing.is_empty() => {
            "error: You must be logged in to the server (Unauthorized)".to_string()
        }
        reason => format!("Error from server ({reason}): {about}{}", error.message()),
    }
}

/// One line, or a list with a star for each cause.
fn invalid_text(error: &ApiError) -> String {
    let Some(details) = &error.status().details else {
        return format!("The request is invalid: {}", error.message());
    };
    let causes = details.causes.as_deref().unwrap_or_default();
    let (kind, name) = (details.kind.as_deref().unwrap_or(""), details.name.as_deref().unwrap_or(""));
    let head = if kind.is_empty() && name.is_empty() {
        "The request is invalid".to_string()
    } else {
        format!("The {kind} {name:?} is invalid")
    };
    let lines: Vec<String> = causes
        .iter()
        .map(|cause| {
            format!("{}: {}", cause.field.as_deref().unwrap_or(""), cause.message.as_deref().unwrap_or(""))
        })
        .collect();
    match &lines[..] {
        [] if kind.is_empty() && name.is_empty() => format!("{head}: {}", error.message()),
        [] => head,
        [one] => format!("{head}: {one}"),
        many => {
            let starred: Vec<String> = many.iter().map(|line| format!("* {line}")).collect();
            format!("{head}: \n{}", starred.join("\n"))
        }
    }
}

fn request_text(error: &RequestError) -> String {
    match error {
        RequestError::Connect { server, source } if source.kind() == io::ErrorKind::ConnectionRefused => {
            format!(
                "The connection to the server {server} was refused - did you specify the right host or port?"
            )
        }
        RequestError::TokenFile { .. } | RequestError::Invalid { .. } => format!("error: {error}"),
        RequestError::Tls { source, .. } => {
            format!(
                "Unable to connect to the server: tls: failed to verify certificate or agree on TLS: {source}"
            )
        }
        other => format!("Unable to connect to the server: {other}"),
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Error::Api { doing: String::new(), error }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Error::Request(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<KubeconfigError> for Error {
    fn from(error: KubeconfigError) -> Self {
        match error {
            KubeconfigError::NoContext(name) => Error::Raw(format!(
                "Error in configuration: context was not found for specified context: {name}"
            )),
            other => Error::Message(other.to_string()),
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Message(error.to_string())
    }
}

impl From<JsonPathError> for Error {
    fn from(error: JsonPathError) -> Self {
        Error::Message(error.to_string())
    }
}

impl From<crate::sort::SortError> for Error {
    fn from(error: crate::sort::SortError) -> Self {
        Error::Message(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Message(error.to_string())
    }
}

#[cfg(test)]
mod tests;
