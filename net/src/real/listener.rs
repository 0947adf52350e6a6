//! The direct data plane's listener: TCP, TLS handshakes under bounds, then the gate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cairn_runtime::{RealRuntime, Runtime};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::config::RealLimits;
use super::gate::{Gate, RealStream};
use super::tls::{DataTls, Tls};

/// Pause after the system refused to accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes that a refused peer may still send before we close on it.
const REFUSED_BYTES_MAX: u64 = 64 << 10;

/// Accepts connections until it is dropped.
pub(super) struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) tls: Tls,
    pub(super) gate: Gate,
    pub(super) limits: RealLimits,
    pub(super) runtime: RealRuntime,
}

impl Listener {
    /// Accepts connections. At the bound of handshakes, new ones wait in the kernel; an address
    /// that has half of them is turned away.
    pub(super) async fn run(self) {
        let mut handshakes: FuturesUnordered<BoxFuture<'static, IpAddr>> = FuturesUnordered::new();
        let mut by_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
        loop {
            let room = handshakes.len() < self.limits.handshakes_max;
            tokio::select! {
                Some(address) = handshakes.next() => release(&mut by_address, address),
                accepted = self.tcp.accept(), if room => match accepted {
                    Ok((tcp, from)) => {
                        let address = from.ip();
                        let count = by_address.entry(address).or_insert(0);
                        if *count < self.limits.handshakes_max.div_ceil(2) {
                            *count += 1;
                            handshakes.push(self.handshake(tcp, address));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "can't accept a connection");
                        self.runtime.sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// One connection's handshake and admission; returns its address when it is over.
    fn handshake(&self, tcp: TcpStream, address: IpAddr) -> BoxFuture<'static, IpAddr> {
        let tls = self.tls.clone();
        let gate = self.gate.clone();
        let runtime = self.runtime.clone();
        let limit = self.limits.handshake_time_max;
        Box::pin(async move {
            let admission = async {
                match tls.accept(tcp).await {
                    Ok((peer, stream)) => match gate.admit(peer) {
                        Some(admission) => {
                            admission.enter(|place| RealStream::tls(stream, place));
                        }
                        None => refuse(stream).await,
                    },
                    Err(error) => tracing::debug!(%address, %error, "handshake failed"),
                }
            };
            if runtime.timeout(limit, admission).await.is_err() {
                tracing::debug!(%address, "handshake not done in time");
            }
            address
        })
    }
}

/// Tells the peer that it is over a bound. What it sends meanwhile is read, so that the system
/// does not reset the connection under the answer.
async fn refuse(mut stream: DataTls) {
    let told = async {
        stream.write_all(&crate::data::refusal()).await?;
        stream.shutdown().await
    };
    if told.await.is_ok() {
        let mut rest = stream.take(REFUSED_BYTES_MAX);
        // Its end or its failure are the same to us.
        let _ended = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}

fn release(by_address: &mut BTreeMap<IpAddr, usize>, address: IpAddr) {
    let left = by_address.get(&address).map_or(0, |count| count - 1);
    if left == 0 {
        by_address.remove(&address);
    } else {
        by_address.insert(address, left);
    }
}
