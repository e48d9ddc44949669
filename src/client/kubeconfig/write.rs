//! Changing files: each entry in the file that it came from, written whole and atomically.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Entry, Kubeconfig, KubeconfigError, Loaded, NamedContext};

impl Loaded {
    /// Makes a context the current one.
    pub fn use_context(&mut self, name: &str) -> Result<(), KubeconfigError> {
        if self.merged.context(name).is_none() {
            return Err(KubeconfigError::NoContext(name.to_string()));
        }
        self.set_current(name)
    }

    /// Leaves no context current.
    pub fn unset_current(&mut self) -> Result<(), KubeconfigError> {
        self.set_current("")
    }

    /// Makes a context the current one, whether it exists or not.
    pub fn set_current(&mut self, name: &str) -> Result<(), KubeconfigError> {
        let path = self.origin(|file| !file.current_context.is_empty());
        self.edit(&path, |file| file.current_context = name.to_string())?;
        self.merged.current_context = name.to_string();
        Ok(())
    }

    /// Changes an entry in the file that has it, or makes it. Answers whether it is new.
    pub fn set<E: Entry>(
        &mut self,
        name: &str,
        change: impl Fn(&mut E::Content),
    ) -> Result<bool, KubeconfigError> {
        let path = self.origin(|file| E::is_in(file, name));
        let is_new = !E::is_in(&self.merged, name);
        let apply = |file: &mut Kubeconfig| {
            let list = E::list_mut(file);
            if !list.iter().any(|one| one.name() == name) {
                list.push(E::new(name));
            }
            if let Some(one) = list.iter_mut().find(|one| one.name() == name) {
                change(one.content());
            }
        };
        self.edit(&path, apply)?;
        apply(&mut self.merged);
        Ok(is_new)
    }

    /// Changes an entry by its YAML form, so that fields without a type of their own can be set too.
    pub fn set_tree<E: Entry>(
        &mut self,
        name: &str,
        change: impl Fn(&mut serde_yaml::Value),
    ) -> Result<(), KubeconfigError> {
        let failed = |source| KubeconfigError::Entry { kind: E::KIND, name: name.to_string(), source };
        let mut present = E::list(&self.merged).iter().find(|one| one.name() == name).cloned();
        let content = present.as_mut().map(|one| one.content().clone()).unwrap_or_default();
        let mut tree = serde_yaml::to_value(content).map_err(failed)?;
        change(&mut tree);
        let changed: E::Content = serde_yaml::from_value(tree).map_err(failed)?;
        self.set::<E>(name, |content| *content = changed.clone()).map(drop)
    }

    /// Removes an entry from every file; else what a later file says under its name would come to light.
    /// Answers the first file that had it, or none.
    pub fn remove<E: Entry>(&mut self, name: &str) -> Result<Option<PathBuf>, KubeconfigError> {
        let having: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(_, file)| E::is_in(file, name))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &having {
            self.edit(path, |file| E::list_mut(file).retain(|one| one.name() != name))?;
        }
        E::list_mut(&mut self.merged).retain(|one| one.name() != name);
        Ok(having.into_iter().next())
    }

    /// Gives a context another name, in the file that has it; the current context follows.
    pub fn rename_context(&mut self, name: &str, new_name: &str) -> Result<(), KubeconfigError> {
        let Some(context) = self.merged.context(name).cloned() else {
            return Err(KubeconfigError::NoContext(name.to_string()));
        };
        let path = self.origin(|file| file.context(name).is_some());
        self.edit(&path, |file| {
            file.contexts.retain(|one| one.name != name);
            file.contexts.push(NamedContext { name: new_name.to_string(), context: context.clone() });
        })?;
        self.remove::<NamedContext>(name)?;
        self.merged.contexts.push(NamedContext { name: new_name.to_string(), context });
        if self.merged.current_context == name { self.set_current(new_name) } else { Ok(()) }
    }

    /// The first file that has it, else where new entries go.
    fn origin(&self, has: impl Fn(&Kubeconfig) -> bool) -> PathBuf {
        let found = self.files.iter().find(|(_, file)| has(file)).map(|(path, _)| path);
        found.unwrap_or(&self.default_file).clone()
    }

    fn edit(&mut self, path: &Path, change: impl Fn(&mut Kubeconfig)) -> Result<(), KubeconfigError> {
        if path.as_os_str().is_empty() {
            return Err(KubeconfigError::NoPlace);
        }
        let known = self.files.iter().position(|(own, _)| own == path);
        let index = known.unwrap_or_else(|| {
            self.files.push((path.to_path_buf(), Kubeconfig::default()));
            self.files.len() - 1
        });
        change(&mut self.files[index].1);
        self.files[index].1.write(path)
    }
}

impl Kubeconfig {
    pub fn to_yaml(&self) -> Result<String, io::Error> {
        serde_yaml::to_string(self).map_err(io::Error::other)
    }

    /// Writes the file readable only by its owner: it holds keys. Written beside and renamed, so that it is
    /// never half.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        self.write_atomically(path)
            .map_err(|source| KubeconfigError::Write { path: path.to_path_buf(), source })
    }

    fn write_atomically(&self, path: &Path) -> io::Result<()> {
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let directory =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let beside = directory.join(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let written = file
            .write_all(self.to_yaml()?.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| match std::fs::metadata(&target) {
                Ok(old) => std::fs::set_permissions(&beside, old.permissions()),
                Err(_) => Ok(()),
            })
            .and_then(|()| std::fs::rename(&beside, &target));
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}
