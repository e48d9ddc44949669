//! `paths`: the operations of each row, with the parameters that clients look for before they use them.

use serde_json::{Map, Value, json};

use super::Described;
use super::schemas::Schemas;
use crate::schema::{TypeRef, for_gvk, for_kind};
use crate::{KindRow, Subresource};

/// Media types of answers.
const PRODUCED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// Custom resources have no strategic merge.
const CUSTOM_PATCHES: [&str; 2] = ["application/json-patch+json", "application/merge-patch+json"];

/// What an operation is about: names that occur in its identifier and extensions.
struct Subject<'a> {
    row: &'a KindRow,
    /// Group, version and kind that it takes and returns.
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    ty: Option<TypeRef>,
    /// Schemas of the kind and its list, if they are not those of a built-in type.
    custom: Option<(Value, Value)>,
    /// `Status`, `Scale`, … or nothing.
    suffix: String,
}

pub(super) fn add_paths(kind: &Described<'_>, schemas: &mut Schemas<'_>, paths: &mut Map<String, Value>) {
    let row = kind.row;
    let custom = kind.schema.as_ref().map(|schema| schemas.of_custom(row, schema));
    let subject = Subject {
        row,
        group: &row.group,
        version: &row.version,
        kind: &row.kind,
        ty: for_kind(row),
        custom: custom.clone(),
        suffix: String::new(),
    };
    let collection = row.collection_path(row.namespaced().then_some("{namespace}"));
    let operations = subject.collection(schemas);
    if !operations.is_empty() {
        paths.insert(collection.clone(), with_parameters(operations, place_parameters(row, false)));
    }
    if row.namespaced() && row.allows("list") {
        let everywhere = subject.list_everywhere(schemas);
        paths.insert(row.collection_path(None), everywhere);
    }
    let operations = subject.item(schemas, &row.verbs);
    if !operations.is_empty() {
        let item = format!("{collection}/{{name}}");
        paths.insert(item, with_parameters(operations, place_parameters(row, true)));
    }
    for sub in row.subresources.iter() {
        let operations = subresource(row, sub, custom.as_ref(), schemas);
        let item = format!("{collection}/{{name}}/{}", sub.name);
        paths.insert(item, with_parameters(operations, place_parameters(row, true)));
    }
}

/// `get /apis/GROUP/VERSION/`.
pub(super) fn add_discovery(
    group: &str,
    version: &str,
    schemas: &mut Schemas<'_>,
    paths: &mut Map<String, Value>,
) {
    let root =
        if group.is_empty() { format!("/api/{version}/") } else { format!("/apis/{group}/{version}/") };
    let list = schemas.of_meta("APIResourceList");
    paths.insert(
        root,
        json!({"get": {
            "tags": [tag(group, version)],
            "description": "get available resources",
            "operationId": format!("get{}APIResources", group_version_name(group, version)),
            "responses": responses(&["200"], &list),
        }}),
    );
}

fn with_parameters(mut operations: Map<String, Value>, parameters: Vec<Value>) -> Value {
    operations.insert("parameters".into(), Value::Array(parameters));
    Value::Object(operations)
}

/// `core_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let name = group_name(group);
    let mut chars = name.chars();
    let lower: String = chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect();
    format!("{lower}_{version}")
}

/// `Core`, `Apps`, `RbacAuthorization`: a group without its `.k8s.io`, in capitals.
fn group_name(group: &str) -> String {
    if group.is_empty() {
        return "Core".to_string();
    }
    group.trim_end_matches(".k8s.io").split('.').map(capitalised).collect()
}

fn group_version_name(group: &str, version: &str) -> String {
    format!("{}{}", group_name(group), capitalised(version))
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

/// The article of a kind's name, with a space; none for a plural.
fn article(kind: &str) -> &'static str {
    match kind {
        _ if kind.ends_with('s') && !kind.ends_with("ss") => "",
        _ if kind.starts_with(['A', 'E', 'I', 'O', 'U']) => "an ",
        _ => "a ",
    }
}

fn query(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn place_parameters(row: &KindRow, item: bool) -> Vec<Value> {
    let path = |name: &str, description: String| {
        json!({"name": name, "in": "path", "required": true, "description": description,
            "schema": {"type": "string", "uniqueItems": true}})
    };
    let mut parameters = Vec::new();
    if item {
        parameters.push(path("name", format!("name of the {}", row.kind)));
    }
    if row.namespaced() {
        parameters.push(path(
            "namespace",
            "object name and auth scope, such as for teams and projects".to_string(),
        ));
    }
    parameters.push(query("pretty", "string"));
    parameters
}

fn list_parameters(watch: bool) -> Vec<Value> {
    let mut parameters = vec![
        query("continue", "string"),
        query("fieldSelector", "string"),
        query("labelSelector", "string"),
        query("limit", "integer"),
        query("resourceVersion", "string"),
        query("resourceVersionMatch", "string"),
        query("sendInitialEvents", "boolean"),
        query("timeoutSeconds", "integer"),
    ];
    if watch {
        parameters.insert(0, query("allowWatchBookmarks", "boolean"));
        parameters.push(query("watch", "boolean"));
    }
    parameters
}

fn write_parameters(patch: bool) -> Vec<Value> {
    let names = ["dryRun", "fieldManager", "fieldValidation"];
    let mut parameters: Vec<Value> = names.iter().map(|name| query(name, "string")).collect();
    if patch {
        parameters.push(query("force", "boolean"));
    }
    parameters
}

fn delete_parameters() -> Vec<Value> {
    vec![
        query("dryRun", "string"),
        query("gracePeriodSeconds", "integer"),
        query("orphanDependents", "boolean"),
        query("propagationPolicy", "string"),
    ]
}

fn content(types: &[&str], schema: &Value) -> Value {
    Value::Object(types.iter().map(|one| (one.to_string(), json!({ "schema": schema }))).collect())
}

fn responses(codes: &[&str], schema: &Value) -> Value {
    let answer = |code: &&str| {
        let description = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        (code.to_string(), json!({"description": description, "content": content(&PRODUCED, schema)}))
    };
    let unauthorized = ("401".to_string(), json!({"description": "Unauthorized"}));
    Value::Object(codes.iter().map(answer).chain([unauthorized]).collect())
}

impl Subject<'_> {
    fn schema(&self, schemas: &mut Schemas<'_>) -> Value {
        if let Some((kind, _)) = &self.custom {
            return kind.clone();
        }
        match self.ty {
            Some(ty) => schemas.of(ty),
            None => json!({"type": "object"}),
        }
    }

    fn list_schema(&self, schemas: &mut Schemas<'_>) -> Value {
        if let Some((_, list)) = &self.custom {
            return list.clone();
        }
        match for_gvk(&self.row.group, &self.row.version, &self.row.list_kind()) {
            Some(ty) => schemas.of(ty),
            None => json!({"type": "object"}),
        }
    }

    /// What all operations have; `does` is the words of the identifier before and after group and version.
    fn operation(&self, action: &str, does: (&str, &str), parameters: Vec<Value>, answers: Value) -> Value {
        let (verb, target) = does;
        let row = self.row;
        let name = format!("{verb}{}{target}{}", group_version_name(&row.group, &row.version), self.suffix);
        json!({
            "tags": [tag(&row.group, &row.version)],
            "description": self.about(action),
            "operationId": name,
            "parameters": parameters,
            "responses": answers,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": self.group, "version": self.version, "kind": self.kind},
        })
    }

    /// What an operation does, in upstream's words.
    fn about(&self, action: &str) -> String {
        let (kind, part) = (&self.row.kind, self.suffix.to_lowercase());
        let of = if part.is_empty() { String::new() } else { format!("{part} of ") };
        match action {
            "list" => {
                let watch = if self.row.allows("watch") { "or watch " } else { "" };
                format!("list {watch}objects of kind {kind}")
            }
            "get" => format!("read {of}the specified {kind}"),
            "put" => format!("replace {of}the specified {kind}"),
            "patch" => format!("partially update {of}the specified {kind}"),
            "post" => format!("create {of}{}{kind}", article(kind)),
            "delete" => format!("delete {of}{}{kind}", article(kind)),
            "deletecollection" => format!("delete collection of {kind}"),
            _ => String::new(),
        }
    }

    /// `NamespacedPod`, `Node`.
    fn target(&self) -> String {
        let scope = if self.row.namespaced() { "Namespaced" } else { "" };
        format!("{scope}{}", self.row.kind)
    }

    fn list_everywhere(&self, schemas: &mut Schemas<'_>) -> Value {
        let list = self.list_schema(schemas);
        let target = format!("{}ForAllNamespaces", self.row.kind);
        let operation = self.operation("list", ("list", &target), Vec::new(), responses(&["200"], &list));
        let mut parameters = list_parameters(true);
        parameters.push(query("pretty", "string"));
        json!({"get": operation, "parameters": parameters})
    }

    fn collection(&self, schemas: &mut Schemas<'_>) -> Map<String, Value> {
        let mut operations = Map::new();
        let target = self.target();
        if self.row.allows("list") {
            let list = self.list_schema(schemas);
            let get =
                self.operation("list", ("list", &target), list_parameters(true), responses(&["200"], &list));
            operations.insert("get".into(), get);
        }
        if self.row.allows("create") {
            operations.insert("post".into(), self.create(schemas));
        }
        if self.row.allows("deletecollection") {
            let status = schemas.of_meta("Status");
            let mut parameters = delete_parameters();
            parameters.extend(list_parameters(false));
            let target = format!("Collection{target}");
            let mut delete = self.operation(
                "deletecollection",
                ("delete", &target),
                parameters,
                responses(&["200"], &status),
            );
            delete["requestBody"] = json!({"content": content(&["*/*"], &schemas.of_meta("DeleteOptions"))});
            operations.insert("delete".into(), delete);
        }
        operations
    }

    fn create(&self, schemas: &mut Schemas<'_>) -> Value {
        let schema = self.schema(schemas);
        let answers = responses(&["200", "201", "202"], &schema);
        let mut post = self.operation("post", ("create", &self.target()), write_parameters(false), answers);
        post["requestBody"] = json!({"content": content(&["*/*"], &schema), "required": true});
        post
    }

    fn item(&self, schemas: &mut Schemas<'_>, verbs: &[impl AsRef<str>]) -> Map<String, Value> {
        let mut operations = Map::new();
        let allows = |verb: &str| verbs.iter().any(|own| own.as_ref() == verb);
        let (target, schema) = (self.target(), self.schema(schemas));
        if allows("get") {
            let get = self.operation("get", ("read", &target), Vec::new(), responses(&["200"], &schema));
            operations.insert("get".into(), get);
        }
        if allows("update") {
            let answers = responses(&["200", "201"], &schema);
            let mut put = self.operation("put", ("replace", &target), write_parameters(false), answers);
            put["requestBody"] = json!({"content": content(&["*/*"], &schema), "required": true});
            operations.insert("put".into(), put);
        }
        if allows("patch") {
            let answers = responses(&["200", "201"], &schema);
            let mut patch = self.operation("patch", ("patch", &target), write_parameters(true), answers);
            let body = schemas.of_meta("Patch");
            let types: &[&str] = if self.ty.is_some() { &PATCHES } else { &CUSTOM_PATCHES };
            patch["requestBody"] = json!({"content": content(types, &body), "required": true});
            operations.insert("patch".into(), patch);
        }
        if allows("delete") {
            let answer = schemas.of_meta("Status");
            let answers = responses(&["200", "202"], &answer);
            let mut delete = self.operation("delete", ("delete", &target), delete_parameters(), answers);
            delete["requestBody"] = json!({"content": content(&["*/*"], &schemas.of_meta("DeleteOptions"))});
            operations.insert("delete".into(), delete);
        }
        operations
    }
}

fn subresource(
    row: &KindRow,
    sub: &Subresource,
    custom: Option<&(Value, Value)>,
    schemas: &mut Schemas<'_>,
) -> Map<String, Value> {
    let (group, version) =
        if sub.version.is_empty() { (&row.group, &row.version) } else { (&sub.group, &sub.version) };
    let subject = Subject {
        row,
        group,
        version,
        kind: &sub.kind,
        ty: for_gvk(group, version, &sub.kind),
        custom: custom.filter(|_| sub.version.is_empty()).cloned(),
        suffix: capitalised(&sub.name),
    };
    let mut operations = Map::new();
    if sub.kind.ends_with("Options") {
        // Connections take any method and answer with whatever is at the other end.
        for (verb, method) in
            [("get", "get"), ("create", "post"), ("update", "put"), ("patch", "patch"), ("delete", "delete")]
        {
            if sub.verbs.iter().any(|own| own == verb) {
                let target = format!("{}{}", capitalised(method), subject.target());
                let answer = json!({"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}},
                    "401": {"description": "Unauthorized"}});
                let name = format!("connect{}{target}", group_version_name(&row.group, &row.version));
                let mut operation = subject.operation("connect", ("", ""), Vec::new(), answer);
                operation["operationId"] = json!(format!("{name}{}", subject.suffix));
                let asked = method.to_uppercase();
                operation["description"] =
                    json!(format!("connect {asked} requests to {} of {}", sub.name, row.kind));
                operations.insert(method.into(), operation);
            }
        }
        return operations;
    }
    if sub.name == "log" {
        let answer = json!({"200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"}});
        let read = ("read", subject.target());
        let names = ["follow", "insecureSkipTLSVerifyBackend", "previous", "timestamps"];
        let mut parameters: Vec<Value> = names.iter().map(|name| query(name, "boolean")).collect();
        parameters
            .extend(["limitBytes", "sinceSeconds", "tailLines"].iter().map(|name| query(name, "integer")));
        parameters.extend(["container", "stream"].iter().map(|name| query(name, "string")));
        operations.insert("get".into(), subject.operation("get", (read.0, &read.1), parameters, answer));
        return operations;
    }
    operations = subject.item(schemas, &sub.verbs);
    if sub.verbs.iter().any(|verb| verb == "create") {
        operations.insert("post".into(), subject.create(schemas));
    }
    operations
}
