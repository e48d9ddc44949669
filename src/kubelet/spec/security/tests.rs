//! Profiles: whose counts, and where a file of one may be.

use cri::security_profile::ProfileType;
use serde_json::json;

use super::*;

fn pod(context: serde_json::Value, container: serde_json::Value) -> Pod {
    let spec = json!({
        "securityContext": context,
        "containers": [{"name": "c", "securityContext": container}],
    });
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn context_of(pod: &Pod, is_default: bool) -> Result<cri::LinuxContainerSecurityContext, SecurityError> {
    let rules = SeccompRules { directory: Path::new("/data/seccomp"), is_default };
    of_container(pod, &pod.containers()[0], &ImageUser::default(), rules)
}

fn seccomp_of(pod: &Pod, is_default: bool) -> Result<(ProfileType, String), SecurityError> {
    let profile = context_of(pod, is_default)?.seccomp.unwrap();
    Ok((ProfileType::try_from(profile.profile_type).unwrap(), profile.localhost_ref))
}

#[test]
fn without_a_seccomp_profile_the_node_decides() {
    let plain = pod(json!({}), json!({}));
    assert_eq!(seccomp_of(&plain, false).unwrap().0, ProfileType::Unconfined);
    assert_eq!(seccomp_of(&plain, true).unwrap().0, ProfileType::RuntimeDefault);
    let free = pod(json!({"seccompProfile": {"type": "Unconfined"}}), json!({}));
    assert_eq!(seccomp_of(&free, true).unwrap().0, ProfileType::Unconfined);
    let own = pod(
        json!({"seccompProfile": {"type": "Unconfined"}}),
        json!({"seccompProfile": {"type": "RuntimeDefault"}}),
    );
    assert_eq!(seccomp_of(&own, false).unwrap().0, ProfileType::RuntimeDefault);
}

#[test]
fn a_seccomp_profile_lies_in_its_directory() {
    let named = |name: &str| {
        pod(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": name}}), json!({}))
    };
    let found = seccomp_of(&named("team/audit.json"), false).unwrap();
    assert_eq!(found, (ProfileType::Localhost, "/data/seccomp/team/audit.json".to_string()));
    for out in ["../x", "/etc/x", "a/../../x"] {
        let error = SecurityError::SeccompProfilePath(out.to_string());
        assert_eq!(seccomp_of(&named(out), false), Err(error));
    }
    assert_eq!(seccomp_of(&named(""), false), Err(SecurityError::NoSeccompProfile));
}

#[test]
fn apparmor_and_selinux_reach_the_runtime() {
    let pod = pod(
        json!({"appArmorProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"level": "s0:c1,c2"}}),
        json!({"seLinuxOptions": {"type": "spc_t"}}),
    );
    let context = context_of(&pod, false).unwrap();
    assert_eq!(context.apparmor.unwrap().profile_type, ProfileType::RuntimeDefault as i32);
    assert_eq!(context.selinux_options.unwrap().r#type, "spc_t");
    assert_eq!(of_sandbox(&pod).selinux_options.unwrap().level, "s0:c1,c2");
    let mut annotated = pod.clone();
    let key = format!("{APPARMOR_ANNOTATION}c");
    annotated.metadata.annotations = Some([(key, "localhost/mine".to_string())].into());
    let profile = context_of(&annotated, false).unwrap().apparmor.unwrap();
    assert_eq!(
        (profile.profile_type, profile.localhost_ref),
        (ProfileType::Localhost as i32, "mine".to_string())
    );
}
