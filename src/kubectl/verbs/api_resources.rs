//! `kubectl api-resources` and `api-versions`.

use clap::Args;

use crate::discovery::Row;
use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::output::text_table;

/// Print the supported API resources on the server
#[derive(Args)]
pub(crate) struct ApiResourcesArgs {
    /// Only resources of this group
    #[arg(long)]
    api_group: Option<String>,
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Only namespaced (or, with =false, only cluster-scoped) resources
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    #[arg(long)]
    no_headers: bool,
    /// wide or name
    #[arg(short = 'o', long)]
    output: Option<String>,
    /// name or kind
    #[arg(long)]
    sort_by: Option<String>,
    /// Only resources with these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Accepted for compatibility; nothing is cached
    #[arg(long)]
    cached: bool,
    /// Accepted for compatibility
    #[arg(long)]
    show_managed_fields: bool,
}

/// Print the supported API versions on the server
#[derive(Args)]
pub(crate) struct ApiVersionsArgs {}

pub(crate) async fn run(env: &Env, args: ApiResourcesArgs) -> Result<()> {
    let discovery = env.discovery().await?;
    let mut rows: Vec<Row> = Vec::new();
    for row in &discovery.rows {
        // Each resource is shown in the version that the server prefers.
        let known = rows.iter().any(|own| own.plural == row.plural && own.group == row.group);
        let wanted = args.api_group.as_deref().is_none_or(|group| row.group == group)
            && args.namespaced.is_none_or(|namespaced| row.namespaced() == namespaced)
            && args.verbs.iter().all(|verb| row.allows(verb))
            && args.categories.iter().all(|category| row.categories.iter().any(|own| own == category))
            && !row.verbs.is_empty();
        if !known && wanted {
            rows.push(row.clone());
        }
    }
    match args.sort_by.as_deref() {
        None | Some("") => rows.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural))),
        Some("name") => rows.sort_by(|a, b| a.plural.cmp(&b.plural)),
        Some("kind") => rows.sort_by(|a, b| a.kind.cmp(&b.kind)),
        Some(_) => return Err(Error::message("--sort-by accepts only name or kind")),
    }
    let wide = match args.output.as_deref() {
        None | Some("") => false,
        Some("wide") => true,
        Some("name") => {
            let names: String = rows.iter().map(|row| format!("{}\n", row.group_resource())).collect();
            return print(&names);
        }
        Some(other) => return Err(Error::message(format!("--output {other} is not available"))),
    };
    print(&table(&rows, wide, args.no_headers))
}

fn table(rows: &[Row], wide: bool, no_headers: bool) -> String {
    let mut lines = Vec::new();
    if !no_headers {
        let mut headers = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
        if wide {
            headers.extend(["VERBS", "CATEGORIES"]);
        }
        lines.push(headers.into_iter().map(str::to_string).collect());
    }
    for row in rows {
        let mut line = vec![
            row.plural.to_string(),
            row.short_names.join(","),
            row.api_version(),
            row.namespaced().to_string(),
            row.kind.to_string(),
        ];
        if wide {
            line.extend([row.verbs.join(","), row.categories.join(",")]);
        }
        lines.push(line);
    }
    text_table::format(&lines)
}

pub(crate) async fn versions(env: &Env, _args: ApiVersionsArgs) -> Result<()> {
    let mut versions = env.discovery().await?.versions.clone();
    versions.sort();
    print(&versions.iter().map(|version| format!("{version}\n")).collect::<String>())
}
