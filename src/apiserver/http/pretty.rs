//! JSON for people: the same members in the same order, indented by two spaces.
//!
//! Works on the bytes, so that an object shows `apiVersion`, `kind` and `metadata` first, as it is stored,
//! and on pieces of them, so that a large answer is never in memory as a whole.

/// Indents well-formed JSON.
pub(super) fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    Indenter::default().push(json, &mut out);
    out
}

/// Indents JSON that comes in pieces, cut anywhere.
#[derive(Default)]
pub(super) struct Indenter {
    depth: usize,
    in_string: bool,
    /// The next byte of the string stands for itself.
    escaped: bool,
    /// A bracket was opened, and it is not known yet whether anything is in it.
    opened: bool,
}

impl Indenter {
    pub(super) fn push(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for byte in json.iter().copied() {
            if self.in_string {
                out.push(byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            if byte.is_ascii_whitespace() {
                continue;
            }
            let closes = matches!(byte, b'}' | b']');
            match (std::mem::take(&mut self.opened), closes) {
                // Nothing is in it.
                (true, true) => {}
                (true, false) => {
                    self.depth += 1;
                    self.break_line(out);
                }
                (false, true) => {
                    self.depth = self.depth.saturating_sub(1);
                    self.break_line(out);
                }
                (false, false) => {}
            }
            out.push(byte);
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.opened = true,
                b',' => self.break_line(out),
                b':' => out.push(b' '),
                _ => {}
            }
        }
    }

    /// Whether the document is complete.
    pub(super) fn is_outside(&self) -> bool {
        self.depth == 0 && !self.in_string && !self.opened
    }

    fn break_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}
