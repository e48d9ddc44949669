//! A YAML value as kustomize sees it: scalars keep the text they were written with beside their type, and
//! members keep their order.
//!
//! A plain JSON tree is not enough: a name `007` is compared by its text, and a text that a replacement puts
//! in the place of a number has to be a number again. Comments are not kept, because kubectl prints none.

use serde_json::{Map, Value};

use super::error::{BuildError, Built};
use super::scalar::{self, Resolved};

/// What a scalar is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Nothing was said: the text decides.
    Open,
    Text,
    Integer,
    Float,
    Bool,
    Null,
    Timestamp,
    Binary,
    Merge,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) tag: Tag,
    /// Written without quotes, and not as a block.
    pub(crate) plain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Scalar(Scalar),
    Map(Vec<(Scalar, Node)>),
    List(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Map,
    List,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Scalar => "ScalarNode",
            Kind::Map => "MappingNode",
            Kind::List => "SequenceNode",
        }
    }

    /// The empty value of the kind.
    pub(crate) fn empty(self) -> Node {
        match self {
            Kind::Scalar => Node::open(""),
            Kind::Map => Node::Map(Vec::new()),
            Kind::List => Node::List(Vec::new()),
        }
    }
}

impl Scalar {
    pub(crate) fn string(text: impl Into<String>) -> Self {
        Scalar { text: text.into(), tag: Tag::Text, plain: true }
    }

    /// A name of a member or a value whose type follows from its text.
    pub(crate) fn open(text: impl Into<String>) -> Self {
        Scalar { text: text.into(), tag: Tag::Open, plain: true }
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self.tag, Tag::Text | Tag::Open)
    }

    fn to_json(&self) -> Built<Value> {
        let as_text = !self.plain || self.text.contains('\n');
        let resolved = match self.tag {
            Tag::Text | Tag::Merge => return Ok(Value::String(self.text.clone())),
            Tag::Open if as_text => return Ok(Value::String(self.text.clone())),
            Tag::Binary => return scalar::decode_binary(&self.text),
            _ => scalar::resolve(&self.text),
        };
        let fits = match (self.tag, &resolved) {
            (Tag::Float, Resolved::Integer(_)) => return Ok(resolved.to_json(&self.text)),
            (Tag::Open, _) => true,
            (tag, resolved) => resolved.tag() == tag,
        };
        if let Resolved::Float(float) = resolved
            && !float.is_finite()
        {
            let name = if float.is_nan() {
                "NaN"
            } else if float > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            };
            return Err(BuildError::told(format!("json: unsupported value: {name}")));
        }
        if fits {
            return Ok(resolved.to_json(&self.text));
        }
        Err(BuildError::told(format!(
            "yaml: cannot decode {} `{}` as a {}",
            scalar::tag_name(resolved.tag()),
            self.text,
            scalar::tag_name(self.tag)
        )))
    }
}

impl Node {
    pub(crate) fn string(text: impl Into<String>) -> Self {
        Node::Scalar(Scalar::string(text))
    }

    pub(crate) fn open(text: impl Into<String>) -> Self {
        Node::Scalar(Scalar::open(text))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Node::Scalar(_) => Kind::Scalar,
            Node::Map(_) => Kind::Map,
            Node::List(_) => Kind::List,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Node::Scalar(scalar) if scalar.tag == Tag::Null)
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Node::Scalar(_) => self.is_null(),
            Node::Map(members) => members.is_empty(),
            Node::List(items) => items.is_empty(),
        }
    }

    /// A scalar's text; nothing for other values.
    pub(crate) fn text(&self) -> &str {
        match self {
            Node::Scalar(scalar) => &scalar.text,
            _ => "",
        }
    }

    /// As [`Node::text`], and nothing for null.
    pub(crate) fn value(&self) -> &str {
        if self.is_null() { "" } else { self.text() }
    }

    pub(crate) fn members(&self) -> &[(Scalar, Node)] {
        match self {
            Node::Map(members) => members,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.members().iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        match self {
            Node::Map(members) => {
                members.iter_mut().find(|(key, _)| key.text == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The value at a path of members only.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// Fails unless the value is of this kind or null.
    pub(crate) fn expect(&self, kind: Kind) -> Built<()> {
        if self.is_null() || self.kind() == kind {
            return Ok(());
        }
        Err(BuildError::WrongKind { expected: kind, found: self.kind(), contents: super::emit::emit(self) })
    }

    /// The member of that name; nothing in null.
    pub(crate) fn field(&self, name: &str) -> Built<Option<&Node>> {
        if self.is_null() {
            return Ok(None);
        }
        self.expect(Kind::Map)?;
        Ok(self.get(name))
    }

    /// Sets a member. One that is there keeps its quotes; a new one gets them where it would not be text.
    pub(crate) fn set(&mut self, name: &str, mut value: Node) -> Built<()> {
        if self.is_null() {
            *self = Kind::Map.empty();
        }
        self.expect(Kind::Map)?;
        match self.get_mut(name) {
            Some(present) => {
                keep_style(present, &mut value);
                *present = value;
            }
            None => {
                if let Node::Scalar(scalar) = &mut value
                    && scalar.is_text()
                    && scalar.plain
                {
                    scalar.plain = scalar.text.is_empty() || scalar::resolve(&scalar.text) == Resolved::Text;
                }
                if let Node::Map(members) = self {
                    members.push((Scalar::string(name), value));
                }
            }
        }
        Ok(())
    }

    /// Replaces a scalar, which keeps its quotes.
    pub(crate) fn assign(&mut self, mut value: Scalar) -> Built<()> {
        self.expect(Kind::Scalar)?;
        if let Node::Scalar(present) = self {
            value.plain = present.plain;
        }
        *self = Node::Scalar(value);
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Node> {
        let Node::Map(members) = self else { return None };
        let at = members.iter().position(|(key, _)| key.text == name)?;
        Some(members.remove(at).1)
    }

    /// The member, made where it is absent.
    pub(crate) fn member_or(&mut self, name: &str, kind: Kind) -> Built<Option<&mut Node>> {
        if self.is_null() {
            return Ok(None);
        }
        self.expect(Kind::Map)?;
        if self.get(name).is_none()
            && let Node::Map(members) = self
        {
            members.push((Scalar::string(name), kind.empty()));
        }
        Ok(self.get_mut(name))
    }

    pub(crate) fn to_json(&self) -> Built<Value> {
        self.json(true)
    }

    fn json(&self, is_root: bool) -> Built<Value> {
        match self {
            Node::Scalar(scalar) => scalar.to_json(),
            Node::List(items) => {
                items.iter().map(|one| one.json(false)).collect::<Built<_>>().map(Value::Array)
            }
            Node::Map(members) => {
                let mut map = Map::new();
                for (key, value) in members {
                    if !is_root && !matches!(key.to_json()?, Value::String(_)) {
                        return Err(BuildError::told(
                            "json: unsupported type: map[interface {}]interface {}",
                        ));
                    }
                    if map.insert(key.text.clone(), value.json(false)?).is_some() {
                        let name = &key.text;
                        return Err(BuildError::told(format!(
                            "yaml: unmarshal errors:\n  mapping key {name:?} already defined"
                        )));
                    }
                }
                Ok(Value::Object(map))
            }
        }
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        let scalar = |text: String, tag: Tag| Node::Scalar(Scalar { text, tag, plain: tag != Tag::Text });
        match value {
            Value::Null => scalar("null".to_string(), Tag::Null),
            Value::Bool(one) => scalar(one.to_string(), Tag::Bool),
            Value::Number(one) if one.is_f64() => {
                scalar(crate::output::yaml::float(one.as_f64().unwrap_or_default()), Tag::Float)
            }
            Value::Number(one) => scalar(one.to_string(), Tag::Integer),
            Value::String(one) => scalar(one.clone(), Tag::Text),
            Value::Array(items) => Node::List(items.iter().map(Node::from_json).collect()),
            Value::Object(map) => {
                Node::Map(map.iter().map(|(key, one)| (Scalar::string(key), Node::from_json(one))).collect())
            }
        }
    }
}

fn keep_style(present: &Node, value: &mut Node) {
    if let (Node::Scalar(present), Node::Scalar(value)) = (present, value)
        && value.tag == Tag::Open
    {
        value.plain = present.plain;
    }
}
