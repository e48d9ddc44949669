//! `kubectl get`.

pub(crate) mod watch;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::discovery::Row;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::output::text_table::TextTable;
use crate::output::{Format, OutputArgs};
use crate::rest::JSON;
use crate::selection::{Selection, SelectorArgs, Target, about_list, page_path};
use crate::sort;
use crate::table::{ACCEPT_TABLE, Look, Table};

/// Display one or many resources
#[derive(Args, Default)]
pub(crate) struct GetArgs {
    /// TYPE[.VERSION][.GROUP] [NAME | -l label] | TYPE[.VERSION][.GROUP]/NAME ...
    pub(crate) resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) selector: SelectorArgs,
    /// After listing, watch for changes
    #[arg(short = 'w', long)]
    pub(crate) watch: bool,
    /// Watch for changes without listing first
    #[arg(long)]
    pub(crate) watch_only: bool,
    /// Show the type of each event of a watch
    #[arg(long)]
    pub(crate) output_watch_events: bool,
    /// Show all labels as the last column
    #[arg(long)]
    pub(crate) show_labels: bool,
    /// Labels to show as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    pub(crate) label_columns: Vec<String>,
    /// JSONPath to sort by
    #[arg(long)]
    pub(crate) sort_by: Option<String>,
    /// No header line
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Succeed if the object does not exist
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Show the type of each object
    #[arg(long)]
    pub(crate) show_kind: bool,
    /// Path to request from the server as it is
    #[arg(long)]
    pub(crate) raw: Option<String>,
    /// Items per request of large lists (0: all at once)
    #[arg(long, default_value_t = 500)]
    pub(crate) chunk_size: usize,
    /// Subresource to get instead of the object
    #[arg(long)]
    pub(crate) subresource: Option<String>,
    /// Let the server make the table
    #[arg(long, default_value_t = true)]
    pub(crate) server_print: bool,
}

pub(crate) async fn run(env: &Env, args: GetArgs) -> Result<()> {
    if let Some(path) = &args.raw {
        let body = env.rest().await?.get_raw(path).await?;
        return print(&String::from_utf8_lossy(&body));
    }
    let format = args.output.format()?;
    let selection = select(env, &args).await?;
    if args.watch || args.watch_only {
        return watch::run(env, &args, &format, selection).await;
    }
    let get = Get { env, args: &args, format: &format };
    if format.is_human() { get.human(selection).await } else { get.machine(selection).await }
}

async fn select(env: &Env, args: &GetArgs) -> Result<Selection> {
    if args.files.given() {
        if !args.resources.is_empty() {
            return Err(Error::message(
                "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
            ));
        }
        return Ok(Selection::Targets(env.objects_of(&args.files).await?));
    }
    if args.resources.is_empty() {
        return Err(Error::Raw(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n\nerror: Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples".to_string(),
        ));
    }
    let selection = env.select(&args.resources).await?;
    if let Selection::Targets(_) = selection {
        if args.selector.all_namespaces {
            return Err(Error::message("a resource cannot be retrieved by name across all namespaces"));
        }
        if args.selector.given() {
            return Err(Error::message("name cannot be provided when a selector is specified"));
        }
    }
    Ok(selection)
}

struct Get<'a> {
    env: &'a Env,
    args: &'a GetArgs,
    format: &'a Format,
}

impl Get<'_> {
    fn path(&self, target: &Target) -> String {
        match &self.args.subresource {
            Some(subresource) => target.sub_path(subresource),
            None => target.path(),
        }
    }

    fn look(&self, several_kinds: bool, namespaced: bool) -> Look {
        Look {
            wide: matches!(self.format, Format::Human { wide: true }),
            no_headers: self.args.no_headers,
            with_namespace: self.args.selector.all_namespaces && namespaced,
            with_kind: self.args.show_kind || several_kinds,
            show_labels: self.args.show_labels,
            label_columns: self.args.label_columns.clone(),
        }
    }

    async fn human(&self, selection: Selection) -> Result<()> {
        let mut tables: Vec<(Row, Table)> = Vec::new();
        let mut errors = Vec::new();
        let is_list = matches!(selection, Selection::Collections(_));
        match selection {
            Selection::Collections(rows) => {
                for row in rows {
                    match self.list_table(&row).await {
                        Ok(table) => tables.push((row, table)),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Selection::Targets(targets) => {
                for target in targets {
                    match self.one_table(&target).await {
                        Ok(table) => match tables.iter_mut().find(|(row, _)| same_kind(row, &target.row)) {
                            Some((_, known)) => known.append(table),
                            None => tables.push((target.row, table)),
                        },
                        Err(error) if error.is_not_found() && self.args.ignore_not_found => {}
                        Err(error) => errors.push(error),
                    }
                }
            }
        }
        if let Some(path) = &self.args.sort_by {
            for (_, table) in &mut tables {
                match sort::by_path(&mut table.rows, path, |row| &row.object) {
                    // A field that no row has leaves a table as it is.
                    Ok(()) | Err(sort::SortError::Missing(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let shown = self.print_tables(&tables)?;
        if shown == 0 && is_list && errors.is_empty() && !self.args.ignore_not_found {
            let namespaced = tables.iter().any(|(row, _)| row.namespaced());
            if namespaced && !self.args.selector.all_namespaces {
                tell(&format!("No resources found in {} namespace.", self.env.namespace));
            } else {
                tell("No resources found");
            }
        }
        collect(errors)
    }

    /// Prints the tables that have rows, with an empty line between them; says how many there were.
    fn print_tables(&self, tables: &[(Row, Table)]) -> Result<usize> {
        let several = tables.len() > 1;
        let mut shown = 0;
        for (row, table) in tables.iter().filter(|(_, table)| !table.rows.is_empty()) {
            if shown > 0 {
                print("\n")?;
            }
            let look = self.look(several, row.namespaced());
            print(&look.text(table, row, &mut TextTable::default(), true))?;
            shown += 1;
        }
        Ok(shown)
    }

    /// The form in which answers are asked for.
    fn accept(&self) -> &'static str {
        if self.args.server_print { ACCEPT_TABLE } else { JSON }
    }

    /// The query of requests for tables: whole objects only where something is to be read from them.
    fn include_object(&self) -> &'static str {
        if self.args.sort_by.is_some() { "includeObject=Object&" } else { "" }
    }

    async fn list_table(&self, row: &Row) -> Result<Table> {
        let rest = self.env.rest().await?;
        let query = format!("{}{}", self.args.selector.query(), self.include_object());
        let namespace = self.args.selector.namespace(self.env, row);
        let mut table = Table::default();
        let mut token = String::new();
        loop {
            let path = page_path(row, namespace, &query, self.args.chunk_size, &token);
            let answer =
                rest.get_as(&path, self.accept()).await.map_err(|error| about_list(row, &query, error))?;
            token = answer["metadata"]["continue"].as_str().unwrap_or_default().to_string();
            table.append(Table::from_answer(answer, Timestamp::now()));
            if token.is_empty() {
                return Ok(table);
            }
        }
    }

    async fn one_table(&self, target: &Target) -> Result<Table> {
        let query = self.include_object().trim_end_matches('&');
        let path = self.path(target);
        let path = if query.is_empty() { path } else { format!("{path}?{query}") };
        let answer = self.env.rest().await?.get_as(&path, self.accept()).await?;
        Ok(Table::from_answer(answer, Timestamp::now()))
    }

    async fn machine(&self, selection: Selection) -> Result<()> {
        let mut errors = Vec::new();
        let mut objects = Vec::new();
        let single = matches!(&selection, Selection::Targets(targets) if targets.len() == 1);
        match selection {
            Selection::Collections(rows) => {
                for row in rows {
                    let namespace = self.args.selector.namespace(self.env, &row);
                    let query = self.args.selector.query();
                    match self.env.list(&row, namespace, &query, self.args.chunk_size).await {
                        Ok(items) => objects.extend(items),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Selection::Targets(targets) => {
                for target in targets {
                    match self.env.rest().await?.get_as(&self.path(&target), JSON).await {
                        Ok(object) => objects.push(object),
                        Err(error) if error.is_not_found() && self.args.ignore_not_found => {}
                        Err(error) => errors.push(error),
                    }
                }
            }
        }
        if let Some(path) = &self.args.sort_by {
            sort::by_path(&mut objects, path, |object| object).map_err(Error::from)?;
        }
        if single {
            if let Some(object) = objects.first() {
                print(&self.text(object)?)?;
            }
        } else if !objects.is_empty() || errors.is_empty() {
            print(&self.text(&list_of(objects))?)?;
        }
        collect(errors)
    }

    fn text(&self, object: &Value) -> Result<String> {
        self.format.text(object, self.args.output.show_managed_fields, self.args.no_headers)
    }
}

fn same_kind(left: &Row, right: &Row) -> bool {
    left.group == right.group && left.plural == right.plural
}

/// A `List` as kubectl makes it for several objects.
pub(crate) fn list_of(objects: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}
