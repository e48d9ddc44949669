//! Links of a proxied page, led through the proxy: `/a` becomes `PREFIX/a`.
//!
//! A page is rewritten while it passes: only the values of attributes that hold URLs change, all other bytes
//! stay as they are. A tag that is longer than [`LONGEST_TAG`] is passed on as it is, so that memory is
//! bounded.
//!
//! Absent: URLs in scripts, in style sheets and in compressed pages.

/// Longer tags are not looked at.
const LONGEST_TAG: usize = 64 * 1024;
/// Elements whose content is text up to their end tag.
const RAW_TEXT: [&str; 9] =
    ["iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp"];

/// Attributes of an element that hold URLs.
fn url_attributes(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "link" | "base" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// How URLs of a backend are seen by the client.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// Path of the proxy, without a slash at its end.
    pub(super) prefix: String,
    /// Names under which pages mean the backend itself: its address, and the host that the client asked for.
    pub(super) own_hosts: Vec<String>,
}

impl Links {
    /// The URL for the client. Relative ones and those of other hosts stay.
    pub(super) fn rewritten(&self, url: &str) -> Option<String> {
        let path = match url.split_once("://") {
            Some(("http" | "https", rest)) => self.on_own_host(rest)?,
            _ => match url.strip_prefix("//") {
                Some(rest) => self.on_own_host(rest)?,
                None => url,
            },
        };
        let is_below = path.strip_prefix(&self.prefix);
        let is_below = is_below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        match path {
            _ if is_below => Some(path.to_string()),
            _ if path.starts_with('/') => Some(format!("{}{path}", self.prefix)),
            _ => None,
        }
    }

    /// The path of a URL without its scheme, if it names this backend.
    fn on_own_host<'a>(&self, rest: &'a str) -> Option<&'a str> {
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        self.own_hosts.iter().any(|own| own == host).then_some(if path.is_empty() { "/" } else { path })
    }
}

/// Rewrites a page that comes in pieces.
pub(super) struct Page {
    links: Links,
    /// What has come and is not yet decided.
    held: Vec<u8>,
    /// The element whose content is passed on as it is.
    raw: Option<String>,
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        Page { links, held: Vec::new(), raw: None }
    }

    /// What can be passed on once a further piece has come.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(held.len() + 64);
        let mut rest: &[u8] = &held;
        while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            match self.end_of_markup(rest) {
                Some(end) => {
                    self.markup(&rest[..end], &mut out);
                    rest = &rest[end..];
                }
                None if rest.len() < LONGEST_TAG => {
                    self.held = rest.to_vec();
                    return out;
                }
                None => {
                    out.push(b'<');
                    rest = &rest[1..];
                }
            }
        }
        out.extend_from_slice(rest);
        out
    }

    /// What was held back at the end of the page.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Where what starts with this bracket ends; none if that has not come.
    fn end_of_markup(&self, text: &[u8]) -> Option<usize> {
        let Some(raw) = &self.raw else { return end_of_markup(text) };
        // Only its own end tag ends the text of an element such as `script`.
        let closing = format!("</{raw}");
        let length = closing.len().min(text.len());
        if !text[..length].eq_ignore_ascii_case(&closing.as_bytes()[..length]) {
            return Some(1);
        }
        if length < closing.len() { None } else { end_of_markup(text) }
    }

    /// A tag, or something else between angle brackets.
    fn markup(&mut self, markup: &[u8], out: &mut Vec<u8>) {
        let Ok(text) = std::str::from_utf8(markup) else { return out.extend_from_slice(markup) };
        if text.starts_with("</") {
            self.raw = None;
        }
        let element = name_of(&text[1..]);
        let wanted = url_attributes(&element);
        let rewritten = if wanted.is_empty() { None } else { self.tag(text, wanted) };
        out.extend_from_slice(rewritten.as_deref().unwrap_or(text).as_bytes());
        if RAW_TEXT.contains(&&*element) && !text.ends_with("/>") {
            self.raw = Some(element);
        }
    }

    /// A tag with its URLs rewritten.
    fn tag(&self, tag: &str, wanted: &[&str]) -> Option<String> {
        let mut changed: Option<(String, usize)> = None;
        for (name, value) in attributes(tag) {
            let given = &tag[value.clone()];
            if !wanted.contains(&&*name.to_ascii_lowercase()) {
                continue;
            }
            if let Some(url) = self.links.rewritten(given) {
                let (text, until) = changed.get_or_insert_default();
                text.push_str(&tag[*until..value.start]);
                text.push_str(&url);
                *until = value.end;
            }
        }
        let (mut text, until) = changed?;
        text.push_str(&tag[until..]);
        Some(text)
    }
}

/// The element's name at the start of a tag.
fn name_of(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase()
}

/// Where a tag or a comment ends that starts at the beginning; none if its end has not come.
fn end_of_markup(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"<!--") {
        return text.windows(3).position(|three| three == b"-->").map(|at| at + 3);
    }
    match text.get(1)? {
        letter if letter.is_ascii_alphabetic() => {}
        b'/' | b'!' | b'?' => return text.iter().position(|byte| *byte == b'>').map(|at| at + 1),
        // No tag: a lonely bracket.
        _ => return Some(1),
    }
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            // Quotation marks count only where a value starts.
            (None, b'"' | b'\'') if text[..at].trim_ascii_end().ends_with(b"=") => quote = Some(*byte),
            (None, b'>') => return Some(at + 1),
            (None, _) => {}
        }
    }
    None
}

/// Names of a tag's attributes, and where their values are.
fn attributes(tag: &str) -> Vec<(&str, std::ops::Range<usize>)> {
    let bytes = tag.as_bytes();
    let mut found = Vec::new();
    let skip = |mut at: usize, while_it: &dyn Fn(u8) -> bool| {
        while at < bytes.len() && while_it(bytes[at]) {
            at += 1;
        }
        at
    };
    let is_space = |byte: u8| byte.is_ascii_whitespace();
    let mut at = skip(1, &|byte| !byte.is_ascii_whitespace() && byte != b'>');
    while at < bytes.len() {
        let start = skip(at, &|byte| byte.is_ascii_whitespace() || byte == b'/');
        let end = skip(start, &|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'>' | b'/'));
        let equals = skip(end, &is_space);
        if bytes.get(equals) != Some(&b'=') {
            at = if end > start { end } else { end + 1 };
            continue;
        }
        let value = skip(equals + 1, &is_space);
        let (from, to) = match bytes.get(value) {
            Some(quote @ (b'"' | b'\'')) => (value + 1, skip(value + 1, &|byte| byte != *quote)),
            _ => (value, skip(value, &|byte| !byte.is_ascii_whitespace() && byte != b'>')),
        };
        found.push((&tag[start..end], from..to));
        at = to + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { prefix: "/p/proxy".into(), own_hosts: vec!["10.42.0.7:80".into(), "localhost:8001".into()] }
    }

    #[test]
    fn urls_of_the_backend_lead_through_the_proxy() {
        for (given, wanted) in [
            ("/", Some("/p/proxy/")),
            ("/a?b#c", Some("/p/proxy/a?b#c")),
            ("http://10.42.0.7:80/a/", Some("/p/proxy/a/")),
            ("//localhost:8001", Some("/p/proxy/")),
            ("/p/proxy/a", Some("/p/proxy/a")),
            ("/p/proxy", Some("/p/proxy")),
            ("/p/proxyless", Some("/p/proxy/p/proxyless")),
            ("http://10.42.0.7:80/p/proxy/a", Some("/p/proxy/a")),
            ("a/b", None),
            ("", None),
            ("#top", None),
            ("mailto:a@b", None),
            ("https://example.com/a", None),
            ("//example.com/a", None),
        ] {
            assert_eq!(links().rewritten(given).as_deref(), wanted, "{given}");
        }
    }

    const PAGE: &str = "<!DOCTYPE html><html><!-- <a href=\"/no\"> --><title>a < b <a href='/no'></title>\
        <A class=x HREF='/a' title=\"x > y\">1 < 2</A><img src=/i.png alt=''/><a href = \"b\">b</a>\
        <script src=\"/s.js\">if (a < b) { x = '<a href=\"/no\">'; }</script><p data-href=\"/no\">\
        <a href=\"//10.42.0.7:80/é\">é</a><form action=\"/f\" method=post><a disabled href=\"/z\"></a>";
    const REWRITTEN: &str = "<!DOCTYPE html><html><!-- <a href=\"/no\"> --><title>a < b <a href='/no'></title>\
        <A class=x HREF='/p/proxy/a' title=\"x > y\">1 < 2</A><img src=/p/proxy/i.png alt=''/><a href = \"b\">b</a>\
        <script src=\"/p/proxy/s.js\">if (a < b) { x = '<a href=\"/no\">'; }</script><p data-href=\"/no\">\
        <a href=\"/p/proxy/é\">é</a><form action=\"/p/proxy/f\" method=post><a disabled href=\"/p/proxy/z\"></a>";

    #[test]
    fn a_page_is_rewritten_wherever_it_is_cut() {
        for size in 1..PAGE.len() {
            let mut page = Page::new(links());
            let mut out: Vec<u8> = PAGE.as_bytes().chunks(size).flat_map(|piece| page.push(piece)).collect();
            out.extend(page.finish());
            assert_eq!(String::from_utf8(out).unwrap(), REWRITTEN, "in pieces of {size}");
        }
    }

    #[test]
    fn a_tag_without_an_end_is_not_kept() {
        let mut page = Page::new(links());
        let endless = format!("<a href=\"{}", "x".repeat(3 * LONGEST_TAG));
        let mut out = page.push(endless.as_bytes());
        assert!(page.held.len() < LONGEST_TAG);
        out.extend(page.push(b"\"><a href=\"/a\">"));
        out.extend(page.finish());
        assert_eq!(String::from_utf8(out).unwrap(), format!("{endless}\"><a href=\"/p/proxy/a\">"));
    }
}
