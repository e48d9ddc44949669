//! Logging to standard error, with a level per component.
//!
//! `--log info` or `--log warn,kubelet=debug,store=trace`. A component is one of our crates; libraries stay
//! at `warn` unless they are named.

use tracing_subscriber::EnvFilter;

use crate::Problem;
use crate::flags::nearest;

/// What users call components, and the crate whose messages they mean.
const COMPONENTS: &[(&str, &str)] = &[
    ("agent", "agent"),
    ("apiserver", "apiserver"),
    ("client", "client"),
    ("controllers", "controllers"),
    ("ingress", "ingress"),
    ("ingress-access", "ingress::access"),
    ("kubelet", "kubelet"),
    ("network", "network"),
    ("scheduler", "scheduler"),
    ("server", "server"),
    ("store", "embedded_store"),
    ("supervisor", "supervisor"),
];

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// The filter that a `--log` value means.
fn directives(text: &str) -> Result<String, Problem> {
    let mut base = "info".to_string();
    let mut special = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (component, level) =
            part.split_once('=').map_or((None, part), |(name, level)| (Some(name), level));
        let level = level.to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            let levels = LEVELS.join(", ");
            return Err(Problem::new(
                format!("use --log {text}"),
                format!("{level} is no level"),
                format!("use one of {levels}"),
            ));
        }
        match component {
            None => base = level,
            Some(name) => match COMPONENTS.iter().find(|(known, _)| *known == name) {
                Some((_, target)) => special.push(format!("{target}={level}")),
                None => {
                    let names: Vec<&str> = COMPONENTS.iter().map(|(name, _)| *name).collect();
                    let near = nearest(name, names.iter().copied()).unwrap_or("server");
                    return Err(Problem::new(
                        format!("use --log {text}"),
                        format!("there is no component {name}"),
                        format!("did you mean {near}? Components are {}", names.join(", ")),
                    ));
                }
            },
        }
    }
    let libraries =
        if LEVELS.iter().position(|level| *level == base) < Some(2) { base.as_str() } else { "warn" };
    // The store tells what becomes of its group; its engine would say the same of every attempt.
    let mut all = vec![libraries.to_string(), "openraft=off".to_string()];
    all.extend(COMPONENTS.iter().map(|(_, target)| format!("{target}={base}")));
    all.extend(special);
    Ok(all.join(","))
}

/// Starts logging for the whole process. A second call changes nothing.
pub fn init(text: &str) -> Result<(), Problem> {
    let filter = EnvFilter::builder()
        .parse(directives(text)?)
        .map_err(|error| Problem::new(format!("use --log {text}"), error, "see 'minik8s server --help'"))?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    Ok(())
}

#[cfg(test)]
mod tests;
