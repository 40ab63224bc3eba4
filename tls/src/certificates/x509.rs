//! What is read of a certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, DnsName};
use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};

/// RFC 5280, 4.2.1.12: id-kp-serverAuth and anyExtendedKeyUsage.
const FOR_SERVERS: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
];

/// What a server must know of a certificate. Its signature is the clients' affair.
#[derive(Debug)]
pub(super) struct Facts {
    /// In DER form.
    pub(super) public_key: Vec<u8>,
    /// The first and the last second, since the Unix epoch.
    pub(super) valid_from: Duration,
    pub(super) expires_at: Duration,
    pub(super) is_authority: bool,
    pub(super) is_for_servers: bool,
    /// DNS names and IP addresses, in lower case, in the certificate's order.
    pub(super) names: Vec<String>,
}

impl Facts {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> der::Result<Facts> {
        let certificate = Certificate::from_der(certificate)?.tbs_certificate;
        let constraints = certificate.get::<BasicConstraints>()?;
        let usage = certificate.get::<ExtendedKeyUsage>()?;
        let names = certificate.get::<SubjectAltName>()?;
        Ok(Facts {
            public_key: certificate.subject_public_key_info.to_der()?,
            valid_from: certificate.validity.not_before.to_unix_duration(),
            expires_at: certificate.validity.not_after.to_unix_duration(),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            is_for_servers: usage
                .is_none_or(|(_, usage)| usage.0.iter().any(|use_| FOR_SERVERS.contains(use_))),
            names: names.map_or_else(Vec::new, |(_, names)| {
                names.0.iter().filter_map(name).collect()
            }),
        })
    }
}

/// Returns `None` if it is neither a DNS name nor an address: no client can ask for it.
fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => {
            let (wildcard, host) = match name.as_str().strip_prefix("*.") {
                Some(parent) => ("*.", parent),
                None => ("", name.as_str()),
            };
            let host = DnsName::try_from(host).ok()?;
            Some(format!("{wildcard}{}", host.as_ref().to_ascii_lowercase()))
        }
        GeneralName::IpAddress(address) => address_of(address.as_bytes()).map(|it| it.to_string()),
        _ => None,
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(v6)))
}
