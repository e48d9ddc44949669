//! The kinds that are questions.

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// Whose token is this?
    Token,
    /// Who am I?
    Self_,
    /// What may I do?
    Rules,
    /// May I, or may somebody, do this?
    Access,
}

impl Review {
    /// The question that a built-in kind asks; none if it asks nothing.
    pub(super) fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "TokenReview" => Review::Token,
            "SelfSubjectReview" => Review::Self_,
            "SelfSubjectRulesReview" => Review::Rules,
            "SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview" => Review::Access,
            _ => return None,
        })
    }
}
