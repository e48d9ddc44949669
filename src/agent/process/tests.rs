//! Whose process it is that has the words of ours.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A shell that waits, with a word in its arguments.
fn waiting(word: &str, prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Ended {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line", "sh", word]).stdin(Stdio::piped());
    // SAFETY: what is prepared is system calls only.
    unsafe { command.pre_exec(prepare) };
    Ended(command.spawn().unwrap())
}

#[test]
fn a_process_is_found_by_its_words_and_by_what_they_mean_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let word = folder.path().display().to_string();
    let says = |arguments: &[String]| arguments.contains(&word);
    let ours = waiting(&word, || Ok(()));
    let pid = i32::try_from(ours.0.id()).unwrap();
    assert_eq!(find(folder.path(), says), [pid]);
    // A place that is nowhere keeps none from being found that has our root.
    assert_eq!(find(Path::new("/nowhere/at/all"), says), [pid]);
    assert!(find(folder.path(), |arguments| arguments.contains(&format!("{word}/else"))).is_empty());
}

#[test]
fn open_files_are_known_by_what_they_are_not_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("one"), folder.path().join("two"));
    let file = File::create(&path).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(has_open(pid, &path));
    fs::rename(&path, &moved).unwrap();
    File::create(&path).unwrap();
    assert!(has_open(pid, &moved) && !has_open(pid, &path));
    drop(file);
    assert!(!has_open(pid, &moved));
}
