//! The stacks to compare with: bytes over TCP, and over TLS with nothing around it.

use std::sync::Arc;

use anyhow::{Context, Result};
use cairn_runtime::{RealRuntime, Runtime, Task};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, SupportedCipherSuite,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The cipher of a TLS stack.
#[derive(Clone, Copy)]
pub(super) enum Suite {
    Aes128,
    Aes256,
    ChaCha20,
}

impl Suite {
    const fn rustls(self) -> SupportedCipherSuite {
        match self {
            Self::Aes128 => cipher_suite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256 => cipher_suite::TLS13_AES_256_GCM_SHA384,
            Self::ChaCha20 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }
}

/// A stream whose other end reads everything and sends one byte for every so many.
pub(super) struct Plain {
    stream: Box<dyn Both>,
    _sink: Task<std::io::Result<()>>,
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

impl Plain {
    pub(super) async fn tcp(runtime: &RealRuntime) -> Result<Self> {
        let (near, far) = tcp_pair().await?;
        Ok(Self {
            stream: Box::new(near),
            _sink: runtime.spawn("sink", sink(far)),
        })
    }

    pub(super) async fn tls(runtime: &RealRuntime, suite: Suite) -> Result<Self> {
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite.rustls()];
        let provider = Arc::new(provider);
        let versions = &[&rustls::version::TLS13];
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_no_client_auth();
        let made = rcgen::generate_simple_self_signed(["bench.cairn".to_owned()])?;
        let certificate = CertificateDer::from(made.cert);
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::from(key))?;
        let (near, far) = tcp_pair().await?;
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("bench.cairn")?;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (near, far) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        Ok(Self {
            stream: Box::new(near?),
            _sink: runtime.spawn("sink", sink(far?)),
        })
    }

    /// Sends `block` so many times, and waits until the other end has read it all.
    pub(super) async fn send(&mut self, block: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.stream.write_all(block).await?;
            self.stream.flush().await?;
            let byte = self.stream.read_u8().await?;
            anyhow::ensure!(byte == 1, "the sink answers");
        }
        Ok(())
    }
}

/// Reads blocks, each whole into one buffer as a shard must be, and answers each with a byte.
async fn sink<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<()> {
    let mut buffer = vec![0; super::SHARD_BYTES];
    loop {
        let mut left = super::SHARD_BYTES;
        while left > 0 {
            let from = super::SHARD_BYTES - left;
            let count = stream.read(&mut buffer[from..]).await?;
            if count == 0 {
                return Ok(());
            }
            left -= count;
        }
        stream.write_u8(1).await?;
        stream.flush().await?;
    }
}

async fn tcp_pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.context("connecting")?, far.context("accepting")?.0);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// The certificate is not what is measured.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
