//! Which objects the arguments of a command mean: `TYPE NAME…`, `TYPE/NAME…`, `TYPE[,TYPE] -l …`, or `-f`.

use clap::Args;
use serde_json::Value;

use api::KindRow;
use client::ObjectRef;
use client::https::{decode_component, encode_component, path_of};

use crate::discovery::Row;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::manifest::{FileArgs, Manifest};

/// One object of the server.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) row: Row,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// The object as a file has it, and that file.
    pub(crate) manifest: Option<Manifest>,
}

pub(crate) enum Selection {
    Targets(Vec<Target>),
    Collections(Vec<Row>),
}

/// Flags that select among the objects of a kind.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SelectorArgs {
    /// Label selector
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// Field selector
    #[arg(long)]
    pub(crate) field_selector: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

impl Target {
    pub(crate) fn new(env: &Env, row: Row, name: &str) -> Self {
        let namespace = row.namespaced().then(|| env.namespace.clone());
        Target { row, namespace, name: name.to_string(), manifest: None }
    }

    pub(crate) fn at(&self) -> ObjectRef<'_> {
        ObjectRef::new(self.namespace.as_deref(), &self.name)
    }

    pub(crate) fn path(&self) -> String {
        path_of(&self.row, self.at())
    }

    pub(crate) fn sub_path(&self, subresource: &str) -> String {
        path_of(&self.row, self.at().sub(subresource))
    }

    pub(crate) fn collection(&self) -> String {
        collection(&self.row, self.namespace.as_deref())
    }

    /// `pod/x`, `deployment.apps/web`.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", qualified(&self.row), self.name)
    }
}

/// `pod`, `deployment.apps`: the kind in lower case with its group.
pub(crate) fn qualified(row: &KindRow) -> String {
    let kind = row.kind.to_lowercase();
    if row.group.is_empty() { kind } else { format!("{kind}.{}", row.group) }
}

pub(crate) fn collection(row: &KindRow, namespace: Option<&str>) -> String {
    row.collection_path(namespace.map(encode_component).as_deref())
}

impl SelectorArgs {
    pub(crate) fn given(&self) -> bool {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        set(&self.selector) || set(&self.field_selector)
    }

    /// `labelSelector=…&fieldSelector=…&` or nothing: to be put before other parameters.
    pub(crate) fn query(&self) -> String {
        let mut query = String::new();
        for (key, value) in [("labelSelector", &self.selector), ("fieldSelector", &self.field_selector)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                query.push_str(&format!("{key}={}&", encode_component(value)));
            }
        }
        query
    }

    /// The namespace to list in: none means all.
    pub(crate) fn namespace<'a>(&self, env: &'a Env, row: &KindRow) -> Option<&'a str> {
        (row.namespaced() && !self.all_namespaces).then_some(env.namespace.as_str())
    }
}

impl Env {
    /// What the arguments name. With types alone the result is collections.
    pub(crate) async fn select(&self, args: &[String]) -> Result<Selection> {
        if args.iter().any(|arg| arg.contains('/')) {
            return self.select_pairs(args).await.map(Selection::Targets);
        }
        let Some((types, names)) = args.split_first() else { return Ok(Selection::Targets(Vec::new())) };
        let mut rows = Vec::new();
        for one in types.split(',').filter(|one| !one.is_empty()) {
            if one == "all" {
                rows.extend(self.category("all").await?);
            } else {
                rows.push(self.resource(one).await?);
            }
        }
        if names.is_empty() {
            return Ok(Selection::Collections(rows));
        }
        let mut targets = Vec::new();
        for row in rows {
            targets.extend(names.iter().map(|name| Target::new(self, row.clone(), name)));
        }
        Ok(Selection::Targets(targets))
    }

    async fn select_pairs(&self, args: &[String]) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for arg in args {
            let pair: Vec<&str> = arg.split('/').collect();
            match &pair[..] {
                [kind, name] if !kind.is_empty() && !name.is_empty() => {
                    let row = self.resource(kind).await?;
                    targets.push(Target::new(self, row, name));
                }
                [_] => {
                    return Err(Error::message(
                        "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
                    ));
                }
                [_, _] => {
                    return Err(Error::message(
                        "arguments in resource/name form must have a single resource and name",
                    ));
                }
                _ => {
                    return Err(Error::message(
                        "arguments in resource/name form may not have more than one slash",
                    ));
                }
            }
        }
        Ok(targets)
    }

    /// The objects of files, each with the place it belongs to.
    pub(crate) async fn objects_of(&self, files: &FileArgs) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for manifest in files.read()? {
            targets.push(self.place(manifest).await?);
        }
        Ok(targets)
    }

    pub(crate) async fn place(&self, manifest: Manifest) -> Result<Target> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let (version, kind) = (text(&manifest.object["apiVersion"]), text(&manifest.object["kind"]));
        let row = self.kind_of(&version, &kind).await.map_err(|error| match error {
            Error::Message(text) => Error::message(format!(
                "resource mapping not found for name: {:?} namespace: {:?} from {:?}: {text}\nensure CRDs are installed first",
                manifest.object["metadata"]["name"].as_str().unwrap_or_default(),
                manifest.object["metadata"]["namespace"].as_str().unwrap_or_default(),
                manifest.source,
            )),
            other => other,
        })?;
        let name = text(&manifest.object["metadata"]["name"]);
        let own = text(&manifest.object["metadata"]["namespace"]);
        let namespace = match (row.namespaced(), own.is_empty()) {
            (false, _) => None,
            (true, true) => Some(self.namespace.clone()),
            (true, false) if self.namespace_is_explicit() && own != self.namespace => {
                return Err(Error::message(format!(
                    "the namespace from the provided object {own:?} does not match the namespace {:?}. You must pass '--namespace={own}' to perform this operation.",
                    self.namespace
                )));
            }
            (true, false) => Some(own),
        };
        let mut manifest = manifest;
        if let Some(namespace) = &namespace
            && let Some(metadata) = manifest.object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.entry("namespace").or_insert_with(|| Value::String(namespace.clone()));
        }
        Ok(Target { row, namespace, name, manifest: Some(manifest) })
    }

    /// Objects that arguments, a selector or files name, for commands that change them one by one.
    pub(crate) async fn targets(
        &self,
        args: &[String],
        files: &FileArgs,
        selector: &SelectorArgs,
        all: bool,
    ) -> Result<Vec<Target>> {
        if files.given() {
            if !args.is_empty() {
                return Err(Error::message(
                    "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
                ));
            }
            return self.objects_of(files).await;
        }
        match self.select(args).await? {
            Selection::Targets(targets) if targets.is_empty() => Err(Error::message(
                "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
            )),
            Selection::Targets(_) if selector.given() => {
                Err(Error::message("name cannot be provided when a selector is specified"))
            }
            Selection::Targets(_) if all => {
                Err(Error::message("name cannot be provided when a selector is specified"))
            }
            Selection::Targets(_) if selector.all_namespaces => {
                Err(Error::message("a resource cannot be retrieved by name across all namespaces"))
            }
            Selection::Targets(targets) => Ok(targets),
            Selection::Collections(_) if !selector.given() && !all => {
                Err(Error::message("resource(s) were provided, but no name was specified"))
            }
            Selection::Collections(rows) => {
                let mut targets = Vec::new();
                for row in rows {
                    targets.extend(self.members(&row, selector).await?);
                }
                Ok(targets)
            }
        }
    }

    /// Every object of a kind that a selector matches.
    pub(crate) async fn members(&self, row: &Row, selector: &SelectorArgs) -> Result<Vec<Target>> {
        let items = self.list(row, selector.namespace(self, row), &selector.query(), 500).await?;
        let target = |item: Value| {
            let name = item["metadata"]["name"].as_str().unwrap_or_default().to_string();
            let namespace = item["metadata"]["namespace"].as_str().map(str::to_string);
            Target { row: row.clone(), namespace, name, manifest: None }
        };
        Ok(items.into_iter().map(target).collect())
    }

    /// All items of a list, page by page, each with its type.
    pub(crate) async fn list(
        &self,
        row: &Row,
        namespace: Option<&str>,
        query: &str,
        page: usize,
    ) -> Result<Vec<Value>> {
        let rest = self.rest().await?;
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let path = page_path(row, namespace, query, page, &token);
            let mut list = rest.get(&path).await.map_err(|error| about_list(row, query, error))?;
            if let Some(items) = list["items"].as_array_mut() {
                for mut item in items.drain(..) {
                    if item["kind"].is_null() {
                        item["apiVersion"] = Value::String(row.api_version());
                        item["kind"] = Value::String(row.kind.to_string());
                    }
                    found.push(item);
                }
            }
            token = list["metadata"]["continue"].as_str().unwrap_or_default().to_string();
            if token.is_empty() {
                return Ok(found);
            }
        }
    }
}

pub(crate) fn page_path(
    row: &KindRow,
    namespace: Option<&str>,
    query: &str,
    page: usize,
    token: &str,
) -> String {
    let mut path = collection(row, namespace);
    path.push('?');
    path.push_str(query);
    if page > 0 {
        path.push_str(&format!("limit={page}&"));
    }
    if !token.is_empty() {
        path.push_str(&format!("continue={}&", encode_component(token)));
    }
    path.truncate(path.trim_end_matches(['&', '?']).len());
    path
}

/// What a refused list was asked for, in kubectl's words.
pub(crate) fn about_list(row: &KindRow, query: &str, error: Error) -> Error {
    let Error::Api { doing, error } = error else { return error };
    if !matches!(error.reason(), "BadRequest" | "NotFound") {
        return Error::Api { doing, error };
    }
    let parameter = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.map(decode_component).unwrap_or_default()
    };
    let resource = format!("{}/{}, Resource={}", row.group, row.version, row.plural);
    let (labels, fields) = (parameter("labelSelector"), parameter("fieldSelector"));
    let doing = if labels.is_empty() && fields.is_empty() {
        format!("Unable to list {resource:?}")
    } else {
        format!("Unable to find {resource:?} that match label selector {labels:?}, field selector {fields:?}")
    };
    Error::Api { doing, error }
}
