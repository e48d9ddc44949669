//! Rules for names: DNS labels, subdomains and path segments, with apimachinery's messages; and generated names.

use rand::Rng;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
    and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Upstream's alphabet of generated suffixes: no vowels, nothing that looks alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const LONGEST_BASE: usize = 63 - SUFFIX;

/// `base` and five random characters; long bases are cut so that the whole is a DNS label.
pub fn generate(base: &str) -> String {
    let mut end = base.len().min(LONGEST_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_string();
    let mut random = rand::rng();
    name.extend((0..SUFFIX).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])));
    name
}

fn masked(name: &str, prefix: bool) -> String {
    // A prefix ends where the generated suffix goes on, so a trailing dash is as good as a letter.
    match name.strip_suffix('-') {
        Some(rest) if prefix => format!("{rest}a"),
        _ => name.to_string(),
    }
}

fn label_shaped(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn length(name: &str, most: usize) -> Option<String> {
    (name.len() > most).then(|| format!("must be no more than {most} bytes"))
}

/// RFC 1123 subdomain, up to 253 characters: most kinds.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut faults: Vec<String> = length(&name, 253).into_iter().collect();
    if !name.split('.').all(label_shaped) {
        faults.push(SUBDOMAIN.to_string());
    }
    faults
}

/// RFC 1123 label, up to 63 characters: namespaces.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut faults: Vec<String> = length(&name, 63).into_iter().collect();
    if !label_shaped(&name) {
        faults.push(LABEL.to_string());
    }
    faults
}

/// RFC 1035 label: services.
pub fn dns_label_1035(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut faults: Vec<String> = length(&name, 63).into_iter().collect();
    if !label_shaped(&name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        faults.push(LABEL_1035.to_string());
    }
    faults
}

/// Anything that can stand between slashes of a URL: RBAC kinds.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if !prefix && (name == "." || name == "..") {
        faults.push(format!("may not be '{name}'"));
    }
    for illegal in ['/', '%'] {
        if name.contains(illegal) {
            faults.push(format!("may not contain '{illegal}'"));
        }
    }
    faults
}
