//! Rules as they are typed, in the cases that upstream documents.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: IngressArgs,
}

fn made(flags: &[&str]) -> std::result::Result<Value, String> {
    let line = Line::try_parse_from(["ingress", "simple"].iter().chain(flags)).expect("flags");
    ingress(line.args).map(|(object, _)| object["spec"].clone()).map_err(|error| error.to_string())
}

#[test]
fn hosts_paths_secrets_and_the_rest_are_read() {
    let spec = made(&[
        "--class=own",
        "--rule=foo.com/bar=svc1:8080,tls=cert",
        "--rule=foo.com/all*=svc2:http",
        "--rule=/any=svc3:80",
        "--default-backend=rest:81",
    ])
    .unwrap();
    let service = |name: &str, port: Value| json!({"service": {"name": name, "port": port}});
    assert_eq!(
        spec,
        json!({
            "ingressClassName": "own",
            "defaultBackend": service("rest", json!({"number": 81})),
            "rules": [
                {"host": "foo.com", "http": {"paths": [
                    {"path": "/bar", "pathType": "Exact", "backend": service("svc1", json!({"number": 8080}))},
                    {"path": "/all", "pathType": "Prefix", "backend": service("svc2", json!({"name": "http"}))},
                ]}},
                {"http": {"paths": [
                    {"path": "/any", "pathType": "Exact", "backend": service("svc3", json!({"number": 80}))},
                ]}},
            ],
            "tls": [{"hosts": ["foo.com"], "secretName": "cert"}],
        })
    );
    let tls =
        made(&["--rule=a.com/=s:1,tls", "--rule=b.com/=s:1,tls", "--rule=a.com/x=s:1,tls=late"]).unwrap();
    assert_eq!(tls["tls"], json!([{"hosts": ["a.com", "b.com"]}]));
}

#[test]
fn what_is_no_rule_is_named() {
    assert!(made(&[]).unwrap_err().contains("not enough information provided"));
    assert!(made(&["--rule=foo.com=svc:80"]).unwrap_err().contains("rule foo.com=svc:80 is invalid"));
    assert!(made(&["--default-backend=svc"]).unwrap_err().contains("servicename:serviceport"));
    assert!(made(&["--rule=/=s:1", "--annotation=key"]).unwrap_err().contains("annotation key is invalid"));
}
