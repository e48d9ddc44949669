//! The API server's proxies of pods and services, with real pods behind them.

use std::time::Duration;

use minik8s_tests::{Cluster, KubectlProxy, eventually};

/// A page with links, a script that says how it was asked, and a service in front of them.
const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: busybox:test
    ports: [{name: page, containerPort: 8080}]
    command:
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin /www/folder
      echo '<a href="/other">there</a>' >/www/index.html
      echo inside >/www/folder/file.txt
      printf '#!/bin/sh\necho; echo $REQUEST_METHOD $QUERY_STRING $(cat)\n' >/www/cgi-bin/asked
      chmod +x /www/cgi-bin/asked
      exec httpd -f -p 8080 -h /www
    readinessProbe: {httpGet: {port: 8080, path: /index.html}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: page}, {name: none, port: 81, targetPort: 8081}]}
"#;

#[test]
fn requests_reach_pods_and_links_lead_back() {
    let cluster = Cluster::with_node();
    cluster.kubectl_with(&["apply", "-f", "-"], WEB).ok();
    cluster.wait_for_pod("web");
    let core = "/api/v1/namespaces/default";
    let get = |path: &str| cluster.kubectl(&["get", "--raw", &format!("{core}/{path}")]);
    eventually("the service leads to the pod", Duration::from_secs(30), || {
        let answer = get("services/front:http/proxy/");
        if answer.success { Ok(()) } else { Err(answer.to_string()) }
    });
    let proxy = KubectlProxy::each(&cluster).next().expect("a kubectl");
    eventually("kubectl proxy answers", Duration::from_secs(20), || {
        let answer = proxy.curl("/version", &[]);
        if answer.success { Ok(()) } else { Err(answer.to_string()) }
    });
    for id in
        ["pods/web", "pods/web:8080", "pods/http:web:8080", "services/front:80", "services/http:front:http"]
    {
        let links = format!("<a href=\"{core}/{id}/proxy/other\">there</a>\n");
        // The bare path redirects to the one with a slash.
        for path in [format!("{id}/proxy"), format!("{id}/proxy/"), format!("{id}/proxy/index.html")] {
            assert_eq!(get(&path).ok(), links, "{path}");
        }
        assert_eq!(get(&format!("{id}/proxy/folder/file.txt")).ok(), "inside\n");
        // `kubectl --raw` writes the query anew and says no length of a body, which the script needs.
        let path = format!("{core}/{id}/proxy/cgi-bin/asked");
        let asked = proxy.curl(&format!("{path}?a=b%20c&d"), &[]);
        assert_eq!(asked.ok(), "GET a=b%20c&d\n");
        let posted = proxy.curl(&path, &["-d", "the body"]);
        assert_eq!(posted.ok(), "POST the body\n");
    }
    for (path, message) in [
        ("services/front:81/proxy/", "connection refused"),
        ("services/front:82/proxy/", "no service port 82 found for service \"front\""),
        ("services/front/proxy/", "no endpoints available for service \"front\""),
        ("pods/none/proxy/", "pods \"none\" not found"),
        ("pods/ftp:web:21/proxy/", "invalid pod request \"ftp:web:21\""),
    ] {
        let answer = get(path);
        assert!(!answer.success && answer.stderr.contains(message), "{path}: {answer}");
    }
}
