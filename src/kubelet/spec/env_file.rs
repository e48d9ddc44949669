//! Environment files (`fileKeyRef`): `NAME='value'` lines, a strict part of the shell's syntax.
//!
//! What is in the quotes is taken as it is, over several lines too; `#` begins a comment where a line or the
//! rest of one may be anything. Everything else is an error, so that a file means the same to a shell.

/// Why a file is none, and in which line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvFileError {
    #[error("invalid environment variable format at line {0}: missing '='")]
    NoEquals(usize),
    #[error("invalid environment variable format at line {0}: empty variable name")]
    NoName(usize),
    #[error("invalid environment variable format at line {0}: whitespace before '=' is not allowed")]
    Space(usize),
    #[error("invalid environment variable format at line {0}: value must be enclosed in single quotes")]
    NoQuote(usize),
    #[error("invalid environment variable format at line {0}: unexpected content after closing quote")]
    Rest(usize),
    #[error("invalid environment variable format starting at line {0}: unclosed single quote")]
    Open(usize),
}

/// The value that a file gives a name. What comes after it is not looked at.
pub(crate) fn value(text: &str, key: &str) -> Result<Option<String>, EnvFileError> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once('=').ok_or(EnvFileError::NoEquals(number))?;
        let bare = name.trim_end_matches(BLANK);
        if bare.is_empty() {
            return Err(EnvFileError::NoName(number));
        }
        if bare != name {
            return Err(EnvFileError::Space(number));
        }
        if rest.starts_with(BLANK) {
            // As in a shell, the name is empty and what follows is something else.
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let mut rest = rest.strip_prefix('\'').ok_or(EnvFileError::NoQuote(number))?;
        let (mut found, mut at) = (String::new(), number);
        loop {
            if let Some((inside, after)) = rest.split_once('\'') {
                found.push_str(inside);
                let after = after.trim_start_matches(BLANK);
                if !after.is_empty() && !after.starts_with('#') {
                    return Err(EnvFileError::Rest(at));
                }
                break;
            }
            found.push_str(rest);
            found.push('\n');
            (at, rest) = lines.next().ok_or(EnvFileError::Open(number))?;
        }
        if name == key {
            return Ok(Some(found).filter(|found| !found.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
