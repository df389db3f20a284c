//! Authorities and certificates for tests.

use std::collections::BTreeMap;

use crdt::Region;
use geo::net::{Credentials, Directory};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};

/// Signs the certificates of one database.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// PEM of a certificate and its key.
pub(super) struct Pem {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with these URIs, valid until the year given.
    pub(super) fn issue(&self, uris: &[&str], until: i32) -> Pem {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names = names.collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pem {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// What a node of database `db` in this region shows and trusts.
    pub(super) fn node(&self, region: &str) -> Credentials {
        self.credentials(&[&format!("meridian://db/{region}/node-1")])
    }

    pub(super) fn credentials(&self, uris: &[&str]) -> Credentials {
        let pem = self.issue(uris, 2100);
        Credentials::from_pem(
            self.pem().as_bytes(),
            pem.chain.as_bytes(),
            pem.key.as_bytes(),
        )
        .unwrap()
    }
}

pub(super) fn region(id: u8) -> Region {
    Region::new(id).unwrap()
}

/// Regions `eu` (1), `us` (2) and `ap` (3) of this database.
pub(super) fn directory(database: &str) -> Directory {
    let names = ["eu", "us", "ap"].into_iter().map(str::to_owned);
    let regions: BTreeMap<_, _> = names.zip((1..).map(region)).collect();
    Directory {
        database: database.to_owned(),
        regions,
    }
}
