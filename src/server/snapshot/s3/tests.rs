//! What flags mean, and that mistakes are named. The calls themselves are tested against a store, in
//! `tests/it/s3.rs`.

use clap::FromArgMatches;

use super::*;

fn args(flags: &[&str]) -> S3Args {
    let command = S3Args::augment_args(clap::Command::new("test"));
    let matches = command.get_matches_from([&["test"], flags].concat());
    S3Args::from_arg_matches(&matches).unwrap()
}

const KEYS: [&str; 4] = ["--snapshot-s3-access-key", "AK", "--snapshot-s3-secret-key", "SK"];

fn target(flags: &[&str]) -> Result<Option<Target>, String> {
    args(&[flags, &KEYS].concat()).target().map_err(|problem| problem.to_string())
}

#[test]
fn places_follow_from_flags() {
    assert!(target(&[]).unwrap().is_none());
    let amazon = target(&["--snapshot-s3", "--snapshot-s3-bucket", "b", "--snapshot-s3-region", "eu-west-1"]);
    let amazon = amazon.unwrap().unwrap();
    assert_eq!(amazon.bucket.base_url().as_str(), "https://b.s3.eu-west-1.amazonaws.com/");
    let own =
        ["--etcd-s3", "--etcd-s3-bucket", "b", "--etcd-s3-endpoint", "10.0.0.1:9000", "--etcd-s3-insecure"];
    let own = target(&[&own[..], &["--etcd-s3-folder", "/one/two/"]].concat()).unwrap().unwrap();
    assert_eq!(own.bucket.base_url().as_str(), "http://10.0.0.1:9000/b/");
    assert_eq!(own.key("x.db"), "one/two/x.db");
    assert_eq!(own.to_string(), "s3://b/one/two");
}

#[test]
fn mistakes_are_named() {
    let on = ["--snapshot-s3", "--snapshot-s3-bucket", "b"];
    for (flags, why) in [
        (vec!["--snapshot-s3"], "--snapshot-s3-bucket"),
        (vec!["--snapshot-s3-bucket", "b"], "give --snapshot-s3 too"),
        ([&on[..], &["--snapshot-s3-timeout", "soon"]].concat(), "--snapshot-s3-timeout"),
        ([&on[..], &["--snapshot-s3-retention", "0"]].concat(), "--snapshot-s3-retention"),
        ([&on[..], &["--snapshot-s3-folder", "../other"]].concat(), "--snapshot-s3-folder"),
        ([&on[..], &["--snapshot-s3-endpoint", "h t"]].concat(), "--snapshot-s3-endpoint"),
        ([&on[..], &["--snapshot-s3-endpoint-ca", "/nonexistent"]].concat(), "--snapshot-s3-endpoint-ca"),
    ] {
        let Err(refused) = target(&flags) else { panic!("{flags:?} should be refused") };
        assert!(refused.contains(why) && !refused.contains('\n'), "{flags:?}: {refused}");
    }
    let half = args(&["--snapshot-s3", "--snapshot-s3-bucket", "b", "--snapshot-s3-access-key", "AK"]);
    assert!(half.target().is_err());
}

#[test]
fn secrets_are_not_shown() {
    let text =
        format!("{:?}", args(&["--snapshot-s3-access-key", "AKIA1", "--snapshot-s3-secret-key", "hush"]));
    assert!(!text.contains("hush") && !text.contains("AKIA1"), "{text}");
}
