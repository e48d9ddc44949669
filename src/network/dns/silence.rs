//! Silence of the name service's address while nobody answers there.
//!
//! The address stays on the machine while the process restarts, and the kernel would tell every client at
//! once that nothing listens: a lookup then fails within a millisecond. Without that word clients wait and
//! ask again, as they do when a packet is lost, and are answered by the next process. What is asked over TCP
//! is refused as before; nothing can answer while there is no process.

use std::fmt::Write;
use std::net::IpAddr;

use crate::error::NetworkError;
use crate::host::Host;
use crate::script;

fn table_name(table: &str) -> String {
    format!("{table}_dns")
}

/// The whole table, replaced in one transaction.
fn script(table: &str, addresses: &[IpAddr]) -> String {
    let name = table_name(table);
    let mut text = script::removal("inet", &name);
    let _ = write!(
        text,
        "table inet {name} {{\n  chain output {{\n    type filter hook output priority filter; policy accept;\n"
    );
    for address in addresses {
        let (protocol, unreachable) = match address {
            IpAddr::V4(_) => ("ip", "icmp type destination-unreachable icmp code port-unreachable"),
            IpAddr::V6(_) => ("ip6", "icmpv6 type destination-unreachable icmpv6 code port-unreachable"),
        };
        let _ = writeln!(text, "    {protocol} saddr {address} {unreachable} drop");
    }
    text.push_str("  }\n}\n");
    text
}

pub(super) async fn keep(host: &dyn Host, table: &str, addresses: &[IpAddr]) -> Result<(), NetworkError> {
    host.run("nft", &["-f", "-"], &script(table, addresses)).await.map(|_| ())
}

/// That there is nothing is fine.
pub(super) async fn remove(host: &dyn Host, table: &str) -> Result<(), NetworkError> {
    host.run("nft", &["-f", "-"], &script::removal("inet", &table_name(table))).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_is_dropped_for_these_addresses_only() {
        let addresses = ["10.43.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        let wanted = "add table inet m_dns\ndelete table inet m_dns\n\
                      table inet m_dns {\n  chain output {\n    \
                      type filter hook output priority filter; policy accept;\n    \
                      ip saddr 10.43.0.10 icmp type destination-unreachable icmp code port-unreachable drop\n    \
                      ip6 saddr fd00::a icmpv6 type destination-unreachable icmpv6 code port-unreachable drop\n  }\n}\n";
        assert_eq!(script("m", &addresses), wanted);
    }
}
