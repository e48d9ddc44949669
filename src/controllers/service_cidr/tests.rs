//! What keeps a range.

use k8s_openapi::api::networking::v1::ServiceCIDRSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn range(name: &str, cidrs: &[&str]) -> Arc<ServiceCIDR> {
    Arc::new(ServiceCIDR {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        spec: Some(ServiceCIDRSpec { cidrs: Some(cidrs.iter().map(ToString::to_string).collect()) }),
        ..ServiceCIDR::default()
    })
}

fn held(ranges: &[Arc<ServiceCIDR>], addresses: &[&str]) -> Option<String> {
    let addresses = addresses.iter().map(|one| one.parse().unwrap());
    held_by(&ranges[0], ranges, addresses).map(|address| address.to_string())
}

#[test]
fn a_range_stays_while_an_address_would_belong_to_none() {
    let going = range("a", &["10.44.0.0/24"]);
    let only = [going.clone()];
    assert_eq!(held(&only, &[]), None);
    assert_eq!(held(&only, &["10.43.0.9", "10.44.1.1"]), None);
    assert_eq!(held(&only, &["10.44.0.9"]), Some("10.44.0.9".into()));
    // The addresses of the network and of all in it were never handed out from it.
    assert_eq!(held(&only, &["10.44.0.0", "10.44.0.255"]), None);
    let within_another = [going.clone(), range("b", &["10.44.0.0/16"])];
    assert_eq!(held(&within_another, &["10.44.0.9"]), None);
    let the_same = [going.clone(), range("b", &["10.44.0.0/24"])];
    assert_eq!(held(&the_same, &["10.44.0.9"]), None);
    let partly = [going.clone(), range("b", &["10.44.0.0/28"])];
    assert_eq!(held(&partly, &["10.44.0.9"]), None);
    assert_eq!(held(&partly, &["10.44.0.9", "10.44.0.99"]), Some("10.44.0.99".into()));
}

#[test]
fn both_families_of_a_range_count() {
    let both = [range("a", &["10.44.0.0/24", "fd00::/112"]), range("b", &["10.44.0.0/16"])];
    assert_eq!(held(&both, &["10.44.0.9"]), None);
    assert_eq!(held(&both, &["10.44.0.9", "fd00::9"]), Some("fd00::9".into()));
}
