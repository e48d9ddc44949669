//! Which file of a crate uses which: an arrow for each name that a file imports or reaches by a path.
//!
//! An arrow leads to the file that defines the name: re-exports (`pub use`) and aliases are followed, so a
//! façade neither hides an arrow nor draws one to itself. A façade's own `pub use` is an arrow from it to
//! what it re-exports. A `mod` line is none, nor is importing a module: what is reached through it is.
//! Methods of a type that are written in another file than the type are not seen, since a call names only the
//! method. A module `tests` inside a file is a file of its own here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tokens::tokens;

/// Of each file the files it uses, each with the names as they are written.
pub(crate) type Arrows = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

type Names = Vec<String>;

#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What `use` brings in, by the name it has here.
    bindings: BTreeMap<String, Names>,
    globs: Vec<Names>,
    defined: BTreeSet<String>,
    /// Paths of two names and more in code.
    paths: Vec<Names>,
}

/// The modules of a crate by their path; the root's is empty.
#[derive(Default)]
struct Tree(BTreeMap<Names, Module>);

enum Target {
    Module(Names),
    Item(PathBuf),
}

/// The arrows between the files of the crate whose root is `root` (`lib.rs` or `main.rs`).
pub(crate) fn arrows(root: &Path) -> Arrows {
    let mut tree = Tree::default();
    tree.read(root, root.parent().unwrap_or(root), Vec::new());
    tree.arrows()
}

impl Tree {
    /// Reads a file and those of its child modules, which lie in `folder`.
    fn read(&mut self, file: &Path, folder: &Path, path: Names) {
        let source = fs::read_to_string(file).unwrap();
        self.module(&tokens(&source), file, folder, path);
    }

    fn module(&mut self, tokens: &[String], file: &Path, folder: &Path, path: Names) {
        let mut module = Module { file: file.to_path_buf(), ..Module::default() };
        let mut at = 0;
        while at < tokens.len() {
            let next = |ahead: usize| tokens.get(at + ahead).map_or("", String::as_str);
            match (tokens[at].as_str(), next(1), next(2)) {
                ("mod", name, ";") => {
                    let child = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]
                        .into_iter()
                        .find(|file| file.exists())
                        .unwrap_or_else(|| panic!("{}: no file of `mod {name}`", file.display()));
                    self.read(&child, &folder.join(name), joined(&path, &[name.to_string()]));
                    at += 3;
                }
                ("mod", name, "{") => {
                    let end = closing(tokens, at + 2);
                    let own = if name == "tests" { file.join("tests") } else { file.to_path_buf() };
                    let inside = &tokens[at + 3..end];
                    self.module(inside, &own, &folder.join(name), joined(&path, &[name.to_string()]));
                    at = end + 1;
                }
                ("use", ..) => {
                    let end = at + tokens[at..].iter().position(|token| token == ";").unwrap_or(1);
                    import(&tokens[at + 1..end], &Vec::new(), &mut module);
                    at = end;
                }
                ("struct" | "enum" | "trait" | "fn" | "type" | "const" | "static" | "union", name, _) => {
                    module.defined.insert(name.to_string());
                    at += 1;
                }
                (_, "::", _) if is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::") => {
                    let mut names = vec![tokens[at].clone()];
                    while tokens.get(at + 1).is_some_and(|sign| sign == "::")
                        && tokens.get(at + 2).is_some_and(|name| is_name(name))
                    {
                        names.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    module.paths.push(names);
                    at += 1;
                }
                _ => at += 1,
            }
        }
        self.0.insert(path, module);
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (path, module) in &self.0 {
            let from = arrows.entry(module.file.clone()).or_default();
            let globs = module.globs.iter().map(|glob| (glob, true));
            let named = module.bindings.values().chain(&module.paths).map(|names| (names, false));
            for (names, whole) in globs.chain(named) {
                let file = match self.target(path, names, 0) {
                    Some(Target::Item(file)) => file,
                    Some(Target::Module(path)) if whole => self.0[&path].file.clone(),
                    _ => continue,
                };
                from.entry(file).or_default().insert(names.join("::"));
            }
            from.remove(&module.file);
        }
        arrows
    }

    /// Where a path that is written in module `from` leads; `None` for other crates.
    fn target(&self, from: &Names, names: &[String], depth: usize) -> Option<Target> {
        if depth > 20 {
            return None;
        }
        let (first, rest) = names.split_first()?;
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            _ => return self.member(from, names, depth, false),
        };
        self.inside(start, rest, depth)
    }

    fn inside(&self, module: Names, names: &[String], depth: usize) -> Option<Target> {
        match names.first().map(String::as_str) {
            None => Some(Target::Module(module)),
            Some("super") => self.inside(module[..module.len().checked_sub(1)?].to_vec(), &names[1..], depth),
            Some(_) => self.member(&module, names, depth, true),
        }
    }

    /// `names` as members of `module`. `surely`: a name that is not seen is an item of it, not another
    /// crate's.
    fn member(&self, module: &Names, names: &[String], depth: usize, surely: bool) -> Option<Target> {
        let (first, rest) = names.split_first()?;
        let child = joined(module, std::slice::from_ref(first));
        let here = &self.0[module];
        if self.0.contains_key(&child) {
            return self.inside(child, rest, depth);
        }
        if here.defined.contains(first) {
            return Some(Target::Item(here.file.clone()));
        }
        if let Some(binding) = here.bindings.get(first) {
            if binding.first() == Some(first) {
                return None;
            }
            return match self.target(module, binding, depth + 1)? {
                Target::Module(module) => self.inside(module, rest, depth),
                item => Some(item),
            };
        }
        for glob in &here.globs {
            if let Some(Target::Module(path)) = self.target(module, glob, depth + 1)
                && path != *module
                && let Some(found) = self.member(&path, names, depth + 1, false)
            {
                return Some(found);
            }
        }
        surely.then(|| Target::Item(here.file.clone()))
    }
}

/// Adds what an import brings in: `a::{b, c as d, e::*}`.
fn import(tokens: &[String], prefix: &Names, module: &mut Module) {
    let mut path = prefix.clone();
    let mut alias = None;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "::" => {}
            "*" => return module.globs.push(path),
            "as" => alias = tokens.get(at + 1).cloned(),
            "{" => {
                let inside = &tokens[at + 1..closing(tokens, at)];
                let mut depth = 0;
                let parts = inside.split(|token| {
                    depth += i32::from(token == "{") - i32::from(token == "}");
                    token == "," && depth == 0
                });
                return parts.filter(|part| !part.is_empty()).for_each(|part| import(part, &path, module));
            }
            "self" if !path.is_empty() => {}
            name if alias.is_none() => path.push(name.to_string()),
            _ => {}
        }
        at += 1;
    }
    let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    // Several traits may come in as `_`.
    let key = if name == "_" { path.join("::") } else { name };
    module.bindings.insert(key, path);
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn joined(path: &[String], more: &[String]) -> Names {
    [path, more].concat()
}

/// The index of the brace that closes the one at `open`.
fn closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += i32::from(token == "{") - i32::from(token == "}");
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}
