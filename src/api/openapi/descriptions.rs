//! What upstream's documents say of types, fields and parameters. The texts are the Kubernetes Authors'
//! (Apache License 2.0), made by `src/api/gen` from a release.
//!
//! They are many and seldom asked for, so they are kept compressed and unpacked for as long as somebody holds
//! them. Unpacked they are lines: `type NAME TEXT` begins a type, `FIELD TEXT` behind a space is one of its
//! fields; types and fields are sorted, line ends and backslashes in texts escaped. The fields of
//! `:parameters` are the parameters of requests.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Map, Value, json};

const PACKED: &[u8] = include_bytes!("descriptions.zst");
const PARAMETERS: &str = ":parameters";

static SHARED: Mutex<Weak<Descriptions>> = Mutex::new(Weak::new());

/// Unpacked descriptions.
pub struct Descriptions {
    text: String,
    /// Where types begin, behind the word.
    starts: Vec<usize>,
}

impl Descriptions {
    /// The descriptions, which are unpacked unless somebody holds them already. Who makes several documents
    /// holds them meanwhile.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = shared.upgrade() {
            return there;
        }
        let read = Arc::new(Self::read());
        *shared = Arc::downgrade(&read);
        read
    }

    fn read() -> Self {
        // A test reads them: they are part of the program.
        let bytes = zstd::decode_all(PACKED).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let mut starts = Vec::with_capacity(1024);
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if line.starts_with(TYPE) {
                starts.push(at + TYPE.len());
            }
            at += line.len();
        }
        Descriptions { text, starts }
    }

    /// The lines of a type, the first without its first word.
    fn lines(&self, name: &str) -> Option<std::str::Lines<'_>> {
        let name = name.strip_prefix("io.k8s.").unwrap_or(name);
        let named = |start: &usize| self.text[*start..].split(' ').next().unwrap_or("");
        let at = self.starts.binary_search_by(|start| named(start).cmp(name)).ok()?;
        let end = self.starts.get(at + 1).map_or(self.text.len(), |next| next - TYPE.len());
        Some(self.text[self.starts[at]..end].lines())
    }

    pub(super) fn of_field(&self, name: &str, field: &str) -> Option<String> {
        let mut fields = self.lines(name)?.skip(1).filter_map(|line| line.strip_prefix(' ')?.split_once(' '));
        fields.find(|(own, _)| *own == field).map(|(_, about)| unescaped(about))
    }

    /// Says of built-in types and their fields what they mean.
    pub(super) fn describe(&self, schemas: &mut Map<String, Value>) {
        for (name, schema) in schemas {
            let Some(lines) = self.lines(name) else { continue };
            let mut lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line).split_once(' '));
            if let Some(Some((_, about))) = lines.next()
                && !about.is_empty()
            {
                schema["description"] = json!(unescaped(about));
            }
            let Some(properties) = schema.get_mut("properties") else { continue };
            for (field, about) in lines.flatten() {
                if let Some(property) = properties.get_mut(field).and_then(Value::as_object_mut) {
                    property.insert("description".into(), json!(unescaped(about)));
                }
            }
        }
    }

    /// The same of the parameters of operations.
    pub(super) fn describe_parameters(&self, paths: &mut Map<String, Value>) {
        for item in paths.values_mut().filter_map(Value::as_object_mut) {
            for (key, value) in item {
                let list = if key == "parameters" { Some(value) } else { value.get_mut("parameters") };
                for parameter in list.and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(about) =
                        parameter["name"].as_str().and_then(|name| self.of_field(PARAMETERS, name))
                        && parameter["in"] == "query"
                    {
                        parameter["description"] = json!(about);
                    }
                }
            }
        }
    }
}

/// What a line that begins a type begins with.
const TYPE: &str = "type ";

fn unescaped(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        match one {
            '\\' => out.push(match rest.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            }),
            other => out.push(other),
        }
    }
    out
}
