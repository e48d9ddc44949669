//! What commands that change objects have in common: dry runs, field managers, and the line they print.

use clap::Args;
use serde_json::Value;

use crate::env::print;
use crate::error::{Error, Result};
use crate::output::{Format, OutputArgs, title};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DryRun {
    No,
    Client,
    Server,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ChangeArgs {
    /// none, client (do not ask the server) or server (the server does everything but store)
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client")]
    pub(crate) dry_run: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Name of the manager of the fields that are set
    #[arg(long)]
    pub(crate) field_manager: Option<String>,
}

/// `--validate` of commands that send whole objects.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ValidateArgs {
    /// strict (or true), warn, or ignore (or false): what to do with unknown and duplicate fields
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "strict", default_missing_value = "strict")]
    pub(crate) validate: String,
}

impl ValidateArgs {
    pub(crate) fn parameter(&self) -> Result<&'static str> {
        match self.validate.as_str() {
            "true" | "strict" | "" => Ok("fieldValidation=Strict"),
            "warn" => Ok("fieldValidation=Warn"),
            "false" | "ignore" => Ok("fieldValidation=Ignore"),
            other => Err(Error::message(format!(
                "invalid - validate option {other:?}; must be one of: strict (or true), warn, ignore (or false)"
            ))),
        }
    }
}

impl ChangeArgs {
    pub(crate) fn mode(&self) -> Result<DryRun> {
        match self.dry_run.as_str() {
            "none" | "" | "false" => Ok(DryRun::No),
            "client" | "true" => Ok(DryRun::Client),
            "server" => Ok(DryRun::Server),
            other => Err(Error::message(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }

    /// `?fieldManager=…&dryRun=All&…`.
    pub(crate) fn query(&self, manager: &str, more: &[&str]) -> Result<String> {
        let manager = self.field_manager.as_deref().unwrap_or(manager);
        let mut query = format!("?fieldManager={}", client::https::encode_component(manager));
        if self.mode()? == DryRun::Server {
            query.push_str("&dryRun=All");
        }
        for one in more {
            query.push('&');
            query.push_str(one);
        }
        Ok(query)
    }

    /// `pod/x created`, or the object in the format that was asked for.
    pub(crate) fn report(&self, object: &Value, done: &str) -> Result<()> {
        let format = self.output.format()?;
        if format.is_human() {
            return print(&format!("{} {done}{}\n", title(object), self.suffix()?));
        }
        self.show(&format, object)
    }

    /// ` (dry run)` where it applies.
    pub(crate) fn suffix(&self) -> Result<&'static str> {
        Ok(match self.mode()? {
            DryRun::No => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        })
    }

    pub(crate) fn show(&self, format: &Format, object: &Value) -> Result<()> {
        let text = format.text(object, self.output.show_managed_fields, false)?;
        if matches!(format, Format::Yaml) && SEVERAL.with(|several| several.replace(true)) {
            print("---\n")?;
        }
        print(&text)
    }
}

thread_local! {
    /// A document was printed: the next one needs a separator.
    static SEVERAL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
