//! Lets pods' packets through where the machine's iptables drop what is forwarded (docker sets such a policy,
//! so does ufw).
//!
//! A packet must be accepted by every table that looks at it, so a rule in our own table would not help: it
//! has to stand in iptables' own `FORWARD` chain, and leads to a chain of the instance's name. Where nothing
//! is filtered there, nothing is done. Drops in nftables tables of others (firewalld's, say) cannot be
//! overruled by anybody but them.

use std::sync::Arc;

use crate::config::Config;
use crate::error::NetworkError;
use crate::host::{Host, HostCall};
use crate::parts::{NetworkPart, own_range};
use crate::routes::Peer;

/// Name of the chain; iptables allows 28 letters.
fn chain_of(table: &str) -> String {
    format!("{table}-forward")
}

fn rules<'a>(dump: &'a str, chain: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("-A {chain} ");
    dump.lines().filter(move |line| line.starts_with(&start))
}

/// The rules of our chain.
fn own_rules(chain: &str, cluster_cidr: &str) -> [String; 2] {
    [format!("-A {chain} -s {cluster_cidr} -j ACCEPT"), format!("-A {chain} -d {cluster_cidr} -j ACCEPT")]
}

fn leads_to(rule: &str, chain: &str) -> bool {
    rule.ends_with(&format!("-j {chain}"))
}

/// What `iptables-restore --noflush` must be told, given a dump of the `filter` table; none if all is as it
/// should be.
fn wanted(dump: &str, chain: &str, cluster_cidr: &str) -> Option<String> {
    let drops =
        dump.lines().any(|line| line.starts_with(":FORWARD ") && !line.starts_with(":FORWARD ACCEPT"));
    let filters = rules(dump, "FORWARD").any(|rule| !leads_to(rule, chain));
    if !drops && !filters {
        return None;
    }
    let own = own_rules(chain, cluster_cidr);
    let is_led_to = rules(dump, "FORWARD").any(|rule| leads_to(rule, chain));
    if is_led_to && rules(dump, chain).eq(own.iter()) {
        return None;
    }
    let lead = if is_led_to { String::new() } else { format!("-I FORWARD -j {chain}\n") };
    // Naming the chain empties it.
    Some(format!("*filter\n:{chain} - [0:0]\n{lead}{}\nCOMMIT\n", own.join("\n")))
}

/// What takes our chain out again; none if there is none.
fn removal(dump: &str, chain: &str) -> Option<String> {
    let exists = dump.lines().any(|line| line.starts_with(&format!(":{chain} ")));
    if !exists {
        return None;
    }
    let leads = rules(dump, "FORWARD").filter(|rule| leads_to(rule, chain));
    let leads: String = leads.map(|rule| rule.replacen("-A ", "-D ", 1) + "\n").collect();
    Some(format!("*filter\n{leads}-F {chain}\n-X {chain}\nCOMMIT\n"))
}

/// The `filter` table; empty on a machine without iptables, or whose iptables does not work: nothing can be
/// dropped by it.
async fn dump(host: &dyn Host) -> String {
    host.run("iptables-save", &["-t", "filter"], "").await.unwrap_or_default()
}

/// Our chain where it is needed.
pub(crate) struct Forwarding {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) config: Config,
}

impl NetworkPart for Forwarding {
    fn name(&self) -> &'static str {
        "rules for forwarded packets"
    }

    /// To be repeated: who comes later may flush what was there before, and nobody tells.
    fn is_watched(&self) -> bool {
        false
    }

    fn reconcile<'a>(&'a mut self, peers: &'a [Peer]) -> HostCall<'a, ()> {
        Box::pin(async move {
            // Before there is a pod network nothing is forwarded.
            match own_range(peers, &self.config.node_name) {
                Some(_) => apply(&*self.host, &self.config).await,
                None => Ok(()),
            }
        })
    }
}

async fn apply(host: &dyn Host, config: &Config) -> Result<(), NetworkError> {
    let chain = chain_of(&config.table);
    let Some(script) = wanted(&dump(host).await, &chain, &config.cluster_cidr) else { return Ok(()) };
    host.run("iptables-restore", &["--noflush", "--wait", "5"], &script).await?;
    tracing::info!(chain, "forwarded packets are filtered on this machine: pods' packets are let through");
    Ok(())
}

pub(crate) async fn remove(host: &dyn Host, table: &str) -> Result<(), NetworkError> {
    let Some(script) = removal(&dump(host).await, &chain_of(table)) else { return Ok(()) };
    host.run("iptables-restore", &["--noflush", "--wait", "5"], &script).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n\
                          -A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\nCOMMIT\n";

    #[test]
    fn nothing_is_done_where_nothing_is_dropped() {
        let open = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n";
        assert_eq!(wanted(open, "x-forward", "10.42.0.0/16"), None);
        assert_eq!(wanted("", "x-forward", "10.42.0.0/16"), None);
        assert_eq!(removal(DOCKER, "x-forward"), None);
    }

    #[test]
    fn a_chain_of_ours_comes_first_and_goes_again() {
        let script = wanted(DOCKER, "x-forward", "10.42.0.0/16").unwrap();
        assert_eq!(
            script,
            "*filter\n:x-forward - [0:0]\n-I FORWARD -j x-forward\n-A x-forward -s 10.42.0.0/16 -j ACCEPT\n\
             -A x-forward -d 10.42.0.0/16 -j ACCEPT\nCOMMIT\n"
        );
        let after = DOCKER.replace(
            "-A FORWARD",
            ":x-forward - [0:0]\n-A FORWARD -j x-forward\n-A x-forward -s 10.42.0.0/16 -j ACCEPT\n-A x-forward -d 10.42.0.0/16 -j ACCEPT\n-A FORWARD",
        );
        assert_eq!(wanted(&after, "x-forward", "10.42.0.0/16"), None, "once is enough");
        let other_range = wanted(&after, "x-forward", "10.0.0.0/8").unwrap();
        assert!(!other_range.contains("-I FORWARD"), "{other_range}");
        let flushed = after.replace("-A FORWARD -j x-forward\n", "");
        assert!(wanted(&flushed, "x-forward", "10.42.0.0/16").unwrap().contains("-I FORWARD -j x-forward"));
        assert_eq!(
            removal(&after, "x-forward").unwrap(),
            "*filter\n-D FORWARD -j x-forward\n-F x-forward\n-X x-forward\nCOMMIT\n"
        );
    }
}
