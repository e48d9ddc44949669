//! Masquerading of what this node's pods send to the world outside the cluster, in a table of the instance's
//! own.
//!
//! The port mapping plugin works through iptables, whose `nat` tables (of both families) appear with the
//! first use and stay, empty, after the last. Which were there before us is noted, so that uninstalling can
//! take the others back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::NetworkError;
use crate::host::Host;

/// The whole table, replaced in one transaction.
fn script(table: &str, pod_cidr: &str, cluster_cidr: &str) -> String {
    format!(
        "add table ip {table}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
           chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             ip saddr {pod_cidr} ip daddr != {cluster_cidr} ip daddr != 224.0.0.0/4 masquerade\n\
           }}\n\
         }}\n"
    )
}

fn note_file(state_dir: &Path) -> PathBuf {
    state_dir.join("tables-before")
}

/// Notes which tables there are, once, before the first of ours.
async fn note_tables(host: &dyn Host, state_dir: &Path) -> Result<(), NetworkError> {
    let path = note_file(state_dir);
    if path.exists() {
        return Ok(());
    }
    let tables = host.run("nft", &["list", "tables"], "").await?;
    let written = fs::create_dir_all(state_dir).and_then(|()| fs::write(&path, tables));
    written.map_err(|source| NetworkError::File { path, source })
}

/// Whether a listing of a table has no rule: nothing but the headers that iptables makes.
fn has_no_rule(listing: &str) -> bool {
    let header =
        |line: &str| ["table ", "chain ", "type ", "}", "#"].iter().any(|start| line.starts_with(start));
    listing.lines().map(str::trim).all(|line| line.is_empty() || header(line))
}

/// Removes iptables' `nat` tables that were not there before us and in which nobody has anything.
pub(crate) async fn remove_empty_nat(host: &dyn Host, state_dir: &Path) -> Result<(), NetworkError> {
    let Ok(before) = fs::read_to_string(note_file(state_dir)) else { return Ok(()) };
    for family in ["ip", "ip6"] {
        if before.lines().any(|line| line.trim() == format!("table {family} nat")) {
            continue;
        }
        let Ok(listing) = host.run("nft", &["list", "table", family, "nat"], "").await else { continue };
        if has_no_rule(&listing) {
            host.run("nft", &["delete", "table", family, "nat"], "").await?;
        }
    }
    Ok(())
}

pub(crate) async fn apply(host: &dyn Host, config: &Config, pod_cidr: &str) -> Result<(), NetworkError> {
    note_tables(host, &config.state_dir).await?;
    host.run("nft", &["-f", "-"], &script(&config.table, pod_cidr, &config.cluster_cidr)).await.map(|_| ())
}

/// Removes the table; that there is none is fine.
pub(crate) async fn remove(host: &dyn Host, table: &str) -> Result<(), NetworkError> {
    host.run("nft", &["-f", "-"], &format!("add table ip {table}\ndelete table ip {table}\n"))
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_empty_if_it_has_headers_only() {
        let empty = "table ip nat {\n\tchain OUTPUT {\n\t\ttype nat hook output priority -100; policy accept;\n\t}\n}\n";
        assert!(has_no_rule(empty));
        assert!(!has_no_rule(&empty.replace("accept;\n", "accept;\n\t\tcounter packets 0 bytes 0 jump X\n")));
    }

    #[test]
    fn the_script_replaces_the_table_whole() {
        let script = script("minik8s_x", "10.42.1.0/24", "10.42.0.0/16");
        assert!(
            script.starts_with("add table ip minik8s_x\ndelete table ip minik8s_x\ntable ip minik8s_x {"),
            "{script}"
        );
        assert!(script.contains("ip saddr 10.42.1.0/24 ip daddr != 10.42.0.0/16"), "{script}");
    }
}
