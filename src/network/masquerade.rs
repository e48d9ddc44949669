//! Masquerading of what this node's pods send to the world outside the cluster, in a table of the instance's own.

use crate::command::run;
use crate::{Config, NetworkError};

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

pub(crate) async fn apply(config: &Config, pod_cidr: &str) -> Result<(), NetworkError> {
    run("nft", &["-f", "-"], &script(&config.table, pod_cidr, &config.cluster_cidr)).await.map(|_| ())
}

/// Removes the table; that there is none is fine.
pub(crate) async fn remove(table: &str) -> Result<(), NetworkError> {
    run("nft", &["-f", "-"], &format!("add table ip {table}\ndelete table ip {table}\n")).await.map(|_| ())
}
