//! The bundled kubectl beside the machine's: the same commands against one cluster print the same and end the
//! same.
//!
//! Only what has been the same in all supported versions is compared; times are left out.

use minik8s_tests::{Cluster, CommandOutcome};

const OBJECTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}, annotations: {kubernetes.io/change-cause: first}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - {name: init, image: 'busybox:test', command: [sh, -c, echo prepared]}
      containers:
      - name: main
        image: busybox:test
        command: [sh, -c, 'echo one; echo two; printf three; sleep 1000']
        ports: [{containerPort: 80, name: http}]
        env: [{name: PLAIN, value: text}, {name: FROM, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 32Mi}}
        livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 60}
        volumeMounts: [{name: scratch, mountPath: /scratch}, {name: settings, mountPath: /settings, readOnly: true}]
      - {name: side, image: 'busybox:test', command: [sh, -c, 'echo beside; sleep 1000']}
      volumes: [{name: scratch, emptyDir: {}}, {name: settings, configMap: {name: settings}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, name: http, targetPort: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, text: \"several\\nlines\\n\"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: sesame}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [\"\", apps], resources: [pods, deployments], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadOnlyMany, ReadWriteOnce]
  storageClassName: by-hand
  local: {path: /disk}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [one, two]}, {key: fast, operator: Exists}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], storageClassName: by-hand, resources: {requests: {storage: 1Gi}}}
";

/// Words of a command line; `|` stands between them, because templates hold spaces.
const COMMANDS: &[&str] = &[
    "get|nodes",
    "get|nodes|-o|wide",
    "get|all|-A",
    "get|all|-o|name",
    "get|pods|-o|wide|--show-labels|-L|tier",
    "get|deploy,svc,cm",
    "get|deploy/web|svc/web|pods/nope",
    "get|pods|-l|app=web,tier in (front),!x|--no-headers",
    "get|pods|--field-selector|status.phase=Running|-o|name|--sort-by=.metadata.name",
    "get|pods|--field-selector|bogus=x",
    "get|pods|-l|a=b=c",
    "get|secrets,sa,roles,rolebindings",
    "get|deploy|web|-o|yaml",
    "get|deploy|web|-o|json",
    "get|cm,svc|-o|yaml",
    "get|nodes|-o|jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.status.addresses[?(@.type==\"InternalIP\")].address}{\"\\n\"}{end}",
    "get|pods|-o|jsonpath={.items[*].spec.containers[*].name} {.items[0].spec.containers[-1:].image}",
    "get|deploy|web|-o|jsonpath={.spec.template.spec.containers[0].resources}",
    "get|deploy|web|-o|custom-columns=NAME:.metadata.name,IMAGES:.spec.template.spec.containers[*].image,NONE:.x",
    "get|deploy|web|-o|go-template={{range .spec.template.spec.containers}}{{.name}}={{.image}} {{end}}{{.x}}",
    "get|pods|-o|jsonpath={.items[99]",
    "get|pods|-o|bogus",
    "get|bogus",
    "get|pods|nope",
    "get|pods|nope|--ignore-not-found",
    "get|--raw|/healthz",
    "get|--raw|/nope",
    "get|events|--sort-by=.metadata.name|-o|name",
    "describe|node|one",
    "describe|pods",
    "describe|deploy|web",
    "describe|rs",
    "describe|svc|web",
    "describe|cm|settings",
    "describe|secret|hidden",
    "describe|role|reader",
    "describe|rolebinding|reader",
    "describe|clusterrole|view",
    "describe|pv|disk",
    "describe|pvc|disk",
    "describe|sc|local-path",
    "get|pv,pvc,sc",
    "describe|lease|-n|kube-node-lease|one",
    "describe|pod|nope",
    "logs|deploy/web|-c|main",
    "logs|deploy/web|-c|main|--tail=1",
    "logs|deploy/web|-c|init|--timestamps",
    "logs|deploy/web|--all-containers|--prefix",
    "logs|deploy/web|-c|nope",
    "logs|nope",
    "rollout|status|deploy/web",
    "rollout|history|deploy/web",
    "rollout|history|deploy/web|--revision=1",
    "rollout|undo|deploy/web",
    "wait|--for=condition=Available|deploy/web",
    "wait|--for=jsonpath={.status.readyReplicas}=2|deploy/web",
    "wait|--for=condition=Ready|pod/nope",
    "wait|--for=condition=Bogus|deploy/web|--timeout=0",
    "apply|view-last-applied|deploy/web",
    "scale|deploy|web|--replicas=2|--current-replicas=7",
    "label|deploy|web|app=other",
    "patch|deploy|web|--type=merge|-p|{\"spec\":{\"replicas\":\"x\"}}",
    "patch|deploy|web|-p|{\"spec\":{\"replicas\":2}}",
    "cordon|nope",
    "taint|node|one|x-",
    "auth|can-i|create|pods",
    "auth|can-i|delete|pods|--as=system:serviceaccount:default:default",
    "get|pods|--as=nobody",
    "api-versions",
    "api-resources|-o|wide",
    "explain|deployment.spec.strategy",
    "config|get-contexts",
    "config|use-context|nope",
    "cluster-info",
    "delete|pods|x|--all",
    "delete|pod|nope",
    "create|configmap|settings|--from-literal=a=b",
    "create|role|r|--verb=get|--resource=pods/log|--dry-run=server|-o|name",
    "run|web|--image=x|--dry-run=client|-o|name",
    "auth|can-i|--list",
    "auth|can-i|--list|--as=nobody",
    "auth|can-i|--list|pods",
    "create|ingress|simple|--rule=foo.com/bar=svc1:8080,tls=my-cert|--rule=a.com/*=s:http|--class=x|--annotation|a=b|--dry-run=server|-o|name",
    "create|ingress|simple",
    "create|ingress|simple|--rule=a=b",
    "create|foo|x",
    "set|selector|svc|web|a=b|--dry-run=client|-o|yaml",
    "set|selector|svc|web",
    "set|subject|rolebinding|reader|--user=x|--group=y|--dry-run=server|-o|name",
    "set|subject|rolebinding|reader",
    "plugin|list",
    "diff",
    "diff|-f|/nope",
];

/// Durations differ between one call and the next, and with them the widths of columns.
fn timeless(text: &str) -> String {
    let age = |word: &str| {
        let digits = word.starts_with(|c: char| c.is_ascii_digit());
        let end = word.trim_end_matches([',', ')', '(']).chars().last();
        digits
            && matches!(end, Some('s' | 'm' | 'h' | 'd'))
            && word.chars().all(|c| c.is_ascii_digit() || "smhd)(,".contains(c))
    };
    let line = |line: &str| {
        let words: Vec<&str> =
            line.split_whitespace().map(|word| if age(word) { "AGE" } else { word }).collect();
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        // Rules below headings are as wide as the times above them.
        indent + &words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn shown(outcome: &CommandOutcome) -> String {
    // kubectl 1.32 prints a pointer here; versions before and after print what is meant.
    let stdout = outcome.stdout.replace("ConfigMapOptional:       <nil>", "Optional: false");
    // kubectl 1.34 and later have one format more.
    let stderr = outcome.stderr.replace("kyaml,", "");
    format!("success: {}\n{}\n{}", outcome.success, timeless(&stdout), timeless(&stderr))
}

/// The lines that only one of them has, or where their order begins to differ.
fn difference(theirs: &str, ours: &str) -> String {
    let only = |mark: &str, text: &str, other: &str| -> String {
        let lines = text.lines().filter(|line| !other.lines().any(|one| one == *line));
        lines.map(|line| format!("{mark} {line}\n")).collect()
    };
    let unique = format!("{}{}", only("upstream's:", theirs, ours), only("ours:", ours, theirs));
    if !unique.is_empty() {
        return unique;
    }
    let ordered = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
    format!("the first lines in another order: {ordered:?}")
}

#[test]
fn the_bundled_kubectl_prints_what_upstreams_does() {
    let cluster = Cluster::with_node();
    cluster.own_kubectl_with(&["apply", "-f", "-"], OBJECTS).ok();
    cluster.own_kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let mut differences = Vec::new();
    for command in COMMANDS {
        let arguments: Vec<&str> = command.split('|').collect();
        // A lease renewed or an event counted between the two calls is no difference: once they must be the
        // same.
        let compared =
            (0..5).map(|_| (shown(&cluster.kubectl(&arguments)), shown(&cluster.own_kubectl(&arguments))));
        let mut last = None;
        if !compared.into_iter().any(|(theirs, ours)| {
            let same = theirs == ours;
            last = Some((theirs, ours));
            same
        }) && let Some((theirs, ours)) = last
        {
            differences.push(format!("kubectl {command}\n{}", difference(&theirs, &ours)));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    let untouched = cluster.kubectl_with(&["apply", "-f", "-"], OBJECTS).ok();
    assert!(
        untouched.lines().filter(|line| !line.starts_with("secret")).all(|line| line.ends_with(" unchanged")),
        "{untouched}"
    );
    cluster.own_kubectl_with(&["delete", "-f", "-", "--timeout=60s"], OBJECTS).ok();
    cluster.wait_for_none("pods", "app=web");
}
