//! Where an object came from and what changed it: the annotations that `buildMetadata` asks for.

use crate::paths;

#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// From the directory that is built.
    pub(crate) path: String,
    /// The file with the generator or transformer that made it.
    pub(crate) configured_in: String,
    pub(crate) configured_by: ConfiguredBy,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ConfiguredBy {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

impl Origin {
    pub(crate) fn joined(&self, path: &str) -> Self {
        Origin { path: paths::join(&self.path, path), ..self.clone() }
    }

    pub(crate) fn built_in(&self, file: &str, kind: &str) -> Self {
        Origin {
            path: String::new(),
            configured_in: paths::join(&self.path, file),
            configured_by: ConfiguredBy {
                api_version: "builtin".to_string(),
                kind: kind.to_string(),
                ..ConfiguredBy::default()
            },
        }
    }

    pub(crate) fn to_yaml(&self) -> String {
        let mut lines = String::new();
        let mut put = |indent: &str, name: &str, value: &str| {
            if !value.is_empty() {
                lines.push_str(&format!("{indent}{name}: {}\n", super::emit::text(value)));
            }
        };
        put("", "path", &self.path);
        put("", "configuredIn", &self.configured_in);
        let by = &self.configured_by;
        let parts = [
            ("apiVersion", &by.api_version),
            ("kind", &by.kind),
            ("name", &by.name),
            ("namespace", &by.namespace),
        ];
        if parts.iter().any(|(_, value)| !value.is_empty()) {
            lines.push_str("configuredBy:\n");
            for (name, value) in parts {
                if !value.is_empty() {
                    lines.push_str(&format!("  {name}: {}\n", super::emit::text(value)));
                }
            }
        }
        if lines.is_empty() { "{}\n".to_string() } else { lines }
    }

    /// Several of them, as a list.
    pub(crate) fn list_to_yaml(origins: &[Origin]) -> String {
        let item = |origin: &Origin| {
            let yaml = origin.to_yaml();
            let lines: Vec<&str> = yaml.lines().collect();
            format!("- {}\n", lines.join("\n  "))
        };
        origins.iter().map(item).collect()
    }
}
