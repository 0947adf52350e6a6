//! The transport alone: bytes over TLS on the loopback interface, nothing around it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cairn_runtime::{RealRuntime, Runtime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::figures::process_cpu_time;

/// Bytes after which the far end answers: a shard.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of one read at the far end.
const READ_BYTES: usize = 64 << 10;
/// Blocks that count.
const BLOCKS: usize = 256;
/// Blocks before, to warm up.
const WARM_BLOCKS: usize = 32;

/// CPU time of both ends for a byte: rustls with AES-128-GCM over TCP.
///
/// # Errors
///
/// When the loopback interface refuses.
pub(super) fn cpu_per_byte() -> Result<f64> {
    RealRuntime::run(|runtime| async move {
        let (mut near, far) = pair().await?;
        let _sink = runtime.spawn("sink", sink(far));
        let mut block = vec![0; BLOCK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut block);
        send(&mut near, &block, WARM_BLOCKS).await?;
        let begun = process_cpu_time();
        send(&mut near, &block, BLOCKS).await?;
        let spent = process_cpu_time().saturating_sub(begun);
        Ok(spent.as_secs_f64() / f64::from(u32::try_from(BLOCK_BYTES * BLOCKS)?))
    })?
}

async fn send<S>(stream: &mut S, block: &[u8], count: usize) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for _ in 0..count {
        stream.write_all(block).await?;
        stream.flush().await?;
        ensure!(stream.read_u8().await? == 1, "the far end answers");
    }
    Ok(())
}

/// Reads blocks and answers each with a byte, until the stream ends.
async fn sink<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut left = BLOCK_BYTES;
        while left > 0 {
            let most = left.min(READ_BYTES);
            let count = stream.read(&mut buffer[..most]).await?;
            if count == 0 {
                return Ok(());
            }
            left -= count;
        }
        stream.write_u8(1).await?;
        stream.flush().await?;
    }
}

/// Both ends of one connection.
async fn pair() -> Result<(
    tokio_rustls::client::TlsStream<TcpStream>,
    tokio_rustls::server::TlsStream<TcpStream>,
)> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
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
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.context("connecting")?, far.context("accepting")?.0);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let name = ServerName::try_from("bench.cairn")?;
    let (near, far) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    Ok((near?, far?))
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
