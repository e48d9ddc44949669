//! Who keeps an instance, and what a process in the background is started with.

use super::*;

fn paths(all: &[&str]) -> Vec<PathBuf> {
    all.iter().map(PathBuf::from).collect()
}

#[test]
fn the_service_manager_that_runs_and_has_the_service_keeps_it() {
    let program = "/usr/local/bin/minik8s";
    let systemd = paths(&[program, "/etc/systemd/system/minik8s.service"]);
    assert_eq!(keeper_of(&systemd, true, false), Keeper::Systemd("minik8s.service".into()));
    assert_eq!(keeper_of(&systemd, false, false), Keeper::Background(program.into()), "systemd does not run");
    let openrc = paths(&["/etc/init.d/minik8s", program]);
    assert_eq!(keeper_of(&openrc, false, true), Keeper::OpenRc("minik8s".into()));
    assert_eq!(keeper_of(&openrc, true, false), Keeper::Background(program.into()));
    assert_eq!(keeper_of(&[], true, true), Keeper::Nobody);
}

#[test]
fn a_process_in_the_background_is_started_as_it_was_installed() {
    let launch = Launch::of(
        "INSTALL_MINIK8S_EXEC=\"--node-name two  --log warn\"\nINSTALL_MINIK8S_BIN_DIR=\"/opt\"\nMINIK8S_URL=\"https://a:6443\"\n\
         MINIK8S_NODE_LABEL=\"a=b\\$c\"\n",
    );
    assert_eq!(launch.arguments, ["agent", "--node-name", "two", "--log", "warn"]);
    let wanted = [("MINIK8S_URL", "https://a:6443"), ("MINIK8S_NODE_LABEL", "a=b$c")];
    assert_eq!(launch.variables, wanted.map(|(name, value)| (name.to_string(), value.to_string())));
    assert_eq!(Launch::of("").arguments, ["server"]);
}
