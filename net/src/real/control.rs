//! Control messages on a libp2p stream: the message, then the end of the stream.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::CONTROL_BYTES_MAX;

/// The protocol's name on libp2p connections.
pub(super) const CONTROL_PROTOCOL: StreamProtocol = StreamProtocol::new("/cairn/control/1");

/// Reads and writes whole messages within [`CONTROL_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ControlCodec;

impl Codec for ControlCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        message: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &message).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        message: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &message).await
    }
}

/// Memory grows as bytes arrive, never ahead of them.
async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let bound = u64::try_from(CONTROL_BYTES_MAX).unwrap_or(u64::MAX);
    io.take(bound.saturating_add(1))
        .read_to_end(&mut message)
        .await?;
    if message.len() > CONTROL_BYTES_MAX {
        let text = format!("expected at most {CONTROL_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(message)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &[u8]) -> io::Result<()> {
    io.write_all(message).await?;
    io.close().await
}
