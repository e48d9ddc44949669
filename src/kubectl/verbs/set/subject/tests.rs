//! Subjects and selectors as they are typed.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SubjectArgs,
}

fn typed(flags: &[&str]) -> std::result::Result<Vec<Value>, String> {
    let line = Line::try_parse_from(["subject", "rolebinding", "x"].iter().chain(flags)).expect("flags");
    subjects(&line.args, "here").map_err(|error| error.to_string())
}

#[test]
fn subjects_are_sorted_and_accounts_have_a_namespace() {
    let made =
        typed(&["--user=b", "--user=a", "--group=g", "--serviceaccount=:own", "--serviceaccount=there:x"]);
    let names: Vec<String> =
        made.unwrap().iter().map(|one| format!("{}/{}", one["kind"], one["name"]).replace('"', "")).collect();
    assert_eq!(names, ["User/a", "User/b", "Group/g", "ServiceAccount/own", "ServiceAccount/x"]);
    assert_eq!(typed(&["--serviceaccount=:own"]).unwrap()[0]["namespace"], "here");
    for bad in ["own", "a:", "a:b:c"] {
        let said = typed(&[&format!("--serviceaccount={bad}")]);
        assert_eq!(said, Err("error: serviceaccount must be <namespace>:<name>".to_string()), "{bad}");
    }
    assert!(typed(&[]).is_err());
}

#[test]
fn a_selector_is_made_of_equalities() {
    assert_eq!(labels("a=b,c==d").unwrap(), *json!({"a": "b", "c": "d"}).as_object().unwrap());
    assert!(labels("a!=b").is_err() && labels("a in (b)").is_err());
}
