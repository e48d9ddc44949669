//! Names of field managers: given by the client, or made from what it calls itself.

use crate::identity::{USER_APISERVER, USER_CONTROLLER_MANAGER, USER_SCHEDULER};
use crate::validation::Faults;
use crate::{FieldError, Identity};

/// Bytes of a manager's name at most.
const LONGEST: usize = 128;

/// Faults of a name that a client has given.
pub fn manager_faults(name: &str, path: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > LONGEST {
        faults.push(FieldError::too_long(path, LONGEST));
    }
    for (at, one) in name.char_indices().filter(|(_, one)| !is_printable(*one)) {
        let code = u32::from(one);
        faults.push(FieldError::invalid(
            path,
            name,
            format!("invalid character U+{code:04X} (at position {at})"),
        ));
    }
    faults
}

/// The manager of a client that names none: its User-Agent up to the first slash.
pub fn manager_of_agent(agent: &str) -> String {
    let mut name = String::new();
    for one in agent.split('/').next().unwrap_or("").chars().filter(|one| is_printable(*one)) {
        if name.len() + one.len_utf8() > LONGEST {
            break;
        }
        name.push(one);
    }
    name
}

/// The manager of a component that calls in the process: upstream's name of the program that has this
/// identity.
pub fn manager_of_identity(identity: &Identity) -> String {
    match &*identity.name {
        USER_SCHEDULER => "kube-scheduler".to_string(),
        USER_CONTROLLER_MANAGER => "kube-controller-manager".to_string(),
        USER_APISERVER => "kube-apiserver".to_string(),
        "system:kube-proxy" => "kube-proxy".to_string(),
        _ if identity.node_name().is_some() => "kubelet".to_string(),
        // Controllers act as their own service accounts.
        name if name.starts_with("system:serviceaccount:kube-system:") => {
            "kube-controller-manager".to_string()
        }
        name => manager_of_agent(name),
    }
}

/// Go's `unicode.IsPrint`: of the spaces only U+0020.
fn is_printable(one: char) -> bool {
    match one {
        ' '..='~' => true,
        _ if one.is_ascii() || one.is_whitespace() || one.is_control() => false,
        // A combining mark is printable after a letter.
        _ => ['a', one].iter().collect::<String>().escape_debug().nth(1) == Some(one),
    }
}
