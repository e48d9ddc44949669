//! AppArmor: a pod that demands a profile does not run where the kernel enforces none.

use std::path::Path;

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};

use super::Refusal;
use crate::spec::PodExt;
use crate::spec::security::apparmor_profile;

/// Whether this machine's kernel enforces profiles. Looked at once: that changes with a boot.
pub(crate) fn is_enabled() -> bool {
    let enabled = crate::files::read_text("/sys/module/apparmor/parameters/enabled");
    Path::new("/sys/kernel/security/apparmor").exists() && enabled.starts_with('Y')
}

pub(super) fn admit(pod: &Pod, is_enabled: bool) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(("AppArmor".to_string(), format!("Cannot enforce AppArmor: {why}")));
    if !is_demanded(pod) {
        return Ok(());
    }
    if !is_enabled {
        return refuse("AppArmor is not enabled on the host");
    }
    for container in containers(pod) {
        let Some(profile) = apparmor_profile(pod, container) else { continue };
        let name = profile.localhost_profile.as_deref().unwrap_or("");
        if profile.type_ == "Localhost" && name.trim().is_empty() {
            return refuse(&format!("invalid empty AppArmor profile name: {name:?}"));
        }
    }
    Ok(())
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.init_containers().iter().chain(pod.containers())
}

/// Whether any profile but `Unconfined` is named, in a field or in one of the annotations of old.
fn is_demanded(pod: &Pod) -> bool {
    let demands = |profile: Option<&AppArmorProfile>| profile.is_some_and(|one| one.type_ != "Unconfined");
    let of_pod = pod.spec_ref().security_context.as_ref();
    let mut annotations = pod.metadata.annotations.iter().flatten();
    demands(of_pod.and_then(|context| context.app_armor_profile.as_ref()))
        || containers(pod).any(|one| {
            demands(one.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref()))
        })
        || annotations.any(|(key, value)| {
            key.starts_with(crate::spec::security::APPARMOR_ANNOTATION) && value != "unconfined"
        })
}
