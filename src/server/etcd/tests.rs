//! The flag that says where etcd's API listens.

use super::*;

#[test]
fn the_flag_is_an_address_or_off() {
    assert_eq!(Listen::parse(None).unwrap(), Listen::IfFree);
    assert_eq!(Listen::parse(Some("off")).unwrap(), Listen::Off);
    assert_eq!(Listen::parse(Some("127.0.0.1:0")).unwrap(), Listen::At("127.0.0.1:0".parse().unwrap()));
    let problem = Listen::parse(Some("2379")).unwrap_err().to_string();
    assert!(problem.contains("\"2379\"") && problem.contains("--etcd-listen"), "{problem}");
}
