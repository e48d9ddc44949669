//! Signs certificate requests for the signers that Kubernetes defines (kubernetes.io/docs: certificate
//! signing requests).
//!
//! What a request may contain depends on the signer; what was not asked for through the API's `usages` is not
//! in the certificate, whatever the request's own extensions say. The subject is the request's to the byte:
//! the library that makes certificates keeps one value of each kind, so a user with several groups would lose
//! all but one; the certificate is taken apart, given its subject, and signed again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use client::BoxFuture;
use controllers::{CertificateSigner, SigningError};
use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    SanType, SigningKey,
};
use x509_parser::prelude::{FromDer, X509Name};

use super::authority::LEAF_LIFE;
use super::{Authority, Pki, proof};

/// The cluster's authorities, as the signing controller sees them.
pub(crate) struct Signer {
    pub(crate) pki: Arc<Pki>,
    /// The `kubernetes` service's address.
    pub(crate) kubernetes_ip: IpAddr,
    /// The node that this server runs, and that shares its name and addresses.
    pub(crate) own_node: Option<String>,
}

impl CertificateSigner for Signer {
    fn sign<'a>(
        &'a self,
        csr_pem: &'a str,
        signer_name: &'a str,
        usages: &'a [String],
        duration: Option<Duration>,
    ) -> BoxFuture<'a, Result<String, SigningError>> {
        let outcome = self.signed(csr_pem, signer_name, usages, duration, agent::keys::now());
        Box::pin(async move { outcome })
    }

    fn is_reserved(&self, node: &str, dns_names: &[String], addresses: &[IpAddr]) -> bool {
        let names = dns_names.iter().map(|name| name.clone().try_into().map(SanType::DnsName));
        // What is no name of the DNS is nobody's.
        names.into_iter().any(|name| name.is_ok_and(|name| self.reserves(node, &name)))
            || addresses.iter().any(|address| self.reserves(node, &SanType::IpAddress(*address)))
    }

    fn is_own_node(&self, node: &str) -> bool {
        self.own_node.as_deref() == Some(node)
    }

    fn is_proved(&self, node: &str, csr_pem: &str, certificate_pem: &str, signature: &str) -> bool {
        proof::holds(&self.pki.client_ca, node, csr_pem, certificate_pem, signature)
    }
}

/// The shortest life upstream grants.
const SHORTEST_LIFE: i64 = 600;

impl Signer {
    /// Names and addresses by which clients know the API server: no kubelet's certificate has one. Only the
    /// server's own node may have those that it shares with it.
    fn reserves(&self, node: &str, san: &SanType) -> bool {
        let always = match san {
            SanType::DnsName(name) => {
                let name = name.as_str().to_ascii_lowercase();
                let name = name.trim_end_matches('.');
                name == "localhost"
                    || name == "kubernetes"
                    || name.starts_with("kubernetes.")
                    || name.contains('*')
            }
            SanType::IpAddress(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address.is_unspecified() || address == self.kubernetes_ip
            }
            _ => false,
        };
        always || (!self.is_own_node(node) && self.pki.is_served_as(san))
    }

    pub(super) fn signed(
        &self,
        csr_pem: &str,
        signer_name: &str,
        usages: &[String],
        duration: Option<Duration>,
        now: i64,
    ) -> Result<String, SigningError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| SigningError::malformed(format!("unable to parse the request: {error}")))?;
        let organizations = organizations(csr_pem)?;
        let authority = check(signer_name, &request, &organizations, usages, self)?;
        let mut request = request;
        request.params.key_usages.clear();
        request.params.extended_key_usages.clear();
        for usage in usages {
            add_usage(&mut request.params, usage)?;
        }
        match duration.and_then(|duration| i64::try_from(duration.as_secs()).ok()) {
            None => authority.stamp(&mut request.params, now, LEAF_LIFE),
            Some(asked) => {
                authority.stamp_asked(&mut request.params, now, asked.clamp(SHORTEST_LIFE, LEAF_LIFE));
            }
        }
        let certificate =
            request.signed_by(&authority.issuer).map_err(|error| SigningError::failed(error.to_string()))?;
        let der = with_subject(certificate.der(), &subject(csr_pem)?, authority.issuer.key());
        Ok(to_pem(&der.ok_or(SigningError::failed("the certificate cannot be given its subject"))?))
    }
}

/// What `read` finds in the request's subject.
fn of_subject<T>(csr_pem: &str, read: impl FnOnce(&X509Name<'_>) -> Option<T>) -> Result<T, SigningError> {
    let wrong = || SigningError::malformed("unable to parse the request");
    let (_, pem) = x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|_| wrong())?;
    let (_, request) = x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents)
        .map_err(|_| wrong())?;
    read(&request.certification_request_info.subject).ok_or_else(wrong)
}

/// Every organisation of the request's subject.
fn organizations(csr_pem: &str) -> Result<Vec<String>, SigningError> {
    of_subject(csr_pem, |subject| {
        subject.iter_organization().map(|name| name.as_str().ok().map(str::to_string)).collect()
    })
}

/// The DER of the request's subject.
fn subject(csr_pem: &str) -> Result<Vec<u8>, SigningError> {
    of_subject(csr_pem, |subject| Some(subject.as_raw().to_vec()))
}

/// Place of the subject in a certificate's content, after version, serial number, algorithm, issuer and
/// validity (RFC 5280, 4.1).
const SUBJECT: usize = 5;

/// The certificate with another subject, signed again by its authority.
fn with_subject(certificate: &[u8], subject: &[u8], key: &KeyPair) -> Option<Vec<u8>> {
    let parts = elements(certificate)?;
    let [content, algorithm, _signature] = parts.as_slice() else { return None };
    let mut fields = elements(content)?;
    *fields.get_mut(SUBJECT)? = subject.to_vec();
    let content = sequence(&fields);
    let signature = key.sign(&content).ok()?;
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&content);
            writer.next().write_der(algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

/// The elements of a DER sequence.
fn elements(der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let read = yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let mut elements = Vec::new();
            while let Some(element) = reader.read_optional(|reader| reader.read_der())? {
                elements.push(element);
            }
            Ok(elements)
        })
    });
    read.ok()
}

fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for element in elements {
                writer.next().write_der(element);
            }
        });
    })
}

fn to_pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_string();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// The node that the subject names.
fn node_of<'a>(common_name: &'a str, organizations: &[String]) -> Result<&'a str, SigningError> {
    let Some(node) = common_name.strip_prefix("system:node:") else {
        return Err(SigningError::refused("subject common name does not begin with system:node: "));
    };
    if organizations != [api::identity::GROUP_NODES] {
        return Err(SigningError::refused("subject organization is not system:nodes"));
    }
    // No other name can be a node's, and what is none could pass for another's elsewhere.
    match api::validation::dns1123_subdomain(node).is_empty() {
        true => Ok(node),
        false => Err(SigningError::refused(format!(
            "subject common name names no node: {node:?} is no DNS subdomain"
        ))),
    }
}

/// Fails unless all of `needed` are there, and of others only those that go with them.
fn check_usages(usages: &[String], needed: &[&str], others: &[&str]) -> Result<(), SigningError> {
    let has = |usage: &str| usages.iter().any(|own| own == usage);
    let known = |usage: &str| needed.contains(&usage) || others.contains(&usage);
    match needed.iter().all(|usage| has(usage)) && usages.iter().all(|own| known(own)) {
        true => Ok(()),
        false => Err(SigningError::refused(format!("invalid usages: {usages:?}"))),
    }
}

/// The authority that signs, if the request is as its signer demands.
fn check<'a>(
    signer_name: &str,
    request: &CertificateSigningRequestParams,
    organizations: &[String],
    usages: &[String],
    signer: &'a Signer,
) -> Result<&'a Authority, SigningError> {
    let common_name = match request.params.distinguished_name.get(&DnType::CommonName) {
        Some(DnValue::Utf8String(name)) => name.clone(),
        Some(DnValue::PrintableString(name)) => name.to_string(),
        _ => String::new(),
    };
    let sans = &request.params.subject_alt_names;
    match signer_name {
        "kubernetes.io/kube-apiserver-client-kubelet" => {
            node_of(&common_name, organizations)?;
            if !sans.is_empty() {
                return Err(SigningError::refused("subjectAltNames are not allowed"));
            }
            check_usages(usages, &["client auth", "digital signature"], &["key encipherment"])?;
            Ok(&signer.pki.client_ca)
        }
        "kubernetes.io/kubelet-serving" => {
            let node = node_of(&common_name, organizations)?;
            let named = |san: &SanType| matches!(san, SanType::DnsName(_) | SanType::IpAddress(_));
            if sans.is_empty() || !sans.iter().all(named) {
                return Err(SigningError::refused(
                    "at least one DNS name or IP address, and nothing else, must be in subjectAltNames",
                ));
            }
            if sans.iter().any(|san| signer.reserves(node, san)) {
                return Err(SigningError::refused(
                    "a name or address in subjectAltNames is the API server's",
                ));
            }
            check_usages(usages, &["server auth", "digital signature"], &["key encipherment"])?;
            Ok(&signer.pki.kubelet_ca)
        }
        "kubernetes.io/kube-apiserver-client" => {
            if organizations.iter().any(|group| group == api::identity::GROUP_MASTERS) {
                return Err(SigningError::refused("use of system:masters as an organization is not allowed"));
            }
            check_usages(usages, &["client auth"], &["digital signature", "key encipherment"])?;
            Ok(&signer.pki.client_ca)
        }
        other => Err(SigningError::refused(format!("{other} is not signed here"))),
    }
}

fn add_usage(params: &mut rcgen::CertificateParams, usage: &str) -> Result<(), SigningError> {
    match usage {
        "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
        "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
        "client auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
        "server auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
        other => return Err(SigningError::refused(format!("invalid usages: {other:?}"))),
    }
    Ok(())
}
