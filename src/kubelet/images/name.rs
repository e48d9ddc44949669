//! Image names as docker reads them: `busybox` is `docker.io/library/busybox:latest`.

/// Why a name is no image name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {0:?}: invalid reference format")]
pub(crate) struct InvalidName(pub(crate) String);

/// A name in its parts, with docker's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    /// `docker.io`, `localhost:5000`.
    pub(crate) domain: String,
    /// `library/busybox`.
    pub(crate) path: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl ImageName {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(text.to_string());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_string())),
            None => (text, None),
        };
        if digest.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err(invalid());
        }
        // A colon after the last slash starts a tag; before it, a port.
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((name, tag)) => (format!("{}{name}", &rest[..last]), Some(tag.to_string())),
            None => (rest.to_string(), None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
                (first.to_string(), path.to_string())
            }
            _ => ("docker.io".to_string(), name.clone()),
        };
        let domain = if domain == "index.docker.io" { "docker.io".to_string() } else { domain };
        let path =
            if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        if !path.split('/').all(is_component) || !is_domain(&domain) || path.len() + domain.len() > 255 {
            return Err(invalid());
        }
        Ok(ImageName { domain, path, tag, digest })
    }

    /// Without tag and digest: `docker.io/library/busybox`.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// With the tag `latest` if it has neither tag nor digest.
    pub(crate) fn canonical(&self) -> String {
        let mut text = self.repository();
        match (&self.tag, &self.digest) {
            (None, None) => text.push_str(":latest"),
            (Some(tag), _) => {
                text.push(':');
                text.push_str(tag);
            }
            _ => {}
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest);
        }
        text
    }
}

fn has_upper(text: &str) -> bool {
    text.chars().any(|one| one.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, port)| {
        if !port.is_empty() && port.bytes().all(|one| one.is_ascii_digit()) { host } else { text }
    });
    !host.is_empty() && host.bytes().all(|one| one.is_ascii_alphanumeric() || b".-[]:".contains(&one))
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    let mut separator = String::new();
    for byte in bytes {
        if alphanumeric(*byte) {
            let fine = matches!(separator.as_str(), "" | "." | "_" | "__")
                || separator.bytes().all(|one| one == b'-');
            if !fine {
                return false;
            }
            separator.clear();
        } else if b"._-".contains(byte) {
            separator.push(char::from(*byte));
        } else {
            return false;
        }
    }
    true
}

fn is_tag(text: &str) -> bool {
    let word = |one: u8| one.is_ascii_alphanumeric() || one == b'_';
    let mut bytes = text.bytes();
    text.len() <= 128
        && bytes.next().is_some_and(word)
        && bytes.all(|one| word(one) || one == b'.' || one == b'-')
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|one| one.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
