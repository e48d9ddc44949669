//! Nodes as YAML in the order that they have, as kyaml writes them: for messages, and for YAML that stands in
//! a text.

use super::node::{Kind, Node, Scalar};
use super::scalar;
use crate::output::yaml;

/// A document with a line end.
pub(crate) fn emit(node: &Node) -> String {
    let mut out = String::new();
    match node {
        Node::Map(members) if !members.is_empty() => map(members, 0, &mut out),
        Node::List(items) if !items.is_empty() => list(items, 0, &mut out),
        other => {
            out.push_str(&leaf(other, 0));
            out.push('\n');
        }
    }
    out
}

/// A text as a scalar on one line.
pub(crate) fn text(text: &str) -> String {
    yaml::string(text, 0)
}

fn leaf(node: &Node, depth: usize) -> String {
    match node {
        Node::Map(_) => "{}".to_string(),
        Node::List(_) => "[]".to_string(),
        Node::Scalar(one) => scalar_text(one, depth),
    }
}

fn scalar_text(one: &Scalar, depth: usize) -> String {
    let is_other = one.plain && (!one.is_text() || scalar::resolve(&one.text) != scalar::Resolved::Text);
    if is_other && one.tag != super::node::Tag::Text {
        return one.text.clone();
    }
    yaml::string(&one.text, depth)
}

fn map(members: &[(Scalar, Node)], depth: usize, out: &mut String) {
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 || !out.ends_with("- ") {
            out.extend(std::iter::repeat_n(' ', depth));
        }
        out.push_str(&scalar_text(key, depth));
        out.push(':');
        match (value.kind(), value.is_empty()) {
            (Kind::Map, false) => {
                out.push('\n');
                map(value.members(), depth + 2, out);
            }
            (Kind::List, false) => {
                out.push('\n');
                list(value.items(), depth, out);
            }
            _ => {
                let leaf = leaf(value, depth);
                if !leaf.is_empty() {
                    out.push(' ');
                    out.push_str(&leaf);
                }
                out.push('\n');
            }
        }
    }
}

fn list(items: &[Node], depth: usize, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !out.ends_with("- ") {
            out.extend(std::iter::repeat_n(' ', depth));
        }
        out.push_str("- ");
        match (item.kind(), item.is_empty()) {
            (Kind::Map, false) => map(item.members(), depth + 2, out),
            (Kind::List, false) => list(item.items(), depth + 2, out),
            _ => {
                out.push_str(&leaf(item, depth));
                out.push('\n');
            }
        }
    }
}
