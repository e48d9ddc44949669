//! `-f`: objects from files, directories, URLs and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::kustomize;
use crate::remote_file;

/// The flags that name files.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FileArgs {
    /// File, directory or - for standard input, may be repeated
    #[arg(short = 'f', long = "filename", value_delimiter = ',')]
    pub(crate) files: Vec<String>,
    /// Process a kustomization directory; cannot be used together with -f or -R
    #[arg(short = 'k', long)]
    pub(crate) kustomize: Option<String>,
    /// Go down into directories of -f
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

/// One object and the file it stood in (`STDIN` for standard input).
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) source: String,
    pub(crate) object: Value,
}

const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

impl FileArgs {
    pub(crate) fn given(&self) -> bool {
        !self.files.is_empty() || self.kustomize.is_some()
    }

    /// All objects, in the order of files and of documents in them; lists are taken apart.
    pub(crate) fn read(&self) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        if let Some(directory) = &self.kustomize {
            if !self.files.is_empty() {
                return Err(Error::message("only one of -f or -k can be specified"));
            }
            if self.recursive {
                return Err(Error::message("the -k flag can't be used with -f or -R"));
            }
            let options = kustomize::Options { reorder: Some(true), ..kustomize::Options::default() };
            for object in kustomize::build(directory, &options, crate::env::tell)? {
                push(directory, object.tree, &mut manifests)?;
            }
        }
        for name in &self.files {
            if name == "-" {
                let mut text = String::new();
                std::io::stdin().lock().read_to_string(&mut text)?;
                documents("STDIN", &text, &mut manifests)?;
            } else if name.starts_with("http://") || name.starts_with("https://") {
                documents(name, &remote_file::read(name)?, &mut manifests)?;
            } else {
                for path in self.paths(Path::new(name))? {
                    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
                    documents(&path.display().to_string(), &text, &mut manifests)?;
                }
            }
        }
        if manifests.is_empty() && self.given() {
            return Err(Error::message("no objects passed to command"));
        }
        Ok(manifests)
    }

    fn paths(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::message(format!(
                    "the path {:?} does not exist",
                    path.display().to_string()
                )));
            }
            Err(error) => return Err(unreadable(path, &error)),
        };
        if !metadata.is_dir() {
            return Ok(vec![path.to_path_buf()]);
        }
        let mut found = Vec::new();
        self.walk(path, &mut found)?;
        if found.is_empty() {
            let shown = path.display();
            return Err(Error::message(format!(
                "error reading [{shown}]: recognized file extensions are [.json .yaml .yml]"
            )));
        }
        Ok(found)
    }

    fn walk(&self, directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
        let mut paths =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                if self.recursive {
                    self.walk(&path, found)?;
                }
            } else if path
                .extension()
                .and_then(|one| one.to_str())
                .is_some_and(|one| EXTENSIONS.contains(&one))
            {
                found.push(path);
            }
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::message(format!("open {}: {error}", path.display()))
}

/// Splits a text into documents and takes lists apart.
fn documents(source: &str, text: &str, manifests: &mut Vec<Manifest>) -> Result<()> {
    for document in
        parse_documents(text).map_err(|error| Error::message(format!("error parsing {source}: {error}")))?
    {
        let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match document.get("items").and_then(Value::as_array) {
            Some(items) if is_list => {
                for item in items {
                    push(source, item.clone(), manifests)?;
                }
            }
            _ => push(source, document, manifests)?,
        }
    }
    Ok(())
}

fn push(source: &str, object: Value, manifests: &mut Vec<Manifest>) -> Result<()> {
    if !object.is_object() {
        return Err(Error::message(format!("error parsing {source}: it holds no object")));
    }

    let unset = |field: &&str| object[*field].as_str().is_none_or(str::is_empty);
    let missing: Vec<String> = ["apiVersion", "kind"]
        .iter()
        .filter(|field| unset(field))
        .map(|field| format!("{field} not set"))
        .collect();
    let faults = match &missing[..] {
        [] => {
            manifests.push(Manifest { source: source.to_string(), object });
            return Ok(());
        }
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(Error::message(format!(
        "error validating {source:?}: error validating data: {faults}; if you choose to ignore these errors, turn validation off with --validate=false"
    )))
}

/// A document that cannot be read, in kubectl's words.
#[derive(Debug, thiserror::Error)]
#[error("error converting YAML to JSON: yaml: {0}")]
pub(crate) struct YamlError(String);

/// JSON values one after the other, or YAML documents. Empty documents are passed over.
pub(crate) fn parse_documents(text: &str) -> std::result::Result<Vec<Value>, YamlError> {
    let trimmed = text.trim_start_matches('\u{feff}').trim_start();
    if trimmed.starts_with('{') {
        let json: std::result::Result<Vec<Value>, _> =
            serde_json::Deserializer::from_str(trimmed).into_iter().collect();
        if let Ok(values) = json {
            return Ok(values);
        }
    }
    let mut values = Vec::new();
    for document in split_yaml(text) {
        let value = parse_yaml(&document)?;
        if !value.is_null() {
            values.push(value);
        }
    }
    Ok(values)
}

/// Splits at lines that are `---`, as kubectl does before parsing.
pub(crate) fn split_yaml(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.trim_start_matches('\u{feff}').lines() {
        let is_separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '#']));
        if is_separator {
            documents.push(String::new());
            continue;
        }
        if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let has_content = |document: &String| {
        document.lines().any(|line| {
            !line.trim().is_empty() && !line.trim_start().starts_with('#') && line.trim() != "..."
        })
    };
    documents.retain(has_content);
    documents
}

pub(crate) fn parse_yaml(text: &str) -> std::result::Result<Value, YamlError> {
    match api::schema::decode_yaml(text.as_bytes()) {
        Ok((value, _)) => Ok(value),
        Err(error) => {
            let first = error.message().lines().next().unwrap_or_default();
            let bare =
                first.trim_start_matches("error converting YAML to JSON: ").trim_start_matches("error: ");
            Err(YamlError(bare.to_string()))
        }
    }
}

#[cfg(test)]
mod tests;
