//! Names that stand for types.

use crate::ast::Expr;
use crate::value::Value;

/// Whether a name stands for one.
pub(crate) fn is_type(name: &str) -> bool {
    type_value(name).is_some()
}

pub(crate) fn type_value<'a>(name: &str) -> Option<Value<'a>> {
    const TYPES: [&str; 12] = [
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "optional_type",
        "dyn",
    ];
    TYPES.into_iter().find(|known| *known == name).map(Value::Type)
}

/// Types whose names have dots.
pub(crate) fn type_of_path(expression: &Expr) -> Option<&'static str> {
    fn path(expression: &Expr) -> Option<String> {
        match expression {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select { operand, field, optional: false } => Some(format!("{}.{field}", path(operand)?)),
            _ => None,
        }
    }
    const TYPES: [&str; 9] = [
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "kubernetes.Quantity",
        "kubernetes.URL",
        "net.IP",
        "net.CIDR",
        "kubernetes.Semver",
        "kubernetes.NamedFormat",
        "kubernetes.authorization.Authorizer",
    ];
    let Expr::Select { field, .. } = expression else { return None };
    if !TYPES.iter().any(|name| name.rsplit('.').next() == Some(field)) {
        return None;
    }
    let path = path(expression)?;
    TYPES.into_iter().find(|name| *name == path)
}
