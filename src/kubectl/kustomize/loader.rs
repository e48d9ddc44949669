//! Where files come from: a directory, what is below it, and the directories that it names in turn.
//!
//! Nothing is fetched: remote files and repositories are refused by name.

use std::io::Read;
use std::rc::Rc;

use super::error::{BuildError, Built};
use crate::paths;

/// Bytes that one file may have.
const MAX_FILE: u64 = 64 << 20;
/// Directories that may name each other in a row.
const MAX_NESTING: usize = 100;

#[derive(Debug)]
pub(crate) struct Loader {
    root: String,
    referrer: Option<Rc<Loader>>,
    /// Files must be in or below the root.
    is_restricted: bool,
    nesting: usize,
}

fn not_remote(path: &str) -> BuildError {
    BuildError::told(format!(
        "reading {path:?}: remote files and bases are not offered; download it and name the local copy"
    ))
}

pub(crate) fn is_url(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// What upstream takes for a repository of git.
fn is_repository(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let lower = lower.strip_prefix("git::").unwrap_or(&lower);
    let has_scheme = ["ssh://", "https://", "http://", "file://"].iter().any(|one| lower.starts_with(one));
    let is_github = lower.starts_with("github.com:") || lower.starts_with("github.com/");
    let has_user = lower.split_once('@').is_some_and(|(user, rest)| {
        user.starts_with(|one: char| one.is_ascii_alphabetic())
            && user.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
            && rest.contains([':', '/'])
    });
    has_scheme || has_user || is_github && lower.matches(['/', ':']).count() >= 2
}

fn go_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    let mut letters = plain.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// The directory and, unless it is one, the name of the file in it; links are followed.
fn resolve(path: &str) -> Built<(String, Option<String>)> {
    let absolute = match std::path::absolute(path) {
        Ok(absolute) => paths::clean(&absolute.to_string_lossy()),
        Err(error) => {
            return Err(BuildError::told(format!("abs path error on '{path}' : {}", go_io(&error))));
        }
    };
    let real = std::fs::canonicalize(&absolute).map_err(|error| {
        let at = first_missing(&absolute);
        BuildError::told(format!("evalsymlink failure on '{path}' : lstat {at}: {}", go_io(&error)))
    })?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    if real.is_dir() {
        return Ok((text(&real), None));
    }
    let name = real.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok((real.parent().map(text).unwrap_or_default(), name))
}

/// The first part of a path that is not there.
fn first_missing(path: &str) -> String {
    let mut walked = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        walked.push('/');
        walked.push_str(part);
        if std::fs::metadata(&walked).is_err() {
            break;
        }
    }
    walked
}

fn directory(path: &str) -> Built<String> {
    let confirmed = || {
        if path.is_empty() {
            return Err(BuildError::told("directory path cannot be empty"));
        }
        match resolve(path).map_err(|error| error.doing("not a valid directory"))? {
            (directory, None) => Ok(directory),
            _ => Err(BuildError::told("file is not directory").doing(format!("'{path}'"))),
        }
    };
    confirmed().map_err(|error| error.doing("must build at directory"))
}

fn is_within(path: &str, root: &str) -> bool {
    root == "/" || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

impl Loader {
    pub(crate) fn at(path: &str, is_restricted: bool) -> Built<Rc<Self>> {
        if is_repository(path) {
            return Err(not_remote(path));
        }
        Ok(Rc::new(Loader { root: directory(path)?, referrer: None, is_restricted, nesting: 0 }))
    }

    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The loader of a directory that this one's kustomization names.
    pub(crate) fn below(self: &Rc<Self>, path: &str) -> Built<Rc<Self>> {
        if path.is_empty() {
            return Err(BuildError::told("new root cannot be empty"));
        }
        if path.starts_with('/') {
            return Err(BuildError::told(format!("new root '{path}' cannot be absolute")));
        }
        if is_repository(path) {
            return Err(not_remote(path));
        }
        let root = directory(&paths::join(&self.root, path))?;
        let mut visited = Some(self);
        while let Some(loader) = visited {
            if is_within(&loader.root, &root) {
                return Err(BuildError::told(format!(
                    "cycle detected: candidate root '{root}' contains visited root '{}'",
                    loader.root
                )));
            }
            visited = loader.referrer.as_ref();
        }
        if self.nesting >= MAX_NESTING {
            return Err(BuildError::told(format!(
                "more than {MAX_NESTING} kustomizations name each other in a row"
            )));
        }
        Ok(Rc::new(Loader {
            root,
            referrer: Some(Rc::clone(self)),
            is_restricted: self.is_restricted,
            nesting: self.nesting + 1,
        }))
    }

    pub(crate) fn load(&self, path: &str) -> Built<Vec<u8>> {
        if is_url(path) {
            return Err(not_remote(path));
        }
        let full = if path.starts_with('/') { path.to_string() } else { paths::join(&self.root, path) };
        let full = if self.is_restricted { self.admit(&full)? } else { full };
        read(&full)
    }

    pub(crate) fn load_text(&self, path: &str) -> Built<String> {
        String::from_utf8(self.load(path)?)
            .map_err(|_| BuildError::Malformed("invalid leading UTF-8 octet".to_string()).in_file(path))
    }

    fn admit(&self, path: &str) -> Built<String> {
        let (directory, file) = resolve(path)?;
        let Some(file) = file else {
            return Err(BuildError::told(format!("'{path}' must resolve to a file")));
        };
        if !is_within(&directory, &self.root) {
            return Err(BuildError::told(format!(
                "security; file '{path}' is not in or below '{}'",
                self.root
            )));
        }
        Ok(paths::join(&directory, &file))
    }
}

fn read(path: &str) -> Built<Vec<u8>> {
    let file = std::fs::File::open(path)
        .map_err(|error| BuildError::told(format!("open {path}: {}", go_io(&error))))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| BuildError::told(format!("read {path}: {}", go_io(&error))))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(BuildError::told(format!("read {path}: the file has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
