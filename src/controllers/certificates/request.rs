//! What a certificate request (PKCS #10) asks for.

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use crate::SigningError;

const BLOCK_TYPE: &str = "PEM block type must be CERTIFICATE REQUEST";

/// The parts that decide about approval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Alternative names of other kinds (mail, URI …): how many.
    pub(super) other_names: usize,
}

/// Reads PEM or answers why it cannot be read.
pub(super) fn parse(pem: &[u8]) -> Result<Request, SigningError> {
    let (_, block) = parse_x509_pem(pem).map_err(|_| SigningError::malformed(BLOCK_TYPE))?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(SigningError::malformed(BLOCK_TYPE));
    }
    let (_, csr) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| SigningError::malformed(format!("malformed certificate request: {error}")))?;
    let subject = &csr.certification_request_info.subject;
    let text = |value: Option<&str>| value.unwrap_or("").to_string();
    let mut request = Request {
        common_name: text(subject.iter_common_name().next().and_then(|name| name.as_str().ok())),
        organizations: subject.iter_organization().map(|name| text(name.as_str().ok())).collect(),
        ..Request::default()
    };
    for extension in csr.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            for name in &names.general_names {
                request.add(name);
            }
        }
    }
    Ok(request)
}

impl Request {
    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push(name.to_string()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => self.addresses.push(address),
                None => self.other_names += 1,
            },
            _ => self.other_names += 1,
        }
    }

    pub(super) fn has_alternative_names(&self) -> bool {
        !self.dns_names.is_empty() || !self.addresses.is_empty() || self.other_names > 0
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
