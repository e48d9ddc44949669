//! Changing files: each entry in the file that it came from, written whole and atomically.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Context, Kubeconfig, KubeconfigError, Loaded, NamedContext};

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

    fn set_current(&mut self, name: &str) -> Result<(), KubeconfigError> {
        let path = self.origin(|file| !file.current_context.is_empty());
        self.edit(&path, |file| file.current_context = name.to_string())?;
        self.merged.current_context = name.to_string();
        Ok(())
    }

    /// Changes a context, or makes it. Answers whether it is new.
    pub fn set_context(
        &mut self,
        name: &str,
        change: impl Fn(&mut Context),
    ) -> Result<bool, KubeconfigError> {
        let path = self.origin(|file| file.context(name).is_some());
        let is_new = self.merged.context(name).is_none();
        let apply = |file: &mut Kubeconfig| {
            if file.context(name).is_none() {
                file.contexts.push(NamedContext { name: name.to_string(), context: Context::default() });
            }
            if let Some(one) = file.contexts.iter_mut().find(|one| one.name == name) {
                change(&mut one.context);
            }
        };
        self.edit(&path, apply)?;
        apply(&mut self.merged);
        Ok(is_new)
    }

    /// Removes a context; answers the file it was in.
    pub fn delete_context(&mut self, name: &str) -> Result<PathBuf, KubeconfigError> {
        if self.merged.context(name).is_none() {
            return Err(KubeconfigError::NoContext(name.to_string()));
        }
        let path = self.origin(|file| file.context(name).is_some());
        self.edit(&path, |file| file.contexts.retain(|one| one.name != name))?;
        self.merged.contexts.retain(|one| one.name != name);
        Ok(path)
    }

    /// The first file that has it, else where new entries go.
    fn origin(&self, has: impl Fn(&Kubeconfig) -> bool) -> PathBuf {
        let found = self.files.iter().find(|(_, file)| has(file)).map(|(path, _)| path);
        found.unwrap_or(&self.default_file).clone()
    }

    fn edit(&mut self, path: &Path, change: impl Fn(&mut Kubeconfig)) -> Result<(), KubeconfigError> {
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

    /// Writes the file readable only by its owner: it holds keys. Written beside and renamed, so that it is never half.
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
