//! `-o go-template`: placeholder until the engine lands in the next commit; says so plainly.

use serde_json::Value;

use crate::error::{Error, Result};

pub(crate) struct Template;

impl Template {
    pub(crate) fn parse(_text: &str) -> Result<Self> {
        Err(Error::message("go-template output is not offered by this kubectl yet; use -o jsonpath"))
    }

    pub(crate) fn render(&self, _object: &Value) -> Result<String> {
        Ok(String::new())
    }
}
