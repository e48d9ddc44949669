//! The lock of the data directory.

use std::io::{Read, Write};

use super::*;

#[test]
fn a_process_about_to_start_does_not_hold_the_lock_on() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirectoryLock::take(dir.path()).unwrap();
    assert!(matches!(DirectoryLock::take_within(dir.path(), Duration::ZERO), Err(OpenError::Locked { .. })));
    let (mut wait, mut end) = std::io::pipe().unwrap();
    // SAFETY: the child calls nothing but read and _exit.
    let child = match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            // It has a copy of every open file, as a command has before it becomes another program.
            let _ = wait.read(&mut [0]);
            // SAFETY: it does not return.
            unsafe { nix::libc::_exit(0) }
        }
    };
    drop(lock);
    let again = DirectoryLock::take_within(dir.path(), Duration::ZERO);
    end.write_all(b"x").unwrap();
    nix::sys::wait::waitpid(child, None).unwrap();
    assert!(again.is_ok(), "the copy in the other process is of no importance");
}
