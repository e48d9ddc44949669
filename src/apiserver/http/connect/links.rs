//! Links of a proxied page, led through the proxy: `/a` becomes `PREFIX/a`.
//!
//! A page is rewritten while it passes: only the values of attributes that hold URLs change, all other bytes
//! stay as they are. Each byte is looked at once when it comes and once more when its tag has ended, however
//! the page is cut: where the reader is in a tag is kept between pieces. A tag that is longer than
//! [`LONGEST_TAG`] is passed on as it is up to its end, so that memory is bounded.
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
    state: State,
    /// The markup that has begun and is not yet decided.
    held: Vec<u8>,
    /// The markup that has begun is too long, and passed on already.
    passing: Option<Passing>,
    /// The element whose content is passed on as it is.
    raw: Option<String>,
    /// How often a byte was looked at.
    #[cfg(test)]
    steps: usize,
}

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// After the bracket.
    Open,
    /// After the bracket and so many bytes of `/ELEMENT`: nothing else ends the text of an element such as
    /// `script`.
    Closing(usize),
    Tag {
        /// The quotation mark that encloses a value.
        quote: Option<u8>,
        /// The last byte that is no space.
        last: u8,
    },
    /// After `<!`, and a dash or not.
    Declaration {
        dash: bool,
    },
    Comment {
        /// How many of them there are in a row, at most two.
        dashes: u8,
    },
    /// In something that ends with the next bracket.
    ToBracket,
}

/// What a byte means for the markup that it follows.
enum Next {
    /// It belongs to it.
    More(State),
    /// It ends it.
    End,
    /// There is no markup, but text which this byte belongs to.
    Text,
}

impl State {
    fn next(self, byte: u8, raw: &str) -> Next {
        match self {
            State::Text => Next::Text,
            State::Open => match byte {
                b'/' | b'?' => Next::More(State::ToBracket),
                b'!' => Next::More(State::Declaration { dash: false }),
                letter if letter.is_ascii_alphabetic() => {
                    Next::More(State::Tag { quote: None, last: letter })
                }
                _ => Next::Text,
            },
            State::Closing(met) => {
                let wanted =
                    if met == 0 { b'/' } else { raw.as_bytes().get(met - 1).copied().unwrap_or(b'>') };
                match byte.eq_ignore_ascii_case(&wanted) {
                    false => Next::Text,
                    true if met == raw.len() => Next::More(State::ToBracket),
                    true => Next::More(State::Closing(met + 1)),
                }
            }
            State::Tag { quote, last } => {
                let quote = match (quote, byte) {
                    (None, b'>') => return Next::End,
                    // Quotation marks count only where a value starts.
                    (None, b'"' | b'\'') if last == b'=' => Some(byte),
                    (Some(open), byte) if open == byte => None,
                    (quote, _) => quote,
                };
                let last = if byte.is_ascii_whitespace() { last } else { byte };
                Next::More(State::Tag { quote, last })
            }
            State::Declaration { dash } => match byte {
                b'>' => Next::End,
                b'-' if dash => Next::More(State::Comment { dashes: 2 }),
                b'-' => Next::More(State::Declaration { dash: true }),
                _ => Next::More(State::ToBracket),
            },
            State::Comment { dashes } => match byte {
                b'>' if dashes == 2 => Next::End,
                b'-' => Next::More(State::Comment { dashes: (dashes + 1).min(2) }),
                _ => Next::More(State::Comment { dashes: 0 }),
            },
            State::ToBracket if byte == b'>' => Next::End,
            State::ToBracket => Next::More(self),
        }
    }
}

/// What is known of markup that was not kept.
struct Passing {
    closes: bool,
    element: String,
    previous: u8,
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        Page {
            links,
            state: State::Text,
            held: Vec::new(),
            passing: None,
            raw: None,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// What can be passed on once a further piece has come.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + 64);
        let mut rest = piece;
        while let Some(byte) = rest.first().copied() {
            if self.state == State::Text {
                let text = rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len());
                self.count(text + 1);
                out.extend_from_slice(&rest[..text]);
                rest = &rest[text..];
                if let Some(after) = rest.strip_prefix(b"<") {
                    self.held.push(b'<');
                    self.state = if self.raw.is_some() { State::Closing(0) } else { State::Open };
                    rest = after;
                }
                continue;
            }
            self.count(1);
            match self.state.next(byte, self.raw.as_deref().unwrap_or("")) {
                Next::Text => {
                    out.append(&mut self.held);
                    self.state = State::Text;
                    continue;
                }
                Next::More(state) => {
                    self.state = state;
                    self.keep(byte, &mut out);
                }
                Next::End => {
                    self.state = State::Text;
                    self.end(byte, &mut out);
                }
            }
            rest = &rest[1..];
        }
        out
    }

    /// What was held back at the end of the page.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn count(&mut self, _steps: usize) {
        #[cfg(test)]
        {
            self.steps += _steps;
        }
    }

    /// A byte of markup that goes on.
    fn keep(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Some(passing) = &mut self.passing {
            passing.previous = byte;
            return out.push(byte);
        }
        self.held.push(byte);
        if self.held.len() >= LONGEST_TAG {
            let closes = self.held.starts_with(b"</");
            self.passing = Some(Passing { closes, element: name_of(&self.held[1..]), previous: byte });
            out.append(&mut self.held);
        }
    }

    /// The byte that ends markup.
    fn end(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Some(passing) = self.passing.take() {
            out.push(byte);
            return self.passed(passing.closes, passing.element, passing.previous == b'/');
        }
        self.held.push(byte);
        let markup = std::mem::take(&mut self.held);
        self.count(markup.len());
        self.markup(&markup, out);
    }

    /// Markup has ended: what comes may be an element's text.
    fn passed(&mut self, closes: bool, element: String, is_empty: bool) {
        if closes {
            self.raw = None;
        }
        if RAW_TEXT.contains(&&*element) && !is_empty {
            self.raw = Some(element);
        }
    }

    /// A tag, or something else between angle brackets.
    fn markup(&mut self, markup: &[u8], out: &mut Vec<u8>) {
        let element = name_of(&markup[1..]);
        let wanted = url_attributes(&element);
        let text = std::str::from_utf8(markup).ok().filter(|_| !wanted.is_empty());
        let rewritten = text.and_then(|text| self.tag(text, wanted));
        out.extend_from_slice(rewritten.as_deref().map_or(markup, str::as_bytes));
        self.passed(markup.starts_with(b"</"), element, markup.ends_with(b"/>"));
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
fn name_of(text: &[u8]) -> String {
    let name = text.iter().take_while(|letter| letter.is_ascii_alphanumeric());
    name.map(|letter| char::from(letter.to_ascii_lowercase())).collect()
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

    #[test]
    fn what_follows_a_long_tag_is_read_as_ever() {
        let long = "x".repeat(2 * LONGEST_TAG);
        for size in [1, 7, 1000, usize::MAX] {
            let mut page = Page::new(links());
            let text = format!(
                "<script a={long}>'<a href=\"/no\">'</script {long}><!-- {long} <a href=\"/no\"> -->\
                 <a href='/{long}<b' class=\"<a href='/no'>\"><a href=\"/a\">"
            );
            let mut out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| page.push(piece)).collect();
            out.extend(page.finish());
            let wanted = text.replace("\"/a\"", "\"/p/proxy/a\"");
            assert!(String::from_utf8(out).unwrap() == wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn each_byte_is_looked_at_a_few_times() {
        let once =
            ["<", "<a", "<a ", "<!--", "<!-", "</", "<a = ", "<a href=\"", "<a href='<a", "-->", "<a>", "é"];
        let first = ["", "<a", "<script>", "<script></scrip", "<!--", "<a href=\"", "<a href=             "];
        for (start, pattern) in first.iter().flat_map(|start| once.map(|pattern| (start, pattern))) {
            let text = format!("{start}{}", pattern.repeat(LONGEST_TAG * 5 / 4 / pattern.len()));
            for size in [7, usize::MAX] {
                let mut page = Page::new(links());
                let mut out: Vec<u8> =
                    text.as_bytes().chunks(size).flat_map(|piece| page.push(piece)).collect();
                out.extend(page.finish());
                assert!(out == text.as_bytes(), "{start}{pattern}…");
                let most = 3 * text.len() + 1;
                assert!(page.steps <= most, "{start}{pattern}… took {} steps for {}", page.steps, text.len());
            }
        }
    }
}
