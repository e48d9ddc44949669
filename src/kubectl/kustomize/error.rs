//! Why a kustomization could not be built, in upstream's words.

use super::node::Kind;

pub(crate) type Built<T> = std::result::Result<T, BuildError>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("{0}")]
    Told(String),
    #[error("MalformedYAMLError: yaml: {0}")]
    Malformed(String),
    #[error("wrong node kind: expected {} but got {}: node contents:\n{contents}", .expected.name(), .found.name())]
    WrongKind { expected: Kind, found: Kind, contents: String },
    /// What was being done, before the reason.
    #[error("{doing}: {source}")]
    While { doing: String, source: Box<BuildError> },
    /// The reason, and the file that it was found in.
    #[error("{source} in File: {file}")]
    InFile { file: String, source: Box<BuildError> },
}

impl BuildError {
    pub(crate) fn told(text: impl Into<String>) -> Self {
        BuildError::Told(text.into())
    }

    pub(crate) fn doing(self, doing: impl Into<String>) -> Self {
        BuildError::While { doing: doing.into(), source: Box::new(self) }
    }

    /// Names the file if it is not YAML.
    pub(crate) fn in_file(self, file: &str) -> Self {
        if self.is_malformed() {
            return BuildError::InFile { file: file.to_string(), source: Box::new(self) };
        }
        self
    }

    pub(crate) fn is_malformed(&self) -> bool {
        match self {
            BuildError::Malformed(_) => true,
            BuildError::While { source, .. } | BuildError::InFile { source, .. } => source.is_malformed(),
            _ => false,
        }
    }

    /// A value stands where a scalar was wanted.
    pub(crate) fn is_no_scalar(&self) -> bool {
        match self {
            BuildError::WrongKind { found, .. } => *found != Kind::Scalar,
            BuildError::While { source, .. } | BuildError::InFile { source, .. } => source.is_no_scalar(),
            _ => false,
        }
    }
}

impl From<BuildError> for crate::error::Error {
    fn from(error: BuildError) -> Self {
        // Some of upstream's texts end a line; whoever prints it ends it, too.
        let text = error.to_string();
        crate::error::Error::Message(text.strip_suffix('\n').unwrap_or(&text).to_string())
    }
}
