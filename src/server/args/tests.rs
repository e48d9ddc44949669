//! The flags once checked.

use clap::FromArgMatches;

use super::*;

fn args(flags: &[&str]) -> ServerArgs {
    let all = ["minik8s server"].iter().chain(flags);
    ServerArgs::from_arg_matches(&clap_command("minik8s server").try_get_matches_from(all).unwrap()).unwrap()
}

#[test]
fn addresses_follow_from_the_service_range() {
    let network = args(&["--service-cidr", "10.96.0.0/12"]).network().unwrap();
    assert_eq!(network.kubernetes_ip.to_string(), "10.96.0.1");
    assert_eq!(network.cluster_dns.to_string(), "10.96.0.10");
}

#[test]
fn impossible_ranges_are_refused() {
    let overlapping = args(&["--service-cidr", "10.42.128.0/20"]).network().unwrap_err().to_string();
    assert!(overlapping.contains("overlap"), "{overlapping}");
    assert!(
        args(&["--cluster-cidr", "10.42.0.0"]).network().unwrap_err().to_string().contains("--cluster-cidr")
    );
    assert!(args(&["--service-cidr", "10.43.0.0/31"]).network().is_err());
}

#[test]
fn node_ports_are_a_range() {
    let range = |text: &str| args(&["--service-node-port-range", text]).network();
    assert_eq!(range("30000-30010").unwrap().node_ports, 30000..=30010);
    for bad in ["", "30000", "30010-30000", "0-10", "1-65536", "a-b"] {
        assert!(range(bad).unwrap_err().to_string().contains("FIRST-LAST"), "{bad}");
    }
}

#[test]
fn what_nobody_reaches_is_not_advertised() {
    let check = |address: &str| args(&["--advertise-address", address]).check_advertised();
    for bad in ["127.0.0.1", "0.0.0.0", "::1", "::", "169.254.1.1", "fe80::1", "224.0.0.1"] {
        let refused = check(bad).unwrap_err().to_string();
        assert!(refused.contains(&format!("advertise the API at {bad}")), "{refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    assert!(
        check("192.0.2.1").is_ok() && check("2001:db8::1").is_ok() && args(&[]).check_advertised().is_ok()
    );
}

#[test]
fn only_components_can_be_disabled() {
    assert!(!args(&["--disable", "scheduler"]).runs("scheduler"));
    let others = args(&["--disable", "kube-proxy,scheduler,coredns,network-policy,traefik"]);
    assert!(others.check_disabled().is_ok());
    assert_eq!(others.disabled_on_nodes(), ["proxy", "dns", "policy", "ingress"]);
    let refused = args(&["--disable", "schduler"]).check_disabled().unwrap_err().to_string();
    assert!(refused.contains("did you mean scheduler?"), "{refused}");
}

#[test]
fn admission_plugins_have_upstreams_names() {
    assert!(args(&[]).admission_plugins().is_ok());
    let less = args(&["--disable-admission-plugins", "PodSecurity,LimitRanger"]);
    assert!(less.admission_plugins().is_ok());
    let unknown = args(&["--enable-admission-plugins", "PodSecurty"]).admission_plugins().unwrap_err();
    let text = unknown.to_string();
    assert!(text.contains("enable-admission-plugins plugin \"PodSecurty\" is unknown"), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn the_runtime_configuration_names_what_there_is() {
    assert!(args(&["--runtime-config", "api/all=true,storage.k8s.io/v1"]).runtime_config().is_ok());
    let unknown = args(&["--runtime-config", "example.com/v1=true"]).runtime_config().unwrap_err();
    assert!(unknown.to_string().contains("unknown api groups example.com"), "{unknown}");
}

#[test]
fn flags_of_upstreams_api_server_are_taken_over() {
    let taken = |flag: &str| {
        let mut args = args(&["--kube-apiserver-arg", flag]);
        args.take_apiserver_args().map(|()| args)
    };
    let plugins = taken("enable-admission-plugins=PodNodeSelector,AlwaysPullImages").unwrap();
    assert_eq!(plugins.enable_admission_plugins, ["PodNodeSelector", "AlwaysPullImages"]);
    assert!(taken("--anonymous-auth").unwrap().anonymous_auth);
    assert_eq!(taken("max-requests-inflight=7").unwrap().max_requests_inflight, 7);
    assert_eq!(taken("feature-gates=AllAlpha=false").unwrap().feature_gates, ["AllAlpha=false"]);
    for (wrong, want) in [
        ("audit-policy-file=/x", "this API server has no such setting"),
        ("max-requests-inflight=many", "\"many\" is no value of it"),
    ] {
        let error = taken(wrong).err().unwrap().to_string();
        assert!(error.contains(want) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn feature_gates_are_upstreams() {
    assert!(
        args(&["--feature-gates", "APIResponseCompression=false,AllAlpha=false"]).feature_gates().is_ok()
    );
    let unknown = args(&["--feature-gates", "NoSuchFeature=true"]).feature_gates().unwrap_err();
    assert!(unknown.to_string().contains("unrecognized feature gate: NoSuchFeature"), "{unknown}");
}

#[test]
fn modes_are_octal() {
    assert_eq!(args(&["--write-kubeconfig-mode", "0644"]).kubeconfig_mode().unwrap(), 0o644);
    assert!(args(&["--write-kubeconfig-mode", "rw"]).kubeconfig_mode().is_err());
}
