//! The flags of a node.

use super::*;

#[test]
fn connections_fit_into_the_limit_of_open_files() {
    let wanted = ConnectionLimits { total: 8192, reserved: 512, per_address: 512, per_user: 1024 };
    assert_eq!(fitted(wanted, 1 << 20, 3).unwrap(), wanted);
    assert_eq!(fitted(wanted, 3 * 8192 + 512, 3).unwrap(), wanted);
    let lowered = fitted(wanted, 4096, 3).unwrap();
    assert_eq!((lowered.total, lowered.reserved), (1194, 74));
    assert!(3 * lowered.total + OTHER_FILES <= 4096);
    assert!(fitted(wanted, 600, 3).unwrap_err().to_string().contains("the limit of open files is 600"));
    // A small number that was asked for is not lowered.
    let few = ConnectionLimits { total: 20, reserved: 4, ..wanted };
    assert_eq!(fitted(few, 1024, 3).unwrap(), few);
}

#[test]
fn taints_are_read_and_checked() {
    let taint = parse_taint("dedicated=db:NoSchedule").unwrap();
    assert_eq!(
        (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
        ("dedicated", Some("db"), "NoSchedule")
    );
    assert_eq!(parse_taint("a:NoExecute").unwrap().value, None);
    for wrong in ["a", "a:Never", ":NoSchedule"] {
        assert!(parse_taint(wrong).is_err(), "{wrong}");
    }
}

/// Flags of a node as they are given.
#[derive(clap::Parser)]
struct Given {
    #[command(flatten)]
    node: NodeArgs,
}

fn tuning(flags: &[&str]) -> Result<KubeletTuning, Problem> {
    use clap::Parser;
    Given::try_parse_from(["node"].iter().chain(flags)).unwrap().node.tuning()
}

#[test]
fn what_a_kubelet_is_told_is_read_and_checked() {
    assert_eq!(tuning(&[]).unwrap(), KubeletTuning::default());
    let told = tuning(&[
        "--max-pods=20",
        "--container-log-max-size=1Mi",
        "--container-log-max-files=2",
        "--shutdown-grace-period=1m30s",
        "--shutdown-grace-period-critical-pods=10s",
    ]);
    let (total, critical) = (Duration::from_secs(90), Duration::from_secs(10));
    let wanted = KubeletTuning {
        max_pods: 20,
        logs: LogLimits { largest: 1 << 20, files: 2 },
        shutdown: ShutdownGrace { total, critical },
    };
    assert_eq!(told.unwrap(), wanted);
    for (flag, said) in [
        ("--container-log-max-size=big", "--container-log-max-size"),
        ("--container-log-max-size=0", "--container-log-max-size"),
        ("--container-log-max-files=1", "--container-log-max-files"),
        ("--shutdown-grace-period=soon", "--shutdown-grace-period"),
        ("--shutdown-grace-period-critical-pods=1s", "--shutdown-grace-period"),
    ] {
        let error = tuning(&[flag]).unwrap_err().to_string();
        assert!(error.contains(said), "{flag}: {error}");
    }
}
