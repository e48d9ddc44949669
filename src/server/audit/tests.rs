//! What the flags of audit refuse, and what they stand for.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    audit: AuditArgs,
}

fn flags(flags: &[&str]) -> AuditArgs {
    Flags::parse_from(["server"].iter().chain(flags)).audit
}

#[test]
fn defaults_are_upstreams() {
    let given = flags(&["--audit-log-path", "/var/log/audit.log", "--audit-webhook-config-file", "/x"]);
    let (log, sink) = given.log.options(Path::new("/var/log/audit.log")).unwrap();
    assert_eq!((log.max_age, log.max_backups, log.max_size, log.compress), (366, 100, 100, false));
    assert_eq!((sink.buffer, sink.batch, sink.wait), (10_000, 1, Duration::ZERO));
    assert!(sink.throttle.is_none() && sink.truncation.is_none());
    let (pause, sink) = given.webhook.options().unwrap();
    assert_eq!(pause, Duration::from_secs(10));
    assert_eq!((sink.buffer, sink.batch, sink.wait), (10_000, 400, Duration::from_secs(30)));
    let throttle = sink.throttle.unwrap();
    assert_eq!((throttle.rate, throttle.burst), (10.0, 15));
}

#[test]
fn what_is_wrong_is_said() {
    for (wrong, expected) in [
        (
            "--audit-log-mode=quick",
            "invalid audit log mode quick, allowed modes are \"batch,blocking,blocking-strict\"",
        ),
        (
            "--audit-log-batch-buffer-size=0",
            "invalid audit batch log buffer size 0, must be a positive number",
        ),
        (
            "--audit-log-batch-max-size=-1",
            "invalid audit batch log max batch size -1, must be a positive number",
        ),
        (
            "--audit-log-batch-throttle-enable",
            "invalid audit batch log throttle QPS 0, must be a positive number",
        ),
        (
            "--audit-log-truncate-max-batch-size=1",
            "invalid audit truncate log max batch size 1, must be greater than max event size (102400)",
        ),
        ("--audit-log-format=xml", "invalid audit log format xml, allowed formats are \"legacy,json\""),
        ("--audit-log-maxage=-1", "--audit-log-maxage -1 can't be a negative number"),
        ("--audit-log-version=v2", "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]"),
        ("--audit-log-batch-max-wait=long", "\"long\" is no length of time, such as 30s"),
    ] {
        let said = flags(&[wrong]).log.options(Path::new("a")).unwrap_err().to_string();
        assert_eq!(said, expected, "{wrong}");
    }
    let said = flags(&["--audit-webhook-mode=blocking"]).webhook.options().unwrap_err().to_string();
    assert!(said.contains("would hold requests up"), "{said}");
    let relaxed = flags(&["--audit-log-mode=blocking", "--audit-log-batch-buffer-size=0"]);
    relaxed.log.options(Path::new("a")).expect("what is not used is not looked at");
}

#[test]
fn a_policy_that_is_wrong_is_refused_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []\n").unwrap();
    let (path, log) = (policy.to_str().unwrap(), log.to_str().unwrap());
    let Err(problem) = flags(&["--audit-policy-file", path, "--audit-log-path", log]).open() else {
        panic!("it is accepted")
    };
    assert!(problem.to_string().contains("loaded illegal policy with 0 rules"), "{problem}");
    // Without a policy nothing is opened.
    assert!(flags(&["--audit-log-path", log]).open().unwrap().is_none());
    assert!(!Path::new(log).exists());
}
