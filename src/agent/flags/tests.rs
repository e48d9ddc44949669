//! Precedence of sources and wording of mistakes.

use clap::{Arg, ArgAction};

use super::*;

fn command() -> Command {
    Command::new("minik8s server")
        .arg(Arg::new("config").long("config").value_parser(clap::value_parser!(PathBuf)))
        .arg(Arg::new("node-name").long("node-name").default_value("default"))
        .arg(Arg::new("tls-san").long("tls-san").action(ArgAction::Append))
        .arg(Arg::new("disable-agent").long("disable-agent").action(ArgAction::SetTrue))
}

fn parse_with(file: &str, arguments: &[&str]) -> Result<ArgMatches, Stop> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, file).unwrap();
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    parse(command(), &arguments, &path)
}

fn problem(outcome: Result<ArgMatches, Stop>) -> String {
    match outcome.unwrap_err() {
        Stop::Problem(problem) => problem.to_string(),
        Stop::Text(text) => panic!("not a problem: {text}"),
    }
}

#[test]
fn the_file_speaks_where_the_command_line_is_silent() {
    let file = "node-name: from-file\ntls-san: [a, b]\ndisable-agent: true\n";
    let matches = parse_with(file, &[]).unwrap();
    assert_eq!(matches.get_one::<String>("node-name").unwrap(), "from-file");
    assert_eq!(matches.get_many::<String>("tls-san").unwrap().collect::<Vec<_>>(), ["a", "b"]);
    assert!(matches.get_flag("disable-agent"));
    let matches = parse_with(file, &["--node-name", "flag"]).unwrap();
    assert_eq!(matches.get_one::<String>("node-name").unwrap(), "flag");
}

#[test]
fn unknown_settings_and_flags_are_named_with_the_nearest() {
    let text = problem(parse_with("nodename: x\n", &[]));
    assert!(text.contains("no setting \"nodename\"") && text.contains("did you mean node-name?"), "{text}");
    let text = problem(parse_with("", &["--disable-agnet"]));
    assert!(text.starts_with("unknown flag --disable-agnet; did you mean --disable-agent?"), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn a_file_of_another_shape_is_refused() {
    assert!(problem(parse_with("- a\n", &[])).contains("not a mapping"));
    assert!(problem(parse_with("node-name: {a: b}\n", &[])).contains("wrong kind"));
    assert!(problem(parse_with("a: [", &[])).contains("cannot use the configuration"));
}

#[test]
fn help_is_text_and_no_problem() {
    assert!(matches!(parse_with("", &["--help"]), Err(Stop::Text(_))));
}

#[test]
fn a_shared_file_gives_a_command_its_part_also_under_other_names() {
    let part = || {
        Command::new("minik8s snapshot")
            .arg(Arg::new("config").long("config").value_parser(clap::value_parser!(PathBuf)))
            .arg(Arg::new("bucket").long("snapshot-s3-bucket").alias("etcd-s3-bucket"))
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, "node-name: one\netcd-s3-bucket: b\n").unwrap();
    let matches = parse_part(part(), &command(), &[], &path).unwrap();
    assert_eq!(matches.get_one::<String>("bucket").unwrap(), "b");
    std::fs::write(&path, "node-nam: one\n").unwrap();
    assert!(problem(parse_part(part(), &command(), &[], &path)).contains("no setting \"node-nam\""));
}
