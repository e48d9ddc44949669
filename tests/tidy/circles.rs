//! Circles of imports: files that use each other, directly or by way of others, cannot be understood one at a
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::imports::{Arrows, arrows};
use crate::own_crates;

/// The most files that may stand in one circle.
const MOST_FILES: usize = 10;

#[test]
fn no_circle_of_imports_is_large() {
    let mut wrong = Vec::new();
    for (name, folder) in own_crates() {
        let root = [folder.join("lib.rs"), folder.join("src/main.rs")].into_iter().find(|root| root.exists());
        let arrows = arrows(&root.unwrap_or_else(|| panic!("{name} has a root")));
        let circles = circles(&arrows);
        let sizes: Vec<_> = circles.iter().map(BTreeSet::len).collect();
        println!("{name}: {} files, circles of {sizes:?}", arrows.len());
        for circle in circles {
            let files: Vec<_> = circle.iter().map(|file| shown(file, &folder)).collect();
            println!("  {}", files.join(" "));
            for from in &circle {
                for (to, names) in arrows[from].iter().filter(|(to, _)| circle.contains(*to)) {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    println!("    {} -> {}: {}", shown(from, &folder), shown(to, &folder), names.join(" "));
                }
            }
            if circle.len() > MOST_FILES {
                wrong.push(format!("{name}: {} files: {}", circle.len(), files.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "circles of imports of more than {MOST_FILES} files: {wrong:#?}");
}

fn shown(file: &Path, folder: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

/// The sets of files that reach each other, the largest first.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<PathBuf>> {
    let mut backwards = Arrows::new();
    for (from, to) in arrows.iter().flat_map(|(from, all)| all.keys().map(move |to| (from, to))) {
        backwards.entry(to.clone()).or_default().entry(from.clone()).or_default();
    }
    let mut left: BTreeSet<&PathBuf> = arrows.keys().collect();
    let mut circles = Vec::new();
    while let Some(file) = left.first().copied() {
        let circle: BTreeSet<PathBuf> =
            reached(file, arrows).intersection(&reached(file, &backwards)).cloned().collect();
        left.retain(|file| !circle.contains(*file));
        left.remove(file);
        if circle.len() > 1 {
            circles.push(circle);
        }
    }
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

/// What can be reached from a file, itself included.
fn reached(file: &PathBuf, arrows: &Arrows) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::from([file.clone()]);
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        let next = arrows.get(file).into_iter().flat_map(BTreeMap::keys);
        open.extend(next.filter(|to| seen.insert((*to).clone())));
    }
    seen
}

/// Writes a crate into a folder of its own and gives its circles.
fn circles_of(name: &str, files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    for (file, source) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&folder)).unwrap();
        fs::write(path, source).unwrap();
    }
    let found = circles(&arrows(&folder.join("lib.rs")));
    fs::remove_dir_all(&folder).unwrap();
    found.iter().map(|circle| circle.iter().map(|file| shown(file, &folder)).collect()).collect()
}

#[test]
fn circles_are_seen_through_reexports_and_modules() {
    let found = circles_of(
        "circle",
        &[
            ("lib.rs", "pub mod a; mod b; mod c;"),
            ("a.rs", "mod inner; pub use inner::Thing; use crate::c;"),
            ("a/inner.rs", "use crate::b; pub struct Thing; fn f() { b::g() }"),
            ("b.rs", "use crate::{a::{Thing as Other}, c::h}; pub fn g() {}"),
            ("c.rs", "pub fn h() { let no = \"crate::b::g\"; } mod tests { use super::*; use crate::b::g; }"),
        ],
    );
    assert_eq!(found, [["a/inner.rs", "b.rs"]]);
}

#[test]
fn declaring_and_importing_a_module_is_no_arrow() {
    let files: BTreeMap<_, _> =
        [("lib.rs", "mod a; pub const N: u8 = 1;"), ("a.rs", "use crate::N; use super::a;")].into();
    assert!(circles_of("straight", &files.into_iter().collect::<Vec<_>>()).is_empty());
}
