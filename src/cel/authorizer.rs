//! What an expression may ask an authorizer, and who answers.

/// A question, as far as it has been put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Namespace and name of the account that is asked about; none for whoever makes the request.
    pub service_account: Option<(String, String)>,
    /// Of what is no resource.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub verb: String,
}

impl Check {
    /// How long its texts are.
    pub(crate) fn size(&self) -> usize {
        let account = self.service_account.iter().map(|(namespace, name)| namespace.len() + name.len());
        let texts = [&self.group, &self.resource, &self.subresource, &self.namespace, &self.name, &self.verb];
        let path = self.path.as_ref().map_or(0, String::len);
        account.sum::<usize>() + texts.iter().map(|text| text.len()).sum::<usize>() + path
    }
}

/// The answer to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
}

/// Who answers.
pub trait Authorizer {
    fn check(&self, check: &Check) -> Decision;
}
