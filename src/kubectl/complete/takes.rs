//! What the arguments of each command are. Pure.

/// What a command's arguments are.
pub(super) enum Takes {
    /// Kinds and names of objects; of these kinds, if the list is not empty.
    Objects(&'static [&'static str]),
    /// As before, but one object only.
    Object(&'static [&'static str]),
    /// The name of an object of a kind.
    Name(&'static str),
    /// Names of objects of a kind.
    Names(&'static str),
    /// A pod, or an object that has pods.
    Pod,
    /// The same and one of its containers.
    PodAndContainer,
    /// The same and its ports.
    PodAndPorts,
    /// A pod and a path in it, or a path here.
    PodPath,
    Contexts,
    Clusters,
    Users,
    /// A kind.
    Kind,
    Words(&'static [&'static str]),
    Files,
}

const ROLLED: &[&str] = &["deployment", "daemonset", "statefulset"];

pub(super) fn takes(command: &str) -> Takes {
    match command {
        "get"
        | "describe"
        | "delete"
        | "edit"
        | "label"
        | "annotate"
        | "patch"
        | "wait"
        | "auth can-i"
        | "apply view-last-applied"
        | "apply edit-last-applied"
        | "set env"
        | "set resources"
        | "set serviceaccount"
        | "debug" => Takes::Objects(&[]),
        "explain" => Takes::Kind,
        "rollout status" => Takes::Object(ROLLED),
        "rollout history" | "rollout undo" => Takes::Objects(ROLLED),
        "rollout restart" => Takes::Objects(ROLLED),
        "rollout pause" | "rollout resume" => Takes::Objects(&["deployment"]),
        "scale" => Takes::Objects(&["deployment", "replicaset", "replicationcontroller", "statefulset"]),
        "autoscale" => Takes::Objects(&["deployment", "replicaset", "replicationcontroller", "statefulset"]),
        "expose" => Takes::Objects(&["pod", "service", "replicationcontroller", "deployment", "replicaset"]),
        "set image" => Takes::Object(&[
            "cronjob",
            "daemonset",
            "deployment",
            "pod",
            "replicaset",
            "replicationcontroller",
            "statefulset",
        ]),
        "set subject" => Takes::Objects(&["rolebinding", "clusterrolebinding"]),
        "set selector" => Takes::Objects(&["service"]),
        "taint" => Takes::Objects(&["node"]),
        "drain" | "cordon" | "uncordon" => Takes::Names("nodes"),
        "top node" => Takes::Name("nodes"),
        "top pod" => Takes::Name("pods"),
        "certificate approve" | "certificate deny" => Takes::Names("certificatesigningrequests"),
        "create token" => Takes::Name("serviceaccounts"),
        "exec" | "attach" => Takes::Pod,
        "logs" => Takes::PodAndContainer,
        "port-forward" => Takes::PodAndPorts,
        "cp" => Takes::PodPath,
        "config use-context" | "config delete-context" | "config rename-context" | "config set-context" => {
            Takes::Contexts
        }
        "config delete-cluster" | "config set-cluster" => Takes::Clusters,
        "config delete-user" | "config set-credentials" => Takes::Users,
        "completion" => Takes::Words(&["bash", "zsh", "fish", "powershell"]),
        _ => Takes::Files,
    }
}
