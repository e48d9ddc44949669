//! The user's editor on a text, with a head that explains and is left out of the outcome.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

const HEAD: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit. If an error occurs while saving this file will be\n# reopened with the relevant failures.\n#\n";

/// What the user made of a text.
pub(crate) enum Edited {
    Changed(String),
    /// Nothing: the edit is called off.
    Same,
    /// The file is empty, which calls the edit off, too.
    Empty,
}

/// The form of the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// JSON, which can have no head.
    pub(crate) json: bool,
    /// Lines end as on Windows.
    pub(crate) windows: bool,
}

impl Style {
    fn extension(self) -> &'static str {
        if self.json { "json" } else { "yaml" }
    }

    fn written(self, text: &str) -> String {
        if self.windows { text.replace('\n', "\r\n") } else { text.to_string() }
    }
}

fn editor() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    of("KUBE_EDITOR").or_else(|| of("EDITOR")).unwrap_or_else(|| "vi".to_string())
}

/// Lets the user change a text; `reasons` say what was wrong with the last attempt.
pub(crate) fn edit(shown: &str, reasons: &str, style: Style) -> Result<Edited> {
    let text = if style.json { shown.to_string() } else { with_head(shown, reasons) };
    let (path, file) = fresh_file(style)?;
    let edited = in_editor(&path, file, &style.written(&text));
    let _ = std::fs::remove_file(&path);
    let body: String =
        edited?.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    Ok(match body.trim().is_empty() {
        true => Edited::Empty,
        false if body == shown && reasons.is_empty() => Edited::Same,
        false => Edited::Changed(body),
    })
}

/// The text below a head that explains, and that says what was wrong.
fn with_head(shown: &str, reasons: &str) -> String {
    let mut text = HEAD.to_string();
    for line in reasons.lines() {
        text.push_str(&if line == "#" { "#\n".to_string() } else { format!("# {}\n", line.trim_start()) });
    }
    text.push_str(shown);
    text
}

/// Keeps what the user wrote, as it could not be saved on the server.
pub(crate) fn keep(body: &str, style: Style) -> Result<PathBuf> {
    let (path, mut file) = fresh_file(style)?;
    file.write_all(style.written(body).as_bytes())?;
    Ok(path)
}

/// A file that nobody else has made or can read: secrets are edited, too.
fn fresh_file(style: Style) -> Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let name = format!("kubectl-edit-{}-{number}.{}", std::process::id(), style.extension());
        number += 1;
        let path = std::env::temp_dir().join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn in_editor(path: &Path, mut file: File, text: &str) -> Result<String> {
    file.write_all(text.as_bytes())?;
    drop(file);
    let editor = editor();
    // As kubectl, so that an editor with arguments works.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(std::fs::read_to_string(path)?),
        Ok(status) => {
            Err(Error::message(format!("there was a problem with the editor {editor:?}: {status}")))
        }
        Err(error) => Err(Error::message(format!("there was a problem with the editor {editor:?}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
