//! `kubectl create ingress`: rules of the form `host/path=service:port[,tls[=secret]]`.

use std::sync::LazyLock;

use clap::Args;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::GeneratorArgs;
use crate::error::{Error, Result};

/// Create an ingress with the specified name
#[derive(Args)]
pub(crate) struct IngressArgs {
    name: String,
    /// Class of the ingress
    #[arg(long)]
    class: Option<String>,
    /// host/path=service:port[,tls[=secret]], may be repeated; a path that ends with * means its prefix
    #[arg(long)]
    rule: Vec<String>,
    /// SERVICE:PORT for everything else
    #[arg(long)]
    default_backend: Option<String>,
    /// KEY=VALUE, may be repeated
    #[arg(long)]
    annotation: Vec<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

static RULE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?P<host>[\w*\-.]*)(?P<path>/.*)=(?P<service>[\w\-]+):(?P<port>[\w\-]+)(?:,(?P<tls>tls)=?(?P<secret>[\w\-]+)?)?").ok()
});

/// A rule as it is typed.
struct Rule<'a> {
    host: &'a str,
    path: &'a str,
    service: &'a str,
    port: &'a str,
    /// The secret, if it is to be TLS; empty: none is named.
    tls: Option<&'a str>,
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let bad = || {
            Error::message(format!(
                "rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
            ))
        };
        let found = RULE.as_ref().and_then(|rule| rule.captures(text)).ok_or_else(bad)?;
        let part = |name: &str| found.name(name).map(|part| part.as_str());
        Ok(Rule {
            host: part("host").unwrap_or_default(),
            path: part("path").unwrap_or_default(),
            service: part("service").unwrap_or_default(),
            port: part("port").unwrap_or_default(),
            tls: part("tls").map(|_| part("secret").unwrap_or_default()),
        })
    }

    fn http_path(&self) -> Value {
        let (path, kind) = match self.path.strip_suffix('*') {
            Some(prefix) => (prefix, "Prefix"),
            None => (self.path, "Exact"),
        };
        json!({"path": path, "pathType": kind, "backend": backend(self.service, self.port)})
    }
}

fn backend(service: &str, port: &str) -> Value {
    let port = match port.parse::<i32>() {
        Ok(number) => json!({"number": number}),
        Err(_) => json!({"name": port}),
    };
    json!({"service": {"name": service, "port": port}})
}

pub(super) fn ingress(args: IngressArgs) -> Result<(Value, GeneratorArgs)> {
    if args.default_backend.is_none() && args.rule.is_empty() {
        return Err(Error::message(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
        ));
    }
    let rules: Vec<Rule<'_>> = args.rule.iter().map(|text| Rule::parse(text)).collect::<Result<_>>()?;
    let mut spec = json!({});
    if let Some(class) = args.class.as_deref().filter(|class| !class.is_empty()) {
        spec["ingressClassName"] = json!(class);
    }
    if let Some(text) = &args.default_backend {
        let (service, port) = text
            .split_once(':')
            .filter(|(_, port)| !port.contains(':'))
            .ok_or_else(|| Error::message("default-backend should be in format servicename:serviceport"))?;
        spec["defaultBackend"] = backend(service, port);
    }
    if !rules.is_empty() {
        spec["rules"] = json!(by_host(&rules));
    }
    let tls = tls(&rules);
    if !tls.is_empty() {
        spec["tls"] = json!(tls);
    }
    let mut metadata = json!({"name": args.name});
    if !args.annotation.is_empty() {
        metadata["annotations"] = Value::Object(annotations(&args.annotation)?);
    }
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec,
        "status": {"loadBalancer": {}},
    });
    Ok((object, args.generator))
}

fn annotations(given: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_string(), json!(value))),
        None => {
            Err(Error::message(format!("annotation {text} is invalid and should be in format key=[value]")))
        }
    };
    given.iter().map(pair).collect()
}

/// One entry a host, in the order the hosts came in.
fn by_host(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut hosts: Vec<(&str, Vec<Value>)> = Vec::new();
    for rule in rules {
        match hosts.iter_mut().find(|(host, _)| *host == rule.host) {
            Some((_, paths)) => paths.push(rule.http_path()),
            None => hosts.push((rule.host, vec![rule.http_path()])),
        }
    }
    let entry = |(host, paths): (&str, Vec<Value>)| match host {
        "" => json!({"http": {"paths": paths}}),
        host => json!({"host": host, "http": {"paths": paths}}),
    };
    hosts.into_iter().map(entry).collect()
}

/// One entry a secret; a host is in the first that names it.
fn tls(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut entries: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for rule in rules {
        let Some(secret) = rule.tls.filter(|_| !known.contains(&rule.host)) else { continue };
        known.push(rule.host);
        match entries.iter_mut().find(|(own, _)| *own == secret) {
            Some((_, hosts)) => hosts.push(rule.host),
            None if rule.host.is_empty() && secret.is_empty() => {}
            None if rule.host.is_empty() => entries.push((secret, Vec::new())),
            None => entries.push((secret, vec![rule.host])),
        }
    }
    let entry = |(secret, hosts): (&str, Vec<&str>)| {
        let mut entry = json!({});
        if !hosts.is_empty() {
            entry["hosts"] = json!(hosts);
        }
        if !secret.is_empty() {
            entry["secretName"] = json!(secret);
        }
        entry
    };
    entries.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
