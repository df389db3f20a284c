//! Who may be a peer: mutual TLS 1.3, and names taken from certificates.
//!
//! A node's certificate carries one URI `meridian://<database>/<region>/<node>`. Whoever shows a
//! certificate of our authority with our database and the name or number of a configured region is
//! that region ([`Verified`]); nothing that a peer says later is believed about it. No DNS name is
//! needed, and none is looked at. Sessions are never resumed, for a resumed one would show the
//! certificate of the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crdt::Region;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What both sides must speak: the protocol above QUIC, and its version.
const ALPN: &[u8] = b"meridian-geo/1";
const SCHEME: &str = "meridian://";
const CERTIFICATES_MAX: usize = 64;

/// Why a node's certificates cannot be used. Each is for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {what} {path}: {error}", path = path.display())]
    Read {
        /// What it is for.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        error: std::io::Error,
    },
    /// There is no PEM in it, or not of the kind that is needed.
    #[error("{what} holds no usable PEM: {error}")]
    Pem {
        /// What was read.
        what: String,
        /// What is wrong with it.
        error: String,
    },
    /// The private key is not the certificate's, or of an unknown kind.
    #[error("the private key does not fit the certificate: {0}")]
    Key(rustls::Error),
    /// Our own certificate is not one that a peer would take.
    #[error("our certificate cannot be used: {0}")]
    Own(CertificateProblem),
    /// The certificate names another region than the configuration.
    #[error("our certificate is of region {theirs}, the configuration says {ours}")]
    OtherRegion {
        /// What the configuration says.
        ours: Region,
        /// What the certificate says.
        theirs: Region,
    },
    /// The cryptography that is built in cannot do TLS 1.3 for QUIC.
    #[error("no TLS 1.3 for QUIC: {0}")]
    Provider(String),
}

/// Why a certificate does not make somebody a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// Its chain does not lead to our authority, or a date, a use or a signature in it is wrong.
    #[error("the certificate is not valid: {0}")]
    Chain(String),
    /// It does not carry exactly one name of the form that we need.
    #[error("the certificate carries no single name meridian://<database>/<region>/<node>")]
    Nameless,
    /// It belongs to another database.
    #[error("the certificate is of database {theirs:?}, ours is {ours:?}")]
    OtherDatabase {
        /// Our database.
        ours: String,
        /// What the certificate says.
        theirs: String,
    },
    /// It belongs to a region that is not configured here.
    #[error("the certificate is of region {0:?}, which is not configured here")]
    UnknownRegion(String),
    /// Another region answers at the address of the one that was called.
    #[error("region {found} answers at the address of region {expected}")]
    Unexpected {
        /// Whom we called.
        expected: Region,
        /// Who answered.
        found: Region,
    },
}

impl From<CertificateProblem> for rustls::Error {
    fn from(problem: CertificateProblem) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
    }
}

/// A node's certificate chain, its key, and the authority that it trusts.
#[derive(Clone, Debug)]
pub struct Credentials {
    authorities: Vec<CertificateDer<'static>>,
    key: Arc<CertifiedKey>,
}

impl Credentials {
    /// Reads three PEM files: the authority's certificates, the node's chain, its private key.
    pub fn load(authority: &Path, chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |what, path: &Path| {
            std::fs::read(path).map_err(|error| TlsError::Read {
                what,
                path: path.to_owned(),
                error,
            })
        };
        let named = |what: &str, path: &Path| format!("{what} {}", path.display());
        Self::parse(
            (
                &named("the authority", authority),
                &read("the authority", authority)?,
            ),
            (
                &named("the certificate", chain),
                &read("the certificate", chain)?,
            ),
            (
                &named("the private key", key),
                &read("the private key", key)?,
            ),
        )
    }

    /// The same from PEM in memory.
    pub fn from_pem(authority: &[u8], chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::parse(
            ("the authority", authority),
            ("the certificate", chain),
            ("the private key", key),
        )
    }

    fn parse(
        authority: (&str, &[u8]),
        chain: (&str, &[u8]),
        key: (&str, &[u8]),
    ) -> Result<Self, TlsError> {
        let authorities = certificates(authority.0, authority.1)?;
        let chain = certificates(chain.0, chain.1)?;
        let key = PrivateKeyDer::from_pem_slice(key.1).map_err(|error| bad_pem(key.0, &error))?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Key)?;
        Ok(Self {
            authorities,
            key: Arc::new(key),
        })
    }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .take(CERTIFICATES_MAX)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_pem(what, &error))?;
    if found.is_empty() {
        return Err(bad_pem(what, &pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn bad_pem(what: &str, error: &pem::Error) -> TlsError {
    TlsError::Pem {
        what: what.to_owned(),
        error: error.to_string(),
    }
}

/// The one place that names the cryptography.
fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// A node, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The region that it speaks for.
    pub region: Region,
    /// Its name within the region.
    pub node: String,
}

/// Something that came out of a certificate which our authority vouches for. Only this module makes
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

/// Which database we are, and which regions it has.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The database's name.
    pub database: String,
    /// The regions by name, ours among them. A certificate may carry the name or the number.
    pub regions: BTreeMap<String, Region>,
}

impl Directory {
    /// The node that a certificate names, without a look at who signed it.
    fn identify(&self, certificate: &EndEntityCert<'_>) -> Result<Peer, CertificateProblem> {
        let mut names = certificate
            .valid_uri_names()
            .filter_map(|uri| uri.strip_prefix(SCHEME));
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(CertificateProblem::Nameless);
        };
        let mut parts = name.split('/');
        let (Some(database), Some(region), Some(node), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CertificateProblem::Nameless);
        };
        if node.is_empty() {
            return Err(CertificateProblem::Nameless);
        }
        if database != self.database {
            let (ours, theirs) = (self.database.clone(), database.to_owned());
            return Err(CertificateProblem::OtherDatabase { ours, theirs });
        }
        let region = self
            .find(region)
            .ok_or_else(|| CertificateProblem::UnknownRegion(region.to_owned()))?;
        Ok(Peer {
            region,
            node: node.to_owned(),
        })
    }

    fn find(&self, region: &str) -> Option<Region> {
        let by_number = || {
            let number = Region::new(region.parse().ok()?)?;
            self.regions
                .values()
                .find(|known| **known == number)
                .copied()
        };
        self.regions.get(region).copied().or_else(by_number)
    }
}

/// Holds certificates against our authority and our directory, in both roles.
#[derive(Clone, Debug)]
struct Verifier {
    anchors: Arc<[TrustAnchor<'static>]>,
    provider: Arc<CryptoProvider>,
    directory: Arc<RwLock<Directory>>,
    /// Whom we have called; `None` for those who call us.
    expected: Option<Region>,
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<Peer, CertificateProblem> {
        let invalid = |error: webpki::Error| CertificateProblem::Chain(error.to_string());
        let certificate = EndEntityCert::try_from(certificate).map_err(invalid)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        certificate
            .verify_for_usage(
                algorithms,
                &self.anchors,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(invalid)?;
        let peer = self.identify(&certificate)?;
        match self.expected {
            Some(expected) if expected != peer.region => Err(CertificateProblem::Unexpected {
                expected,
                found: peer.region,
            }),
            _ => Ok(peer),
        }
    }

    fn identify(&self, certificate: &EndEntityCert<'_>) -> Result<Peer, CertificateProblem> {
        let directory = self.directory.read();
        let directory = directory.unwrap_or_else(PoisonError::into_inner);
        directory.identify(certificate)
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Only TLS 1.3 is offered, so nothing comes here.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General(
        "TLS 1.2 is not spoken here".to_owned(),
    ))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// One node's view of TLS: makes the configurations of both roles, and reads who the other is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    verifier: Verifier,
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Checks that `credentials` would be taken by a peer: signed by the authority, valid today,
    /// of the database and of region `own`.
    pub(super) fn new(
        credentials: &Credentials,
        directory: Directory,
        own: Region,
    ) -> Result<Self, TlsError> {
        let anchors = credentials
            .authorities
            .iter()
            .map(|authority| anchor_from_trusted_cert(authority).map(|anchor| anchor.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|error| bad_authority(&error))?;
        let verifier = Verifier {
            anchors,
            provider: Arc::new(provider()),
            directory: Arc::new(RwLock::new(directory)),
            expected: None,
        };
        let (certificate, intermediates) = credentials
            .key
            .cert
            .split_first()
            .ok_or(TlsError::Own(CertificateProblem::Nameless))?;
        for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
            let found = verifier
                .verify(certificate, intermediates, UnixTime::now(), usage)
                .map_err(TlsError::Own)?;
            if found.region != own {
                return Err(TlsError::OtherRegion {
                    ours: own,
                    theirs: found.region,
                });
            }
        }
        Ok(Self {
            verifier,
            key: Arc::clone(&credentials.key),
        })
    }

    /// How to answer those who call.
    pub(super) fn server(&self) -> Result<QuicServerConfig, TlsError> {
        let provider = Arc::clone(&self.verifier.provider);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsError::Provider(error.to_string()))?
            .with_client_cert_verifier(Arc::new(self.verifier.clone()))
            .with_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.try_into().map_err(|error| no_suite(&error))
    }

    /// How to call region `expected`.
    pub(super) fn client(&self, expected: Region) -> Result<QuicClientConfig, TlsError> {
        let verifier = Verifier {
            expected: Some(expected),
            ..self.verifier.clone()
        };
        let provider = Arc::clone(&self.verifier.provider);
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsError::Provider(error.to_string()))?
            .dangerous() // In rustls' words; our verifier asks for more than the usual one.
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.try_into().map_err(|error| no_suite(&error))
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.key)))
    }

    /// Who is at the other end of a connection whose handshake is complete, and so was verified.
    pub(super) fn peer(
        &self,
        connection: &quinn::Connection,
    ) -> Result<Verified<Peer>, CertificateProblem> {
        let chain = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
            .ok_or(CertificateProblem::Nameless)?;
        let certificate = chain.first().ok_or(CertificateProblem::Nameless)?;
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|error| CertificateProblem::Chain(error.to_string()))?;
        self.verifier.identify(&certificate).map(Verified)
    }

    /// Who shows a certificate with this name is that region from now on, unless the name has one.
    pub(super) fn name(&self, region: Region, name: &str) {
        let directory = self.verifier.directory.write();
        let mut directory = directory.unwrap_or_else(PoisonError::into_inner);
        directory.regions.entry(name.to_owned()).or_insert(region);
    }
}

fn bad_authority(error: &webpki::Error) -> TlsError {
    TlsError::Pem {
        what: "the authority".to_owned(),
        error: error.to_string(),
    }
}

fn no_suite(error: &quinn::crypto::rustls::NoInitialCipherSuite) -> TlsError {
    TlsError::Provider(error.to_string())
}
