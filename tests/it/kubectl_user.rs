//! The bundled kubectl as a user has it: an editor, a terminal, a shell that completes, preferences, a plugin
//! that gives credentials, and files that no server is asked about.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use minik8s_tests::{Cluster, CommandOutcome, binary, eventually, run};

const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {kind: shown}}
data: {colour: green}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: two, labels: {kind: shown}}
data: {colour: blue}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: kept}
spec:
  serviceName: kept
  replicas: 0
  selector: {matchLabels: {app: kept}}
  template:
    metadata: {labels: {app: kept}}
    spec: {containers: [{name: main, image: 'one:1'}]}
";

struct User {
    cluster: Cluster,
    /// Where the program is called `kubectl`.
    programs: PathBuf,
}

impl User {
    fn new() -> Self {
        let cluster = Cluster::control_plane();
        let programs = cluster.folder().join("programs");
        fs::create_dir_all(&programs).unwrap();
        symlink(binary(), programs.join("kubectl")).unwrap();
        cluster.own_kubectl_with(&["apply", "-f", "-"], OBJECTS).ok();
        User { cluster, programs }
    }

    /// A command in the user's environment, where `kubectl` is ours.
    fn command(&self, program: &str) -> Command {
        let mut command = self.cluster.command(Path::new(program));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("HOME", self.cluster.folder())
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("TERM", "dumb");
        command
    }

    fn shell(&self, script: &str) -> CommandOutcome {
        run(self.command("bash").args(["-c", script]), "")
    }

    /// A program that a test writes. By a shell of its own: a file that is open for writing anywhere cannot
    /// be executed.
    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.programs.join(name);
        let script = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
        run(Command::new("sh").args(["-c", script, "sh", text]).arg(&path), "").ok();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111);
        path
    }
}

#[test]
fn a_user_edits_completes_and_has_preferences() {
    let user = User::new();
    several_objects_are_edited(&user);
    what_the_server_refuses_is_shown_in_the_editor(&user);
    a_terminal_is_asked_before_deleting(&user);
    bash_completes_names_from_the_server(&user);
    preferences_are_applied(&user);
    a_plugin_gives_credentials(&user);
    files_are_changed_without_a_server(&user);
    a_stateful_set_goes_back(&user);
    requests_are_told(&user);
}

fn several_objects_are_edited(user: &User) {
    let outcome = run(
        user.command("kubectl")
            .args(["edit", "configmap", "one", "two"])
            .env("KUBE_EDITOR", "sed -i s/green/red/"),
        "",
    );
    assert_eq!(outcome.ok(), "configmap/one edited\nconfigmap/two skipped\n");
    let colours = user.shell("kubectl get cm one two -o jsonpath='{.items[*].data.colour}'").ok();
    assert_eq!(colours, "red blue");
    let same = run(user.command("kubectl").args(["edit", "cm", "one"]).env("KUBE_EDITOR", "true"), "");
    assert_eq!(same.stderr, "Edit cancelled, no changes made.\n");
}

/// An editor that makes a mistake, sees the head of the file, and mends it.
fn what_the_server_refuses_is_shown_in_the_editor(user: &User) {
    let seen = user.cluster.folder().join("seen");
    let editor = format!(
        "#!/bin/sh\nif grep -q 'was not valid' \"$1\"; then cp \"$1\" {0}; sed -i 's/replicas: -1/replicas: 0/; s/one:1/two:1/' \"$1\"; else sed -i 's/replicas: 0/replicas: -1/' \"$1\"; fi\n",
        seen.display()
    );
    let editor = user.program("editor", &editor);
    let outcome =
        run(user.command("kubectl").args(["edit", "statefulset", "kept"]).env("KUBE_EDITOR", editor), "");
    assert!(outcome.stderr.contains("error: statefulsets.apps \"kept\" is invalid"), "{outcome}");
    assert_eq!(outcome.ok(), "statefulset.apps/kept edited\n");
    let head = fs::read_to_string(seen).unwrap();
    assert!(head.contains("\n# statefulsets.apps \"kept\" was not valid:\n# * spec.replicas: "), "{head}");
}

fn a_terminal_is_asked_before_deleting(user: &User) {
    user.shell("kubectl create configmap asked").ok();
    let line = "kubectl delete -i configmap asked";
    let kept = run(user.command("script").args(["-qec", line, "/dev/null"]), "n\n");
    assert!(kept.stdout.contains("Do you want to continue? (y/N): "), "{kept}");
    assert!(kept.stdout.contains("deletion is cancelled"), "{kept}");
    user.shell("kubectl get configmap asked").ok();
    let gone = run(user.command("script").args(["-qec", line, "/dev/null"]), "y\n");
    assert!(gone.stdout.contains("configmap \"asked\" deleted from default namespace"), "{gone}");
    user.shell("kubectl get configmap asked").failed();
    // Warnings of the server are yellow on a terminal.
    let line = "TERM=xterm kubectl create -f - --validate=warn --dry-run=server";
    let typed =
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"w\"},\"dat\":{}}\n\u{4}";
    let warned = run(user.command("script").args(["-qec", line, "/dev/null"]), typed);
    assert!(warned.stdout.contains("\u{1b}[33;1mWarning:\u{1b}[0m unknown field \"dat\""), "{warned}");
}

/// What bash offers for a line; the cursor is at its end.
fn completed(user: &User, line: &str) -> Vec<String> {
    let script = format!(
        "source <(kubectl completion bash)\nCOMP_LINE={line:?}\nCOMP_POINT=${{#COMP_LINE}}\n\
         # As readline takes lines apart.\n\
         spaced=${{COMP_LINE//=/ = }}; spaced=${{spaced//:/ : }}\nread -ra COMP_WORDS <<<\"$spaced\"\n\
         [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')\n\
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         compopt() {{ :; }}\n__start_kubectl\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    user.shell(&script).ok().lines().map(str::to_string).filter(|line| !line.is_empty()).collect()
}

fn bash_completes_names_from_the_server(user: &User) {
    let has = |line: &str, expected: &[&str]| {
        let found = completed(user, line);
        assert_eq!(found, expected, "{line}");
    };
    has("kubectl rol", &["rollout"]);
    has("kubectl get configmap o", &["one"]);
    has("kubectl get configmap one t", &["two"]);
    has("kubectl get configmap/t", &["configmap/two"]);
    has("kubectl get statefulsets.a", &["statefulsets.apps"]);
    has("kubectl rollout restart statefulset k", &["kept"]);
    has("kubectl -n kube-s", &["kube-system"]);
    has("kubectl get --namespace=kube-s", &["kube-system"]);
    has("kubectl get cm -o js", &["json", "jsonpath", "jsonpath-as-json", "jsonpath-file"]);
    has("kubectl get cm --show-m", &["--show-managed-fields"]);
    has("kubectl get nothing-like-it o", &[]);
}

fn preferences_are_applied(user: &User) {
    let set = "kubectl kuberc set --section";
    user.shell(&format!("{set} defaults --command get --option output=name")).ok();
    user.shell(&format!(
        "{set} aliases --name shown --command get --prependarg cm --option selector=kind=shown"
    ))
    .ok();
    assert_eq!(user.shell("kubectl get cm one").ok(), "configmap/one\n");
    assert_eq!(user.shell("kubectl shown -o name").ok(), "configmap/one\nconfigmap/two\n");
    assert_eq!(user.shell("KUBERC=off kubectl get cm one -o jsonpath='{.kind}'").ok(), "ConfigMap");
    let unknown = user.shell("KUBERC=off kubectl shown").failed();
    assert!(unknown.contains("unknown command \"shown\""), "{unknown}");
    let view = user.shell("kubectl kuberc view").ok();
    assert!(view.contains("- command: get\n  options:\n  - default: name\n    name: output\n"), "{view}");
    fs::remove_file(user.cluster.folder().join(".kube/kuberc")).unwrap();
}

fn a_plugin_gives_credentials(user: &User) {
    let token = user.shell("kubectl create token default").ok();
    let answer = format!(
        "{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"{}\"}}}}",
        token.trim()
    );
    let plugin = user.program("give-token", &format!("#!/bin/sh\nprintf %s '{answer}'\n"));
    let config = user.cluster.folder().join("plugin.yaml");
    let kubectl = format!("KUBECONFIG={} kubectl", config.display());
    user.shell(&format!("cp $KUBECONFIG {}", config.display())).ok();
    user.shell(&format!(
        "{kubectl} config set-credentials plugged --exec-command=give-token --exec-api-version=client.authentication.k8s.io/v1 --exec-interactive-mode=Never && {kubectl} config set-context --current --user=plugged"
    ))
    .ok();
    let who = user.shell(&format!("{kubectl} auth whoami -o jsonpath='{{.status.userInfo.username}}'")).ok();
    assert_eq!(who, "system:serviceaccount:default:default");
    let rc = user.cluster.folder().join("rc");
    let denied = format!("KUBERC={} {kubectl} get pods", rc.display());
    fs::write(
        &rc,
        "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\ncredentialPluginPolicy: DenyAll\n",
    )
    .unwrap();
    let denied = user.shell(&denied).failed();
    assert!(denied.contains("plugin \"give-token\" not allowed: policy set to \"DenyAll\""), "{denied}");
    fs::remove_file(plugin).unwrap();
    let missing = user.shell(&format!("{kubectl} get pods")).failed();
    assert!(missing.contains("getting credentials: exec: executable give-token not found"), "{missing}");
}

fn files_are_changed_without_a_server(user: &User) {
    let file = user.cluster.folder().join("objects.yaml");
    fs::write(&file, OBJECTS).unwrap();
    let local = |line: &str| {
        // No server is there.
        let line = format!("kubectl -s http://127.0.0.1:1 {line} --local -f {}", file.display());
        user.shell(&line).ok()
    };
    assert_eq!(
        local("label a=b"),
        "configmap/one labeled\nconfigmap/two labeled\nstatefulset.apps/kept labeled\n"
    );
    assert!(local("annotate a=b -o jsonpath='{.metadata.annotations}'").contains("{\"a\":\"b\"}"));
    assert!(local("patch -p '{\"metadata\":{\"labels\":{\"x\":\"y\"}}}' -o yaml").contains("    x: \"y\"\n"));
}

fn a_stateful_set_goes_back(user: &User) {
    // The editor above has changed the image: a revision of its own.
    let image =
        || user.shell("kubectl get sts kept -o jsonpath='{.spec.template.spec.containers[*].image}'").ok();
    assert_eq!(image(), "two:1");
    eventually("two revisions", Duration::from_secs(60), || {
        let history = user.shell("kubectl rollout history sts/kept");
        if history.stdout.contains("\n2 ") { Ok(()) } else { Err(history.to_string()) }
    });
    assert_eq!(user.shell("kubectl rollout undo sts/kept").ok(), "statefulset.apps/kept rolled back\n");
    assert_eq!(image(), "one:1");
    let refused = user.shell("kubectl rollout undo sts/kept --to-revision=9").failed();
    assert_eq!(refused, "error: unable to find specified revision 9 in history\n");
}

fn requests_are_told(user: &User) {
    let told = user.shell("kubectl get cm one -v=8").stderr;
    assert!(told.contains("round_trippers.go:527] \"Request\" verb=\"GET\" url=\"https://"), "{told}");
    assert!(told.contains("\"Response\" status=\"HTTP/2.0 200 OK\""), "{told}");
    assert!(told.contains("\"Response Body\" body="), "{told}");
    assert!(!told.contains("eyJ"), "no token is shown: {told}");
}
