//! The terminal that a remote session is shown on: raw mode, and its size.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    isatty(rustix::stdio::stdin())
}

/// Tells a warning; its first word is yellow where standard error is a terminal that has colours.
pub(crate) fn warn(text: &str) {
    let term = std::env::var_os("TERM").unwrap_or_default();
    let has_colours =
        isatty(rustix::stdio::stderr()) && term != "dumb" && std::env::var_os("NO_COLOR").is_none();
    let word = if has_colours { "\u{1b}[33;1mWarning:\u{1b}[0m" } else { "Warning:" };
    crate::env::tell(&format!("{word} {text}"));
}

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// The terminal's size; none if standard output is no terminal.
pub(crate) fn size() -> Option<Size> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some(Size { width: size.ws_col, height: size.ws_row })
}

/// Keys go to the other end as they are pressed; the terminal is as it was once this is dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    pub(crate) fn begin() -> io::Result<Raw> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}
