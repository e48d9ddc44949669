//! The program runs, waits, and ends when told to.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use super::*;

#[test]
fn the_program_waits_and_exits_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pause");
    std::fs::write(&path, program(crate::images::archive::architecture()).unwrap()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        // Ready once it waits for signals: the kernel shows in which call it is (rt_sigtimedwait).
        let waits = || {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
            matches!(call.split(' ').next(), Some("128" | "137"))
        };
        let began = std::time::Instant::now();
        while !waits() {
            assert!(began.elapsed().as_secs() < 20, "the program does not come to wait for signals");
            std::thread::yield_now();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCHLD).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        nix::sys::signal::kill(pid, signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}

#[test]
fn the_arm_program_has_the_right_words() {
    assert_eq!(AARCH64[0], 0xd288_0041, "movz x1, #0x4002");
    assert_eq!(AARCH64[1], 0xf2a0_0021, "movk x1, #1, lsl 16");
    assert_eq!(AARCH64[16], 0x5400_0100, "b.eq +8");
    assert_eq!(AARCH64[20], 0x54ff_fea1, "b.ne -11");
    assert_eq!(AARCH64[32], 0x17ff_ffe9, "b -23");
    assert_eq!(program("arm64").unwrap().len(), 120 + 33 * 4);
}
