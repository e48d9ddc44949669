//! Tests of parsing and of what mistakes are answered with.

use clap::CommandFactory;

use super::{Cli, Verb, parse};

fn parsed(line: &str) -> Result<Cli, (String, i32)> {
    let words = line.split(' ').map(Into::into).collect();
    parse(words).map_err(|stop| (stop.text, stop.code))
}

fn mistake(line: &str) -> String {
    match parsed(line) {
        Ok(_) => panic!("{line} was understood"),
        Err((text, code)) => {
            assert_eq!(code, 1, "{text}");
            text
        }
    }
}

#[test]
fn definitions_are_consistent() {
    super::command().debug_assert();
    Cli::command().debug_assert();
}

#[test]
fn flags_behave_as_in_pflag() {
    let Ok(Cli { global, verb: Verb::Get(get) }) =
        parsed("kubectl -n x get po -Aw a --no-headers=false --show-labels=true -ojson --ignore-not-found")
    else {
        panic!()
    };
    assert_eq!(global.namespace.as_deref(), Some("x"));
    assert_eq!(get.resources, ["po", "a"]);
    assert!(
        get.selector.all_namespaces
            && get.watch
            && !get.no_headers
            && get.show_labels
            && get.ignore_not_found
    );
    assert_eq!(get.output.output.as_deref(), Some("json"));
    let Ok(Cli { global, .. }) = parsed("kubectl logs x --tail -1 -n=y") else { panic!() };
    assert_eq!(global.namespace.as_deref(), Some("y"), "global flags may come last");
    assert!(parsed("kubectl run x --image=i --port=80 -- sleep -f 5").is_ok());
    assert!(parsed("kubectl delete pod x --wait=false --cascade --grace-period=-1").is_ok());
    assert!(parsed("kubectl exec -it x -- sh -c ls").is_ok(), "even what is not offered must be understood");
    assert!(parsed("kubectl get pods -f a,b -f -").is_ok());
    let Ok(Cli { verb: Verb::Delete(delete), .. }) = parsed("kubectl delete pod x") else { panic!() };
    assert!(delete.waits(), "switches keep their own defaults");
    let Ok(Cli { verb: Verb::Delete(delete), .. }) = parsed("kubectl delete pod x --wait=false") else {
        panic!()
    };
    assert!(!delete.waits());
}

#[test]
fn a_switch_does_not_take_the_next_word() {
    let cli = parsed("kubectl kustomize --enable-managedby-label=no some/directory");
    assert!(cli.is_err(), "a word that is no truth value");
    assert!(parsed("kubectl kustomize --enable-managedby-label some/directory").is_ok());
}

#[test]
fn mistakes_are_told_in_kubectls_words() {
    assert_eq!(
        mistake("kubectl get --foo"),
        "error: unknown flag: --foo\nSee 'kubectl get --help' for usage."
    );
    assert_eq!(
        mistake("kubectl get -Z"),
        "error: unknown shorthand flag: 'Z' in -Z\nSee 'kubectl get --help' for usage."
    );
    let near = mistake("kubectl gett pods");
    assert!(
        near.starts_with("error: unknown command \"gett\" for \"kubectl\"\n\nDid you mean this?\n\t")
            && near.contains("\n\tget"),
        "{near}"
    );
    assert!(
        mistake("kubectl rollout foo")
            .starts_with("error: unknown command \"foo\"\nSee 'kubectl rollout -h'")
    );
    assert!(
        mistake("kubectl scale x --replicas=a")
            .starts_with("error: invalid argument \"a\" for \"--replicas\" flag")
    );
    assert!(mistake("kubectl get -n").starts_with("error: flag needs an argument: 'n' in -n\n"));
    assert_eq!(mistake("kubectl run x"), "error: required flag(s) \"image\" not set");
}
