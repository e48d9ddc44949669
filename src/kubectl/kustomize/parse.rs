//! YAML into nodes: documents, aliases and merge keys, within bounds.
//!
//! An alias stands for a copy of what it names. So that a few lines cannot stand for more than the machine
//! has, the values of a text are counted with their copies.

use granit_parser::{Event, Options, Parser, ScalarStyle};

use super::error::{BuildError, Built};
use super::node::{Kind, Node, Scalar, Tag};
use super::scalar;

/// Levels of lists and maps in each other. go-yaml allows 10,000; the stack of a thread sets this one.
const MAX_DEPTH: usize = 200;
/// Values that one text may have, copies included.
const MAX_VALUES: usize = 4_000_000;

/// The documents of a file, as upstream splits them: at lines that begin with `---`.
pub(crate) fn documents(text: &str) -> Built<Vec<Node>> {
    let text = text.replace("\r\n", "\n");
    let mut documents = Vec::new();
    for part in split(&text)? {
        let parsed = document(part)?;
        if let Some(node) = parsed.filter(|node| !node.is_null()) {
            documents.push(node);
        }
    }
    Ok(documents)
}

fn split(text: &str) -> Built<Vec<&str>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find("\n---") {
        let at = from + found;
        let Some(length) = text[at + 4..].find('\n') else { break };
        let rest = text[at + 4..at + 4 + length].trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(BuildError::told(format!("invalid document separator: ---{rest}")));
        }
        parts.push(&text[start..at]);
        // The line end of one separator does not begin another.
        start = at + 4 + length + 1;
        from = start;
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// The first document of a text; nothing if there is none.
pub(crate) fn document(text: &str) -> Built<Option<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Another crate may switch the feature on that makes comments events.
    let mut options = Options::default();
    options.set_emit_comments(false);
    let events = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { events, anchors: Vec::new(), values: 0 };
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(None),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => return reader.node(event, 0).map(Some),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: Vec<(usize, Node)>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Built<Event<'a>> {
        match self.events.next() {
            // What is left out has no place of its own, and is told as a null that was written.
            Some(Ok((Event::Scalar(_, ScalarStyle::Plain, anchor, None), span)))
                if span.start.index() == span.end.index() =>
            {
                Ok(Event::Scalar("".into(), ScalarStyle::Plain, anchor, None))
            }
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => {
                let line = error.marker().line();
                let told = error.info();
                let problem = told.find("did not find").map_or(&*told, |at| &told[at..]);
                Err(BuildError::Malformed(format!("line {line}: {problem}")))
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn count(&mut self, values: usize) -> Built<()> {
        self.values += values;
        if self.values > MAX_VALUES {
            return Err(BuildError::Malformed("document contains excessive aliasing".to_string()));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Built<Node> {
        if depth > MAX_DEPTH {
            return Err(BuildError::Malformed(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        self.count(1)?;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let named = tag.as_ref().and_then(|tag| scalar::named_tag(tag.suffix()));
                let tag = match (named, tag) {
                    (Some(named), _) => named,
                    (None, Some(_)) => Tag::Text,
                    (None, None) if plain => scalar::resolve(&text).tag(),
                    (None, None) => Tag::Text,
                };
                let node = Node::Scalar(Scalar { text: text.into_owned(), tag, plain });
                self.keep(anchor, &node)?;
                Ok(node)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                let node = Node::List(items);
                self.keep(anchor, &node)?;
                Ok(node)
            }
            Event::MappingStart(_, anchor, _) => {
                let mut members = Vec::new();
                loop {
                    match self.next()? {
                        Event::MappingEnd => break,
                        event => {
                            let Node::Scalar(key) = self.node(event, depth + 1)? else {
                                return Err(BuildError::Malformed("invalid map key".to_string()));
                            };
                            let value = self.next()?;
                            members.push((key, self.node(value, depth + 1)?));
                        }
                    }
                }
                let node = Node::Map(merged(members)?);
                self.keep(anchor, &node)?;
                Ok(node)
            }
            Event::Alias(anchor) => {
                let named = self.anchors.iter().rev().find(|(one, _)| *one == anchor);
                let Some((_, node)) = named else {
                    return Err(BuildError::Malformed("unknown anchor referenced".to_string()));
                };
                let node = node.clone();
                self.count(size(&node))?;
                Ok(node)
            }
            _ => Err(BuildError::Malformed("did not find expected node content".to_string())),
        }
    }

    fn keep(&mut self, anchor: usize, node: &Node) -> Built<()> {
        if anchor != 0 {
            self.count(size(node))?;
            self.anchors.push((anchor, node.clone()));
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::Scalar(_) => 1,
        Node::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Map(members) => 1 + members.iter().map(|(_, value)| 1 + size(value)).sum::<usize>(),
    }
}

/// Takes `<<` out: the members of what it names come first, the map's own override them.
fn merged(members: Vec<(Scalar, Node)>) -> Built<Vec<(Scalar, Node)>> {
    let merges = members.iter().filter(|(key, _)| key.tag == Tag::Merge).count();
    match merges {
        0 => return Ok(members),
        1 => {}
        _ => return Err(BuildError::told("duplicate merge key")),
    }
    let mut own = Vec::new();
    let mut sources: Vec<Node> = Vec::new();
    for (key, value) in members {
        match (key.tag, value) {
            (Tag::Merge, map @ Node::Map(_)) => sources.push(map),
            (Tag::Merge, Node::List(items)) => {
                if items.iter().any(|one| one.kind() == Kind::List) {
                    return Err(BuildError::told("invalid map merge: received a nested sequence"));
                }
                // Earlier ones win, so they come last.
                sources.extend(items.into_iter().rev());
            }
            (Tag::Merge, _) => {
                return Err(BuildError::told("map merge requires map or sequence of maps as the value"));
            }
            (_, value) => own.push((key, value)),
        }
    }
    let mut result: Vec<(Scalar, Node)> = own.clone();
    for source in sources {
        let Node::Map(members) = source else {
            return Err(BuildError::told("map merge requires map or sequence of maps as the value"));
        };
        put(&mut result, members);
    }
    put(&mut result, own);
    Ok(result)
}

fn put(into: &mut Vec<(Scalar, Node)>, members: Vec<(Scalar, Node)>) {
    for (key, value) in members {
        match into.iter_mut().find(|(present, _)| present.text == key.text) {
            Some(present) => *present = (key, value),
            None => into.push((key, value)),
        }
    }
}
