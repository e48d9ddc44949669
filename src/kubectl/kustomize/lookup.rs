//! Paths to fields as replacements and variables write them: `spec.containers.[name=web].image`.

use super::error::{BuildError, Built};
use super::node::{Kind, Node, Scalar};
use super::selector::expression;
use super::specs::split_path;

/// The parts of a path. A dot in brackets does not divide.
pub(crate) fn split(path: &str) -> Vec<String> {
    let mut result = Vec::new();
    let mut parts = split_path(path, '.').into_iter();
    while let Some(part) = parts.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            result.push(part);
            continue;
        }
        let mut bracketed = part;
        for next in parts.by_ref() {
            bracketed.push('.');
            bracketed.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        let is_match = bracketed.contains('=');
        result.push(if is_match { bracketed } else { bracketed.trim_matches(['[', ']']).to_string() });
    }
    result
}

fn is_list_index(part: &str) -> bool {
    part.starts_with('[') && part.ends_with(']')
}

fn number(part: &str) -> Option<i64> {
    part.parse().ok()
}

/// `[name=value]` in its halves.
fn name_value(part: &str) -> Built<(&str, &str)> {
    let inner = part.strip_suffix(']').unwrap_or(part);
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    inner.split_once('=').ok_or_else(|| {
        BuildError::told("list path element must contain fieldName=fieldValue for element to match")
    })
}

/// The value at a path that leads to one.
pub(crate) fn get<'a>(node: &'a Node, path: &[String]) -> Built<Option<&'a Node>> {
    let mut found = node;
    for part in path.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
        let next = match (number(part), part) {
            (Some(index), _) if index < 0 => {
                return Err(BuildError::told(format!("array index {index} cannot be negative")));
            }
            (Some(index), _) => {
                found.expect(Kind::List)?;
                usize::try_from(index).ok().and_then(|index| found.items().get(index))
            }
            (None, "-") => {
                found.expect(Kind::List)?;
                found.items().last()
            }
            (None, "*") => return Err(BuildError::told("wildcard is not supported in PathGetter")),
            (None, part) if is_list_index(part) => {
                let (name, value) = name_value(part)?;
                found.expect(Kind::List)?;
                found.items().iter().find(|one| match name {
                    "" => one.text() == value,
                    name => one.get(name).is_some_and(|member| member.text() == value),
                })
            }
            (None, name) => found.field(name)?,
        };
        match next {
            Some(next) => found = next,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

fn part_kind(next: Option<&String>, last: Kind) -> Kind {
    match next.map(String::as_str) {
        None | Some("") => last,
        Some(part) if is_list_index(part) || number(part).is_some_and(|index| index >= 0) => Kind::List,
        Some(_) => Kind::Map,
    }
}

type Change<'c> = dyn FnMut(&mut Node) -> Built<()> + 'c;

/// Calls `change` with every value that the path leads to, and says how many there were. With `create`,
/// what is absent is made, the last part as a value of that kind.
pub(crate) fn each(
    node: &mut Node,
    path: &[String],
    create: Option<Kind>,
    change: &mut Change<'_>,
) -> Built<usize> {
    let [part, rest @ ..] = path else {
        change(node)?;
        return Ok(1);
    };
    if let Some(index) = number(part).filter(|index| *index >= 0) {
        return at_index(node, usize::try_from(index).unwrap_or(usize::MAX), rest, create, change);
    }
    if is_list_index(part) {
        return matching(node, part, rest, create, change);
    }
    if part == "*" {
        node.expect(Kind::List)?;
        let Node::List(items) = node else { return Ok(0) };
        return items.iter_mut().try_fold(0, |sum, item| Ok(sum + each(item, rest, create, change)?));
    }
    let is_absent = node.field(part)?.is_none();
    if is_absent {
        let Some(kind) = create else { return Ok(0) };
        node.set(part, part_kind(rest.first(), kind).empty())?;
    }
    match node.get_mut(part) {
        // What stands in a text is reached in another way, or is a copy that nobody sees.
        Some(Node::Scalar(scalar)) if !rest.is_empty() && scalar.tag != super::node::Tag::Null => {
            let mut inner = super::parse::document(&scalar.text)?.unwrap_or_else(|| Kind::Map.empty());
            each(&mut inner, rest, create, &mut |_| Ok(()))
        }
        Some(field) => each(field, rest, create, change),
        None => Ok(0),
    }
}

fn at_index(
    node: &mut Node,
    index: usize,
    rest: &[String],
    create: Option<Kind>,
    change: &mut Change<'_>,
) -> Built<usize> {
    node.expect(Kind::List)?;
    if let (Node::List(items), Some(kind)) = (&mut *node, create)
        && items.len() == index
    {
        items.push(part_kind(rest.first(), kind).empty());
    }
    let count = node.items().len();
    let element = match node {
        Node::List(items) => items.get_mut(index),
        _ => None,
    };
    match element {
        Some(element) => each(element, rest, create, change),
        None => Err(BuildError::told(format!("index {index} specified but only {count} elements found"))),
    }
}

fn matching(
    node: &mut Node,
    part: &str,
    rest: &[String],
    create: Option<Kind>,
    change: &mut Change<'_>,
) -> Built<usize> {
    let (name, wanted) = name_value(part)?;
    let pattern = expression(wanted)?;
    node.expect(Kind::List)?;
    let mut found = 0;
    for attempt in 0..2 {
        let Node::List(items) = &mut *node else { return Ok(0) };
        for item in items.iter_mut() {
            let text = match name {
                "" => Some(super::emit::emit(item)),
                name => item.get(name).map(super::emit::emit),
            };
            if !text.is_some_and(|text| pattern.is_match(text.trim())) {
                continue;
            }
            found += if name.is_empty() {
                change(item)?;
                1
            } else {
                each(item, rest, create, change)?
            };
        }
        if found > 0 || create.is_none() || attempt > 0 {
            break;
        }
        items.push(match name {
            "" => Node::open(wanted),
            name => Node::Map(vec![(Scalar::open(name), Node::open(wanted))]),
        });
    }
    Ok(found)
}
