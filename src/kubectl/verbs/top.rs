//! `kubectl top`: what nodes and pods use, as `metrics.k8s.io` tells.

use api::json::as_text;
use api::quantity::Quantity;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::output::text_table;
use crate::selection::SelectorArgs;

const GROUP: &str = "/apis/metrics.k8s.io/v1beta1";

/// Display resource (CPU/memory) usage
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct TopArgs {
    #[command(subcommand)]
    of: Of,
}

#[derive(Subcommand)]
enum Of {
    /// Display resource usage of nodes
    #[command(visible_aliases = ["nodes", "no"])]
    Node(NodeArgs),
    /// Display resource usage of pods
    #[command(visible_aliases = ["pods", "po"])]
    Pod(PodArgs),
}

#[derive(Args)]
struct NodeArgs {
    name: Option<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    /// cpu or memory
    #[arg(long)]
    sort_by: Option<String>,
    #[arg(long)]
    no_headers: bool,
    /// Parts of the capacity instead of what pods can have
    #[arg(long)]
    show_capacity: bool,
    /// Use of swap, too
    #[arg(long)]
    show_swap: bool,
    /// Accepted for compatibility; answers are JSON
    #[arg(long, default_value_t = true)]
    use_protocol_buffers: bool,
}

#[derive(Args)]
struct PodArgs {
    name: Option<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    /// cpu or memory
    #[arg(long)]
    sort_by: Option<String>,
    #[arg(long)]
    no_headers: bool,
    /// Each container for itself
    #[arg(long)]
    containers: bool,
    /// A last line with the sum
    #[arg(long)]
    sum: bool,
    /// Use of swap, too
    #[arg(long)]
    show_swap: bool,
    /// Accepted for compatibility; answers are JSON
    #[arg(long, default_value_t = true)]
    use_protocol_buffers: bool,
}

const MEBIBYTE: i64 = 1024 * 1024;

/// Processor time in thousandths of a core and memory in bytes.
#[derive(Clone, Copy, Default)]
struct Used {
    cpu: i64,
    memory: i64,
    /// Bytes of swap; none where it is not known.
    swap: Option<i64>,
}

impl Used {
    fn of(usage: &Value) -> Self {
        let quantity = |name: &str| as_text(&usage[name]).parse::<Quantity>().unwrap_or_default();
        let swap = usage["swap"].as_str().and_then(|text| text.parse::<Quantity>().ok());
        Used {
            cpu: quantity("cpu").milli_value(),
            memory: quantity("memory").value(),
            swap: swap.map(|swap| swap.value()),
        }
    }

    fn plus(self, other: Used) -> Used {
        let swap = match (self.swap, other.swap) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Used {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            swap,
        }
    }

    fn cells(self) -> [String; 2] {
        [format!("{}m", self.cpu), format!("{}Mi", self.memory / MEBIBYTE)]
    }

    fn swap_cell(self) -> String {
        format!("{}Mi", self.swap.unwrap_or(0) / MEBIBYTE)
    }
}

pub(crate) async fn run(env: &Env, args: TopArgs) -> Result<()> {
    match args.of {
        Of::Node(args) => nodes(env, args).await,
        Of::Pod(args) => pods(env, args).await,
    }
}

fn check(name: Option<&String>, selector: &SelectorArgs, sort_by: Option<&str>) -> Result<()> {
    if sort_by.is_some_and(|by| !matches!(by, "cpu" | "memory" | "")) {
        return Err(Error::message("--sort-by accepts only cpu or memory"));
    }
    if name.is_some() && selector.given() {
        return Err(Error::message("only one of NAME or selector can be provided"));
    }
    Ok(())
}

/// The measurements below a path: of one name, or all that match.
async fn measured(
    env: &Env,
    path: &str,
    name: Option<&String>,
    selector: &SelectorArgs,
) -> Result<Vec<Value>> {
    let rest = env.rest().await?;
    let unavailable = |error: Error| {
        let is_group =
            error.api().is_some_and(|error| error.message().contains("could not find the requested"));
        if is_group { Error::message("Metrics API not available") } else { error }
    };
    match name {
        Some(name) => Ok(vec![rest.get(&format!("{path}/{name}")).await.map_err(unavailable)?]),
        None => {
            let mut list = rest.get(&format!("{path}?{}", selector.query())).await.map_err(unavailable)?;
            Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
        }
    }
}

/// By name, or the largest first.
fn sort(lines: &mut [(Vec<String>, Used)], by: Option<&str>) {
    match by {
        Some("cpu") => lines.sort_by_key(|(_, used)| std::cmp::Reverse(used.cpu)),
        Some("memory") => lines.sort_by_key(|(_, used)| std::cmp::Reverse(used.memory)),
        _ => lines.sort_by(|(one, _), (other, _)| one.cmp(other)),
    }
}

async fn nodes(env: &Env, args: NodeArgs) -> Result<()> {
    check(args.name.as_ref(), &args.selector, args.sort_by.as_deref())?;
    let items = measured(env, &format!("{GROUP}/nodes"), args.name.as_ref(), &args.selector).await?;
    if items.is_empty() {
        return Err(Error::message("metrics not available yet"));
    }
    let row = env.resource("nodes").await?;
    let known = env.list(&row, None, "", 500).await?;
    let part = if args.show_capacity { "capacity" } else { "allocatable" };
    let mut lines: Vec<(Vec<String>, Used)> = items
        .iter()
        .map(|one| (vec![as_text(&one["metadata"]["name"]).to_string()], Used::of(&one["usage"])))
        .collect();
    sort(&mut lines, args.sort_by.as_deref());
    let mut table = Vec::new();
    if !args.no_headers {
        let mut names = vec!["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
        if args.show_swap {
            names.extend(["SWAP(bytes)", "SWAP(%)"]);
        }
        names.push("");
        table.push(names.into_iter().map(str::to_string).collect());
    }
    let percent = |used: i64, of: i64| {
        if of == 0 { "0%".to_string() } else { format!("{}%", used.saturating_mul(100) / of) }
    };
    for (name, used) in &lines {
        let node = known.iter().find(|node| node["metadata"]["name"] == name[0].as_str());
        let all = node.map(|node| Used::of(&node["status"][part])).unwrap_or_default();
        let [cpu, memory] = used.cells();
        let (cpu_part, memory_part) = (percent(used.cpu, all.cpu), percent(used.memory, all.memory));
        let mut cells = vec![name[0].clone(), cpu, cpu_part, memory, memory_part];
        if args.show_swap {
            let capacity = node.and_then(|node| node["status"]["nodeInfo"]["swap"]["capacity"].as_i64());
            cells.push(used.swap_cell());
            cells.push(match capacity {
                Some(capacity) => percent(used.swap.unwrap_or(0), capacity),
                None => "<unknown>".to_string(),
            });
        }
        cells.push(String::new());
        table.push(cells);
    }
    if args.name.is_none() && !args.selector.given() {
        let silent = known.iter().map(|node| as_text(&node["metadata"]["name"]));
        for name in silent.filter(|name| !lines.iter().any(|(line, _)| line[0] == *name)) {
            let columns = if args.show_swap { 6 } else { 4 };
            let mut cells = vec![name.to_string()];
            cells.extend(std::iter::repeat_n("<unknown>".to_string(), columns));
            cells.push(String::new());
            table.push(cells);
        }
    }
    print(&text_table::format(&table))
}

async fn pods(env: &Env, args: PodArgs) -> Result<()> {
    check(args.name.as_ref(), &args.selector, args.sort_by.as_deref())?;
    let all = args.selector.all_namespaces;
    let path =
        if all { format!("{GROUP}/pods") } else { format!("{GROUP}/namespaces/{}/pods", env.namespace) };
    let items = measured(env, &path, args.name.as_ref(), &args.selector).await?;
    if items.is_empty() {
        let place = if all { String::new() } else { format!(" in {} namespace.", env.namespace) };
        tell(&format!("No resources found{place}"));
        return Ok(());
    }
    let mut lines: Vec<(Vec<String>, Used)> = Vec::new();
    for pod in &items {
        let text = |field: &str| as_text(&pod["metadata"][field]).to_string();
        let mut first = if all { vec![text("namespace")] } else { Vec::new() };
        first.push(text("name"));
        let containers = pod["containers"].as_array().into_iter().flatten();
        if args.containers {
            let line = |one: &Value| {
                let mut cells = first.clone();
                cells.push(as_text(&one["name"]).to_string());
                (cells, Used::of(&one["usage"]))
            };
            lines.extend(containers.map(line));
        } else {
            let sum = containers.fold(Used::default(), |sum, one| sum.plus(Used::of(&one["usage"])));
            lines.push((first, sum));
        }
    }
    sort(&mut lines, args.sort_by.as_deref());
    let mut head: Vec<&str> = if all { vec!["NAMESPACE"] } else { Vec::new() };
    head.extend(if args.containers { &["POD", "NAME"][..] } else { &["NAME"] });
    let width = head.len();
    head.extend(["CPU(cores)", "MEMORY(bytes)"]);
    if args.show_swap {
        head.push("SWAP(bytes)");
    }
    head.push("");
    let mut table: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        table.push(head.into_iter().map(str::to_string).collect());
    }
    let with_use = |mut cells: Vec<String>, used: [String; 2], swap: String| {
        cells.extend(used);
        if args.show_swap {
            cells.push(swap);
        }
        cells.push(String::new());
        cells
    };
    for (cells, used) in &lines {
        table.push(with_use(cells.clone(), used.cells(), used.swap_cell()));
    }
    if args.sum {
        let sum = lines.iter().fold(Used::default(), |sum, (_, used)| sum.plus(*used));
        let rule = || "________".to_string();
        table.push(with_use(vec![String::new(); width], [rule(), rule()], rule()));
        table.push(with_use(vec![String::new(); width], sum.cells(), sum.swap_cell()));
    }
    print(&text_table::format(&table))
}
