//! Control messages on a libp2p stream: the message, then the end of the stream.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::CONTROL_BYTES_MAX;

/// The protocol's name on libp2p connections.
pub(super) const CONTROL_PROTOCOL: StreamProtocol = StreamProtocol::new("/cairn/control/1");

/// Memory of all requests that peers have sent and that are not answered: 64 of the largest, or
/// thousands of the usual size. Requests beyond end with their stream.
const REQUEST_MEMORY_BYTES: usize = 64 << 20;
/// Bytes read, and memory taken, at a time: most requests fit the first.
const STEP_BYTES: usize = 16 << 10;

/// Reads and writes whole messages within [`CONTROL_BYTES_MAX`].
#[derive(Clone, Debug)]
pub(super) struct ControlCodec {
    /// Steps of memory that are free.
    memory: Arc<Semaphore>,
}

/// A request with the memory that it takes, which is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Vec<u8>,
    pub(super) memory: Option<OwnedSemaphorePermit>,
}

impl ControlCodec {
    pub(super) fn new() -> Self {
        Self {
            memory: Arc::new(Semaphore::new(REQUEST_MEMORY_BYTES / STEP_BYTES)),
        }
    }

    fn take_step(&self) -> io::Result<OwnedSemaphorePermit> {
        let step = Arc::clone(&self.memory).try_acquire_owned();
        step.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
    }
}

impl Codec for ControlCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut memory = self.take_step()?;
        let mut message = Vec::new();
        loop {
            let step = read_step(io, &mut message).await?;
            if step < STEP_BYTES {
                let memory = Some(memory);
                return Ok(Request { message, memory });
            }
            memory.merge(self.take_step()?);
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut message = Vec::new();
        while read_step(io, &mut message).await? == STEP_BYTES {}
        Ok(message)
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request.message).await
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

/// Appends at most [`STEP_BYTES`]; fewer at the end of the stream. Memory grows as bytes arrive.
async fn read_step<T>(io: &mut T, message: &mut Vec<u8>) -> io::Result<usize>
where
    T: AsyncRead + Unpin + Send,
{
    let step = u64::try_from(STEP_BYTES).unwrap_or(u64::MAX);
    let count = io.take(step).read_to_end(message).await?;
    if message.len() > CONTROL_BYTES_MAX {
        let text = format!("expected at most {CONTROL_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(count)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &[u8]) -> io::Result<()> {
    io.write_all(message).await?;
    io.close().await
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    /// Around a step and around the bound.
    const SIZES: [usize; 6] = [
        0,
        STEP_BYTES - 1,
        STEP_BYTES,
        STEP_BYTES + 1,
        CONTROL_BYTES_MAX - 1,
        CONTROL_BYTES_MAX,
    ];

    async fn request(codec: &mut ControlCodec, message: &[u8]) -> io::Result<Request> {
        let mut stream = Cursor::new(message);
        codec.read_request(&CONTROL_PROTOCOL, &mut stream).await
    }

    #[tokio::test]
    async fn messages_of_every_size_are_read_whole() {
        let mut codec = ControlCodec::new();
        for bytes in SIZES {
            let message = vec![7; bytes];
            let read = request(&mut codec, &message).await.unwrap();
            assert!(read.message == message);
            let mut stream = Cursor::new(&message);
            let read = codec.read_response(&CONTROL_PROTOCOL, &mut stream).await;
            assert!(read.unwrap() == message);
        }
        let over = vec![7; CONTROL_BYTES_MAX + 1];
        assert!(request(&mut codec, &over).await.is_err());
        let free = codec.memory.available_permits();
        assert_eq!(free, REQUEST_MEMORY_BYTES / STEP_BYTES);
    }

    #[tokio::test]
    async fn requests_share_bounded_memory() {
        let mut codec = ControlCodec::new();
        let message = vec![7; CONTROL_BYTES_MAX];
        let mut held = Vec::new();
        let refused = loop {
            match request(&mut codec, &message).await {
                Ok(request) => held.push(request),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        // Each takes whole steps.
        let most = REQUEST_MEMORY_BYTES / CONTROL_BYTES_MAX;
        assert!((most - 4..=most).contains(&held.len()), "{}", held.len());
        held.pop();
        assert!(request(&mut codec, &message).await.is_ok());
    }
}
