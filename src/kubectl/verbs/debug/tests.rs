//! What is made of the flags.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DebugArgs,
}

fn args(words: &[&str]) -> DebugArgs {
    Line::parse_from([&["debug", "p"], words].concat()).args
}

fn fault(words: &[&str]) -> String {
    args(words).check().unwrap_err().to_string()
}

#[test]
fn flags_that_do_not_go_together_are_named() {
    assert!(fault(&[]).ends_with("you must specify --image when not using --copy-to."));
    assert!(fault(&["--image=i", "--replace"]).ends_with("--replace may only be used with --copy-to."));
    assert!(fault(&["--image=i", "-t"]).contains("-i/--stdin is required"));
    assert!(fault(&["--image=i", "--profile=x"]).ends_with("unknown profile: x"));
    assert!(fault(&["--copy-to=c"]).ends_with("you must specify --image, --set-image or command arguments."));
    assert!(args(&["--image=i", "-i"]).attaches() && !args(&["--image=i"]).attaches());
}

#[test]
fn an_ephemeral_container_has_a_name_of_its_own_and_the_profiles_rights() {
    let pod = json!({"spec": {"containers": [{"name": "a"}]}});
    let made = made::ephemeral(&args(&["--image=i", "--", "sh", "-c", "x"]), &pod).unwrap();
    assert!(made["name"].as_str().unwrap().starts_with("debugger-"));
    assert_eq!(made["command"], json!(["sh", "-c", "x"]));
    assert_eq!(made["securityContext"]["capabilities"]["add"], json!(["SYS_PTRACE"]));
    let bare = made::ephemeral(&args(&["--image=i", "--profile=baseline", "-c", "d"]), &pod).unwrap();
    assert_eq!((bare["name"].as_str(), bare["securityContext"].is_null()), (Some("d"), true));
}

#[test]
fn a_copy_is_changed_and_cut_loose() {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "ns", "labels": {"app": "x"}, "uid": "u"},
        "spec": {"nodeName": "n", "containers": [
            {"name": "a", "image": "old", "args": ["run"], "livenessProbe": {}}, {"name": "b", "image": "old"},
        ]},
    });
    let (copy, container) =
        made::copy(&args(&["--copy-to=c", "--container=a", "--set-image=b=new", "--", "sh"]), &pod).unwrap();
    assert_eq!(container, "a");
    assert_eq!(copy["metadata"], json!({"name": "c", "namespace": "ns"}));
    let containers = &copy["spec"]["containers"];
    assert_eq!((&containers[0]["command"], containers[0]["args"].is_null()), (&json!(["sh"]), true));
    assert!(containers[0]["livenessProbe"].is_null() && copy["spec"]["nodeName"].is_null());
    assert_eq!(
        (&containers[1]["image"], &copy["spec"]["shareProcessNamespace"]),
        (&json!("new"), &json!(true))
    );
    let (kept, added) =
        made::copy(&args(&["--copy-to=c", "--image=i", "--keep-labels", "--same-node"]), &pod).unwrap();
    assert_eq!(kept["spec"]["containers"][2]["name"], json!(added));
    assert_eq!((&kept["metadata"]["labels"]["app"], &kept["spec"]["nodeName"]), (&json!("x"), &json!("n")));
}

#[test]
fn a_node_is_looked_at_from_within() {
    let node = json!({"metadata": {"name": "n"}});
    let pod = made::on_node(&args(&["--image=i"]), &node).unwrap();
    assert!(pod["metadata"]["name"].as_str().unwrap().starts_with("node-debugger-n-"));
    assert_eq!((&pod["spec"]["hostPID"], &pod["spec"]["nodeName"]), (&json!(true), &json!("n")));
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/host");
    let outside = made::on_node(&args(&["--image=i", "--profile=restricted"]), &node).unwrap();
    assert!(outside["spec"]["hostPID"].is_null() && outside["spec"]["volumes"].is_null());
}
