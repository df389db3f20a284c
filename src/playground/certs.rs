//! Certificates of a playground: an authority, and one certificate a node that says who it is.
//!
//! They are made anew at each start: nothing that lasts depends on them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A name cannot stand in a certificate, or there is no randomness.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// The folder cannot be written.
    #[error("cannot write a certificate")]
    Write(#[from] io::Error),
}

/// Signs the certificates of one database.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub(super) fn new() -> Result<Self, CertError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "meridian playground");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` for a node whose URI is given, such as
    /// `meridian://shop/us-east/us-east-1`.
    pub(super) fn write(&self, folder: &Path, uri: &str, node: &str) -> Result<(), CertError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, node);
        params.subject_alt_names = vec![
            SanType::URI(uri.try_into()?),
            SanType::DnsName("meridian".try_into()?),
            SanType::DnsName("localhost".try_into()?),
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        ];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node dials as well as it is dialled.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(folder.join("ca.pem"), self.issuer.pem())?;
        fs::write(folder.join("cert.pem"), certificate.pem())?;
        write_secret(&folder.join("key.pem"), &key.serialize_pem())?;
        Ok(())
    }
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}
