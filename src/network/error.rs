//! What can fail when the network of a node is changed.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed: {message}")]
    Failed { program: String, message: String },
    #[error("cannot set the route to {destination} via {gateway}")]
    Route {
        destination: String,
        gateway: String,
        #[source]
        source: Box<rtnetlink::Error>,
    },
    #[error("the rules of network policies that select the pod are not in place yet")]
    PolicyPending,
    #[error("{0:?} is not a range of addresses")]
    Range(String),
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
