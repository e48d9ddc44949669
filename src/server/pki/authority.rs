//! A certificate authority: a self-signed certificate, its key, and what it signs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent::keys::{self, KeyError, Pair, PairFiles};
use agent::problem::chain;
use agent::{Problem, files};
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use x509_parser::extensions::GeneralName;

pub(crate) const DAY: i64 = 24 * 3600;
const AUTHORITY_LIFE: i64 = 3650 * DAY;
pub(crate) const LEAF_LIFE: i64 = 365 * DAY;
/// Certificates begin in the past, for clients whose clock is behind, and for when this machine's clock is
/// set back.
pub(super) const BACKDATE: i64 = 30 * DAY;
const BACKDATE_AUTHORITY: i64 = 365 * DAY;
const ASKED_BACKDATE: i64 = 5 * 60;
const SHORT: i64 = 8 * 3600;

/// When a certificate that is made now begins: short-lived ones not long before, for their age says when they
/// are renewed.
pub(super) fn beginning(now: i64, life: i64) -> i64 {
    now - BACKDATE.min(life / 8)
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Server,
    Client,
}

/// The subject of a certificate.
pub(crate) struct Subject<'a> {
    pub(crate) common_name: &'a str,
    /// The group, for clients.
    pub(crate) organization: Option<&'a str>,
    pub(crate) names: &'a [SanType],
    pub(crate) purpose: Purpose,
    /// How long it is good for, in seconds.
    pub(crate) life: i64,
}

pub(crate) struct Authority {
    pub(crate) certificate_pem: String,
    pub(crate) certificate_der: rustls::pki_types::CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// When it was made, in seconds since 1970.
    pub(super) made: i64,
    pub(super) not_after: i64,
}

impl Authority {
    /// Reads `NAME.crt` and `NAME.key`, or makes them if neither is there. Half a pair is not replaced:
    /// everything the cluster has handed out would become worthless without a word.
    pub(crate) fn open(folder: &Path, name: &str, now: i64) -> Result<Self, Problem> {
        let place = PairFiles::in_directory(folder, name);
        let (certificate, key) = (files::read(&place.certificate)?, files::read(&place.key)?);
        let pair = match (certificate, key) {
            (Some(certificate_pem), Some(key_pem)) => Pair { certificate_pem, key_pem },
            // The key is written first: without a certificate it has signed nothing yet.
            (None, _) => {
                let pair = make(name, now).map_err(|error| {
                    Problem::new(format!("make the authority {name}"), chain(&error), "try again")
                })?;
                place.store(&pair)?;
                pair
            }
            (Some(_), None) => {
                let what = format!("use the authority {}", place.certificate.display());
                return Err(Problem::new(what, "its key is missing", RESTORE));
            }
        };
        let broken = |why: &dyn std::fmt::Display| {
            Problem::new(format!("use the authority {}", place.certificate.display()), why, RESTORE)
        };
        let authority = Self::from_pair(&pair).map_err(|error| broken(&chain(&error)))?;
        if authority.not_after <= now {
            return Err(broken(&"it has expired (or the clock is wrong)"));
        }
        if keys::validity(&pair.certificate_pem).is_ok_and(|validity| validity.not_before > now) {
            tracing::warn!(
                name,
                "the clock is behind the time the authority was made: clients will refuse its certificates"
            );
        }
        Ok(authority)
    }

    fn from_pair(pair: &Pair) -> Result<Self, KeyError> {
        let certificate_der = keys::first_certificate(&pair.certificate_pem)?;
        let key = KeyPair::from_pem(&pair.key_pem)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate_der)
            .map_err(|_| KeyError::Certificate("the file".to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(KeyError::Certificate("the file, for its key,".to_string()));
        }
        let made = parsed.validity().not_before.timestamp() + BACKDATE_AUTHORITY;
        let not_after = parsed.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_der(&certificate_der, key)?;
        let certificate_pem = pair.certificate_pem.clone();
        Ok(Authority { certificate_pem, issuer, made, not_after, certificate_der })
    }

    /// A new key and a certificate for it.
    pub(crate) fn issue(&self, subject: &Subject<'_>, now: i64) -> Result<Pair, KeyError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject_name(subject.common_name, subject.organization);
        params.subject_alt_names = subject.names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match subject.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        self.stamp(&mut params, now, subject.life);
        // These are renewed by what is left of their life, not by their age.
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(now - BACKDATE);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Gives a certificate the life that its requester has named, as upstream's signer does: it begins five
    /// minutes ago, and one that is not short-lived ends as much earlier. Who asked compares the two.
    pub(super) fn stamp_asked(&self, params: &mut CertificateParams, now: i64, life: i64) {
        self.stamp(params, now, life);
        let end = if life < SHORT { now + life } else { now + life - ASKED_BACKDATE };
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(now - ASKED_BACKDATE);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds(end.min(self.not_after));
    }

    /// Life, serial number and issuer's key of a certificate to be signed. None outlives the authority.
    pub(super) fn stamp(&self, params: &mut CertificateParams, now: i64, life: i64) {
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(beginning(now, life));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds((now + life).min(self.not_after));
        params.serial_number = Some(random_serial());
        params.use_authority_key_identifier_extension = true;
    }
}

const RESTORE: &str = "restore DATA/server/tls from a backup, or remove the data directory to begin anew";

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn random_serial() -> SerialNumber {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    // Positive, and never all zero.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn subject_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn make(name: &str, now: i64) -> Result<Pair, KeyError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // The time makes the name of each cluster's authority its own: certificates of another are recognised by
    // it.
    params.distinguished_name = subject_name(&format!("minik8s-{name}@{now}"), None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(now - BACKDATE_AUTHORITY);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds(now + AUTHORITY_LIFE);
    params.serial_number = Some(random_serial());
    Ok(Pair { certificate_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
}

/// Names and addresses as texts that can be compared.
pub(super) fn san_set(names: &[SanType]) -> BTreeSet<String> {
    let text = |name: &SanType| match name {
        SanType::DnsName(name) => name.to_string(),
        SanType::IpAddress(address) => address.to_string(),
        other => format!("{other:?}"),
    };
    names.iter().map(text).collect()
}

/// Whether a certificate is this authority's, good from `now` to `until`, and for exactly these names.
pub(super) fn is_current(
    pair: &Pair,
    authority: &Authority,
    names: &BTreeSet<String>,
    now: i64,
    until: i64,
) -> bool {
    let Ok(der) = keys::first_certificate(&pair.certificate_pem) else { return false };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let Ok((_, issuer)) = x509_parser::parse_x509_certificate(&authority.certificate_der) else {
        return false;
    };
    let own: BTreeSet<String> = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().map(general_text).collect(),
        _ => BTreeSet::new(),
    };
    let not_after = parsed.validity().not_after.timestamp();
    // One that was made while the clock was ahead is of no use yet; a new one would begin no earlier than the
    // authority.
    let begins = parsed.validity().not_before.timestamp();
    let has_begun = begins <= now.max(issuer.validity().not_before.timestamp());
    parsed.issuer().as_raw() == issuer.subject().as_raw()
        && own == *names
        && has_begun
        && not_after > until.min(authority.not_after - 1)
}

fn general_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => name.to_string(),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => IpAddr::from(four).to_string(),
            (_, Ok(sixteen)) => IpAddr::from(sixteen).to_string(),
            _ => format!("{bytes:?}"),
        },
        other => format!("{other:?}"),
    }
}
