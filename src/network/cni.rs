//! The CNI configuration of the node, and the traces that the standard plugins leave.
//!
//! The runtime watches its configuration directory, so nothing needs to be told.
//! Version 0.4.0 of the format is what every distribution's plugins understand.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::Config;
use crate::error::NetworkError;
use crate::host::Host;

/// Where the standard plugins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginDirectory(pub PathBuf);

impl PluginDirectory {
    /// The first of the usual places that holds the bridge plugin.
    pub fn find() -> Option<Self> {
        ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"]
            .into_iter()
            .map(PathBuf::from)
            .find(|place| place.join("bridge").exists())
            .map(PluginDirectory)
    }
}

/// Where `host-local` keeps a file per address that is held, in a directory per network.
pub(crate) fn addresses(state_dir: &Path) -> PathBuf {
    state_dir.join("addresses")
}

/// The configuration list: bridge with `host-local` addresses, and port mapping. The runtime adds loopback
/// itself.
fn conflist(config: &Config, pod_cidr: &str) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": config.network_name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": config.bridge,
                "isGateway": true,
                "isDefaultGateway": true,
                "forceAddress": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": addresses(&config.state_dir),
                    "ranges": [[{ "subnet": pod_cidr }]],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    })
}

pub(crate) fn write(config: &Config, pod_cidr: &str) -> Result<(), NetworkError> {
    let path = config.cni_conf_dir.join(format!("10-{}.conflist", config.network_name));
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| NetworkError::File { path, source }
    };
    fs::create_dir_all(&config.cni_conf_dir).map_err(failed(&config.cni_conf_dir))?;
    fs::create_dir_all(&config.state_dir).map_err(failed(&config.state_dir))?;
    let text = format!("{:#}\n", conflist(config, pod_cidr));
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    // Whole under its name at once. Renamed within the directory, because containerd takes no notice of a
    // file that comes from elsewhere (it ignores "created" and heeds "renamed"); it reads no file of this
    // ending.
    let fresh = config.cni_conf_dir.join(format!("{}.new", config.network_name));
    fs::write(&fresh, text).map_err(failed(&fresh))?;
    fs::rename(&fresh, &path).map_err(failed(&path))
}

/// How the plugin marks the rules of a network.
fn mark_of_network(network: &str) -> String {
    format!("name: \\\"{network}\\\"")
}

/// How the plugin marks the rules of a sandbox.
fn mark_of_sandbox(id: &str) -> String {
    format!("id: \\\"{id}\\\"")
}

/// Lines that take the port mappings with this mark out of a dump of the `nat` table (`iptables-save -t
/// nat`), and the plugin's common chains if nobody else uses them.
fn without_port_mappings(dump: &str, mark: &str) -> String {
    let chain_of = |line: &str, flag: &str| {
        line.split_whitespace().skip_while(|word| *word != flag).nth(1).map(str::to_string)
    };
    let rules: Vec<&str> = dump.lines().filter(|line| line.starts_with("-A ")).collect();
    let ours: Vec<String> =
        rules.iter().filter(|rule| rule.contains(mark)).filter_map(|rule| chain_of(rule, "-j")).collect();
    let others_left =
        rules.iter().any(|rule| rule.starts_with("-A CNI-HOSTPORT-DNAT ") && !rule.contains(mark));
    let common = ["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK"];
    let has = |chain: &str| dump.lines().any(|line| line.starts_with(&format!(":{chain} ")));
    let mut chains: Vec<String> = ours;
    if !others_left {
        chains.extend(common.iter().filter(|chain| has(chain)).map(|chain| chain.to_string()));
    }
    chains.sort();
    chains.dedup();
    let mut script = String::from("*nat\n");
    for rule in rules {
        let target = chain_of(rule, "-j").unwrap_or_default();
        let leads_in =
            chains.contains(&target) && !chains.contains(&chain_of(rule, "-A").unwrap_or_default());
        if leads_in || rule.contains(mark) {
            script.push_str(&rule.replacen("-A ", "-D ", 1));
            script.push('\n');
        }
    }
    for chain in &chains {
        script.push_str(&format!("-F {chain}\n"));
    }
    for chain in &chains {
        script.push_str(&format!("-X {chain}\n"));
    }
    if chains.is_empty() { String::new() } else { script + "COMMIT\n" }
}

/// Port mappings of pods that were never torn down. A machine without iptables has none.
pub(crate) async fn remove_port_mappings(host: &dyn Host, network: &str) -> Result<(), NetworkError> {
    remove_marked(host, &mark_of_network(network)).await
}

/// Those of one sandbox.
pub(crate) async fn remove_port_mappings_of(host: &dyn Host, id: &str) -> Result<(), NetworkError> {
    remove_marked(host, &mark_of_sandbox(id)).await
}

async fn remove_marked(host: &dyn Host, mark: &str) -> Result<(), NetworkError> {
    let dump = match host.run("iptables-save", &["-t", "nat"], "").await {
        Ok(dump) => dump,
        Err(_) => return Ok(()),
    };
    let script = without_port_mappings(&dump, mark);
    if script.is_empty() {
        return Ok(());
    }
    host.run("iptables-restore", &["--noflush"], &script).await.map(|_| ())
}

/// Gives the addresses of a sandbox back, and removes the cached results of it.
pub(crate) fn forget_sandbox(config: &Config, id: &str) -> Result<(), NetworkError> {
    let held = addresses(&config.state_dir).join(&config.network_name);
    let is_held = |path: &PathBuf| {
        fs::read_to_string(path).is_ok_and(|text| text.lines().next().is_some_and(|line| line.trim() == id))
    };
    let is_cached = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('-').any(|part| part == id)
    };
    let in_folder = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let addresses = in_folder(&held).into_iter().filter(is_held);
    let results = in_folder(Path::new(CACHE)).into_iter().filter(is_cached);
    for path in addresses.chain(results).collect::<Vec<_>>() {
        fs::remove_file(&path).map_err(|source| NetworkError::File { path, source })?;
    }
    Ok(())
}

/// What the CNI library caches of every attachment; its place is fixed.
const CACHE: &str = "/var/lib/cni/results";

/// Removes the cached results of this network: its own, and the loopback ones of the sandboxes that hold its
/// addresses.
pub(crate) fn remove_cached_results(network: &str, state_dir: &Path) -> Result<(), NetworkError> {
    let Ok(cached) = fs::read_dir(CACHE) else { return Ok(()) };
    let mut sandboxes = Vec::new();
    for address in fs::read_dir(addresses(state_dir).join(network)).into_iter().flatten().flatten() {
        if let Ok(text) = fs::read_to_string(address.path()) {
            sandboxes.extend(text.lines().next().map(str::trim).map(str::to_string));
        }
    }
    let names: Vec<String> =
        cached.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let own = format!("{network}-");
    for name in &names {
        // `NETWORK-SANDBOX-INTERFACE`; an instance's name may be the beginning of another's, a sandbox id
        // never has a dash.
        let rest = name.strip_prefix(&own).filter(|rest| rest.matches('-').count() == 1);
        sandboxes.extend(rest.and_then(|rest| rest.split('-').next()).map(str::to_string));
    }
    sandboxes.retain(|id| id.len() == 64);
    for name in names {
        let loopback = name.strip_prefix("cni-loopback-");
        let mine = name.strip_prefix(&own).or(loopback).and_then(|rest| rest.split('-').next());
        if mine.is_some_and(|id| sandboxes.iter().any(|own| own == id)) {
            let path = Path::new(CACHE).join(&name);
            fs::remove_file(&path).map_err(|source| NetworkError::File { path, source })?;
        }
    }
    // Gone only if empty: others may keep results there too.
    let _ = fs::remove_dir(CACHE);
    let _ = fs::remove_dir("/var/lib/cni");
    Ok(())
}

#[cfg(test)]
mod tests;
