//! Direct TLS 1.3 connections whose certificates carry the libp2p identity.
//!
//! The certificate is that of the libp2p TLS specification: self-signed, with an extension that
//! holds the identity's public key and its signature over the certificate's key. Both ends show
//! one. Ours is not libp2p's configuration but our own with the same checks, because libp2p's
//! prefers `ChaCha20` and a provider whose AES-GCM costs 1.8 times that of ring on this path.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use cairn_core::NodeId;
use libp2p::identity::Keypair;
use libp2p_tls::certificate;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider, sign};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, NoKeyLog,
    ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::identity;

/// Our protocol on the TLS connection, with its version.
const ALPN: &[u8] = b"cairn/data/1";

/// A TLS stream of either end.
pub(super) type DataTls = TlsStream<TcpStream>;

/// Both ends' TLS configuration. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// The one certificate that we show, whatever is asked for.
#[derive(Debug)]
struct OurCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for OurCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OurCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Tls {
    /// With a fresh certificate for `keypair`.
    pub(super) fn new(keypair: &Keypair) -> Result<Self, String> {
        let (certificate, key) = certificate::generate(keypair).map_err(|e| e.to_string())?;
        let key = sign::any_supported_type(&key).map_err(|e| e.to_string())?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
        let provider = Arc::new(provider());
        let versions = &[&rustls::version::TLS13];

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Libp2pIdentity))
            .with_client_cert_resolver(Arc::new(OurCertificate(Arc::clone(&certified))));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.key_log = Arc::new(NoKeyLog);

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|e| e.to_string())?
            .with_client_cert_verifier(Arc::new(Libp2pIdentity))
            .with_cert_resolver(Arc::new(OurCertificate(certified)));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.key_log = Arc::new(NoKeyLog);

        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Connects to `peer` at `address`; an error of kind `PermissionDenied` when someone else
    /// answers there.
    pub(super) async fn connect(&self, peer: NodeId, address: SocketAddr) -> io::Result<DataTls> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream = self.connector.connect(session_name(peer), tcp).await?;
        let found = stream.get_ref().1.peer_certificates().and_then(peer_of);
        if found != Some(peer) {
            let text = format!("expected peer {peer}, another answers at {address}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(TlsStream::Client(stream))
    }

    /// Accepts a connection and says whose it is.
    pub(super) async fn accept(&self, tcp: TcpStream) -> io::Result<(NodeId, DataTls)> {
        tcp.set_nodelay(true)?;
        let stream = self.acceptor.accept(tcp).await?;
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(peer_of)
            .ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
        Ok((peer, TlsStream::Server(stream)))
    }
}

/// ring's ciphers: AES-GCM first where the processor has it, `ChaCha20` elsewhere.
fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes() {
        provider.cipher_suites.rotate_right(1);
    }
    provider
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const fn has_aes() -> bool {
    false
}

/// The name that sessions with `peer` are kept under for resumption: one for each peer, never
/// sent.
fn session_name(peer: NodeId) -> ServerName<'static> {
    let hex = peer.to_string();
    let (first, second) = hex.split_at(hex.len() / 2);
    ServerName::try_from(format!("{first}.{second}.cairn"))
        .expect("two labels of 32 hex digits are a name")
}

/// The node that a checked certificate belongs to.
fn peer_of(certificates: &[CertificateDer<'_>]) -> Option<NodeId> {
    let [certificate] = certificates else {
        return None;
    };
    let parsed = certificate::parse(certificate).ok()?;
    identity::node_id(&parsed.peer_id())
}

/// Accepts any certificate that carries an Ed25519 libp2p identity as its specification demands;
/// whose it is, is compared after the handshake.
#[derive(Debug)]
struct Libp2pIdentity;

impl Libp2pIdentity {
    fn check(certificate: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let refused = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        if !more.is_empty() {
            return Err(refused);
        }
        match peer_of(std::slice::from_ref(certificate)) {
            Some(_) => Ok(()),
            None => Err(refused),
        }
    }

    fn check_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = certificate::parse(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        parsed
            .verify_signature(signed.scheme, message, signed.signature())
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadSignature))?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// What certificates of libp2p implementations are signed with.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
        ]
    }
}

impl ServerCertVerifier for Libp2pIdentity {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check(certificate, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Libp2pIdentity {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check(certificate, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
