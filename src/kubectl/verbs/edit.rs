//! `kubectl edit`: objects as YAML or JSON in an editor; what was changed is sent as patches. What the server
//! finds wrong stands at the head of the file when it is opened again.

pub(crate) mod editor;

use clap::Args;
use serde_json::{Value, json};

use crate::change::{ChangeArgs, ValidateArgs};
use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::manifest::{FileArgs, parse_documents};
use crate::output::{self, json as json_output, title, yaml};
use crate::rest::{MERGE_PATCH, STRATEGIC_PATCH};
use crate::selection::{SelectorArgs, Target};
use crate::verbs::apply::{last_applied, three_way};

use editor::{Edited, Style};

/// Edit a resource on the server
#[derive(Args)]
pub(crate) struct EditArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Subresource to edit instead of the object
    #[arg(long)]
    subresource: Option<String>,
    /// Show the patch that is sent
    #[arg(long)]
    output_patch: bool,
    /// Remember the configuration for kubectl apply
    #[arg(long)]
    save_config: bool,
    /// Lines end as on Windows
    #[arg(long)]
    windows_line_endings: bool,
    #[command(flatten)]
    validate: ValidateArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// An object that is edited.
struct Held {
    target: Target,
    path: String,
    original: Value,
}

impl Held {
    /// `deployments.apps/x`.
    fn shown(&self) -> String {
        let row = &self.target.row;
        let group = if row.group.is_empty() { String::new() } else { format!(".{}", row.group) };
        format!("{}{group}", row.plural)
    }
}

/// What came of sending edited objects.
#[derive(Default)]
struct Results {
    /// Why the file is to be opened again.
    reasons: Vec<String>,
    /// Objects that could not be patched as they are now, and that are gone.
    retryable: usize,
    not_found: usize,
}

pub(crate) async fn run(env: &Env, args: EditArgs) -> Result<()> {
    if args.output_patch && args.change.output.output.is_some() {
        return Err(Error::message("--output and --output-patch may not be specified together"));
    }
    // A kind without names means all of its objects.
    let all = !args.selector.given()
        && !args.resources.iter().any(|one| one.contains('/'))
        && args.resources.len() == 1;
    let mut held = Vec::new();
    for target in env.targets(&args.resources, &args.files, &args.selector, all).await? {
        let path = match &args.subresource {
            Some(subresource) => target.sub_path(subresource),
            None => target.path(),
        };
        let mut original = env.rest().await?.get(&path).await?;
        if let Some(metadata) = original.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        held.push(Held { target, path, original });
    }
    if held.is_empty() {
        return Err(Error::message("edit cancelled, no objects found"));
    }
    edit(env, &args, &held).await
}

/// What is edited: the object, or a list of several.
fn document(held: &[Held]) -> Value {
    match held {
        [one] => one.original.clone(),
        many => {
            let items: Vec<&Value> = many.iter().map(|one| &one.original).collect();
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
        }
    }
}

async fn edit(env: &Env, args: &EditArgs, held: &[Held]) -> Result<()> {
    let is_json = args.change.output.output.as_deref() == Some("json");
    let style = Style { json: is_json, windows: args.windows_line_endings };
    let document = document(held);
    let mut shown = if is_json { json_output::pretty(&document) } else { yaml::to_yaml(&document) };
    let mut reasons = String::new();
    loop {
        let body = match editor::edit(&shown, &reasons, style)? {
            Edited::Changed(body) => body,
            Edited::Same => {
                tell("Edit cancelled, no changes made.");
                return Ok(());
            }
            Edited::Empty => {
                tell("Edit cancelled, saved file was empty.");
                return Ok(());
            }
        };
        if !reasons.is_empty() && body == shown {
            return preserved(&body, style, Error::message("Edit cancelled, no valid changes were saved."));
        }
        let edited = match objects(&body) {
            Ok(edited) => edited,
            Err(error) => {
                reasons = format!("The edited file had a syntax error: {error}\n#\n");
                shown = body;
                continue;
            }
        };
        let mut results = Results::default();
        for object in edited {
            if let Err(error) = send(env, args, held, object, &mut results).await {
                return preserved(&body, style, error);
            }
        }
        if results.retryable > 0 {
            let file = editor::keep(&body, style)?;
            tell(&format!("You can run `kubectl replace -f {}` to try this update again.", file.display()));
            return Err(Error::Exit(1));
        }
        if results.not_found > 0 {
            let file = editor::keep(&body, style)?.display().to_string();
            tell(&format!("The edits you made on deleted resources have been saved to {file:?}"));
            return Err(Error::Exit(1));
        }
        if results.reasons.is_empty() {
            return Ok(());
        }
        (shown, reasons) = (body, results.reasons.concat());
    }
}

/// Keeps what the user wrote, and ends with an error.
fn preserved(body: &str, style: Style, error: Error) -> Result<()> {
    let kept = editor::keep(body, style)?;
    tell(&format!("A copy of your changes has been stored to {:?}", kept.display().to_string()));
    Err(error)
}

/// What keeps an edited file from being read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SyntaxError(String);

/// The objects of an edited file; a list is taken apart.
fn objects(body: &str) -> std::result::Result<Vec<Value>, SyntaxError> {
    let mut found = Vec::new();
    for document in parse_documents(body).map_err(|error| SyntaxError(error.to_string()))? {
        match document.get("items").and_then(Value::as_array) {
            Some(items) if output::is_list(&document) => found.extend(items.iter().cloned()),
            _ if document["kind"].is_string() => found.push(document),
            _ => return Err(SyntaxError("Object 'Kind' is missing".to_string())),
        }
    }
    Ok(found)
}

/// Sends the changes of one object. An error ends the edit; what can be mended is among the results.
async fn send(
    env: &Env,
    args: &EditArgs,
    held: &[Held],
    mut edited: Value,
    results: &mut Results,
) -> Result<()> {
    let changed = || Error::message("At least one of apiVersion, kind and name was changed");
    let uid = &edited["metadata"]["uid"];
    let same = |one: &&Held| one.original["metadata"]["uid"] == *uid;
    let one = held.iter().find(same).or(held.first().filter(|_| held.len() == 1)).ok_or_else(changed)?;
    let is_same = |path: &str| edited.pointer(path) == one.original.pointer(path);
    if !["/apiVersion", "/kind", "/metadata/name"].iter().all(|path| is_same(path)) {
        return Err(changed());
    }
    if args.save_config {
        last_applied::annotate(&mut edited)?;
    }
    let ty = api::schema::for_kind(&one.target.row);
    let patch = three_way::patch(ty, &one.original, &edited, &one.original);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return print(&format!("{} skipped\n", title(&one.original)));
    }
    if args.output_patch {
        print(&format!("Patch: {}\n", json_output::compact(&patch)))?;
    }
    let media_type = if ty.is_some() { STRATEGIC_PATCH } else { MERGE_PATCH };
    let query = args.change.query("kubectl-edit", &[args.validate.parameter()?])?;
    match env.rest().await?.patch(&format!("{}{query}", one.path), media_type, &patch).await {
        Ok(changed) => args.change.report(&changed, "edited"),
        Err(error) => {
            tell(&results.note(one, &error));
            Ok(())
        }
    }
}

impl Results {
    /// Takes an error of the server down, and says it in a line.
    fn note(&mut self, held: &Held, error: &Error) -> String {
        let (resource, name) = (held.shown(), &held.target.name);
        let Some(api) = error.api() else {
            self.retryable += 1;
            return format!("error: {resource} {name:?} could not be patched: {error}");
        };
        if api.is_not_found() {
            self.not_found += 1;
            return format!("error: {resource} {name:?} could not be found on the server");
        }
        let is_mendable = matches!(api.reason(), "Invalid" | "BadRequest");
        if !is_mendable {
            self.retryable += 1;
            return format!("error: {resource} {name:?} could not be patched: {}", api.message());
        }
        let details = api.status().details.as_ref();
        let causes = details.and_then(|details| details.causes.as_deref()).unwrap_or_default();
        let mut text =
            format!("{resource} {name:?} was not valid{}\n", if causes.is_empty() { "" } else { ":" });
        if causes.is_empty() {
            text.push_str(&format!(" * {}\n", api.message()));
        }
        for cause in causes {
            let (field, message) = (cause.field.as_deref(), cause.message.as_deref());
            text.push_str(&format!(" * {}: {}\n", field.unwrap_or(""), message.unwrap_or("")));
        }
        self.reasons.push(format!("{text}#\n"));
        format!("error: {resource} {name:?} is invalid")
    }
}

/// `create --edit`: lets the user change an object before it is made; none if nothing is to be made.
pub(crate) fn before_create(object: &Value, style: Style) -> Result<Option<Value>> {
    let shown = if style.json { json_output::pretty(object) } else { yaml::to_yaml(object) };
    let (mut text, mut reasons) = (shown, String::new());
    loop {
        let body = match editor::edit(&text, &reasons, style)? {
            Edited::Changed(body) => body,
            Edited::Same => {
                tell("Edit cancelled, no changes made.");
                return Ok(None);
            }
            Edited::Empty => {
                tell("Edit cancelled, saved file was empty.");
                return Ok(None);
            }
        };
        if !reasons.is_empty() && body == text {
            preserved(&body, style, Error::message("Edit cancelled, no valid changes were saved."))?;
        }
        match objects(&body).as_deref() {
            Ok([one]) => return Ok(Some(one.clone())),
            Ok(_) => reasons = "The edited file must hold one object\n#\n".to_string(),
            Err(error) => reasons = format!("The edited file had a syntax error: {error}\n#\n"),
        }
        text = body;
    }
}
