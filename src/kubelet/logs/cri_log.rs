//! The log format of CRI runtimes: `TIME STREAM TAG CONTENT`, where the tag `P` means that the line goes on
//! in the next entry.

use jiff::Timestamp;

/// Which entries of a log are wanted, and how they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail: Option<usize>,
    pub(crate) since: Option<Timestamp>,
    /// Bytes of output.
    pub(crate) limit: Option<usize>,
    /// `stdout` or `stderr` alone.
    pub(crate) stream: Option<&'static str>,
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) partial: bool,
    pub(crate) content: &'a [u8],
}

/// Parses a line without its newline; `None` if it is not in the format.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = std::str::from_utf8(parts.next()?).ok()?;
    let content = parts.next().unwrap_or_default();
    let known = matches!(stream, "stdout" | "stderr") && !time.is_empty();
    known.then(|| Entry { time, stream, partial: tags.split(':').next() == Some("P"), content })
}

/// Turns lines of a log file into what the client sees.
#[derive(Debug)]
pub(crate) struct Writer {
    options: LogOptions,
    /// The next content begins a line.
    fresh: bool,
    left: Option<usize>,
}

impl Writer {
    pub(crate) fn new(options: LogOptions) -> Self {
        Writer { left: options.limit, options, fresh: true }
    }

    /// Nothing more may be written.
    pub(crate) fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// Appends what a line (without its newline) is to the client.
    pub(crate) fn write(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(entry) = parse(line) else { return };
        if self.options.stream.is_some_and(|stream| stream != entry.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && entry.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.fresh && self.options.timestamps {
            // The runtime leaves out trailing zeros; what clients see has nine digits.
            let stamp = match entry.time.parse::<Timestamp>() {
                Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string(),
                Err(_) => entry.time.to_string(),
            };
            self.put(stamp.as_bytes(), out);
            self.put(b" ", out);
        }
        self.put(entry.content, out);
        if !entry.partial {
            self.put(b"\n", out);
        }
        self.fresh = !entry.partial;
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let length = self.left.map_or(bytes.len(), |left| left.min(bytes.len()));
        out.extend_from_slice(&bytes[..length]);
        if let Some(left) = &mut self.left {
            *left -= length;
        }
    }
}

#[cfg(test)]
mod tests;
