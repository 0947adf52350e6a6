//! A TCP connection between two processes under test, that can be cut and mended.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Bytes copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// Accepts connections for a process and carries their bytes to it, while it is whole. Ends when it
/// is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: WireState,
    /// Both ends of what is open, to close them.
    streams: Vec<TcpStream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WireState {
    Whole,
    Cut,
    Ended,
}

impl Wire {
    /// A wire to whoever listens at `target`.
    ///
    /// # Panics
    ///
    /// When the machine has no free port.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Mutex::new(Shared {
            state: WireState::Whole,
            streams: Vec::new(),
        }));
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, target, &shared))
        };
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Where to connect instead of the target.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes what is open and takes no more.
    pub fn cut(&self) {
        self.become_state(WireState::Cut);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.become_state(WireState::Whole);
    }

    fn become_state(&self, state: WireState) {
        let mut shared = lock(&self.shared);
        shared.state = state;
        if state == WireState::Whole {
            return;
        }
        for stream in shared.streams.drain(..) {
            // One that its process closed already is what is wanted.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.become_state(WireState::Ended);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no holder panics")
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Mutex<Shared>) {
    let mut copying = Vec::new();
    while let Ok((from, _)) = listener.accept() {
        let mut held = lock(shared);
        match held.state {
            WireState::Ended => break,
            WireState::Cut => continue,
            WireState::Whole => {}
        }
        // A target that is down is as good as a cut wire.
        let Ok(to) = TcpStream::connect(target) else {
            continue;
        };
        let copies = (
            from.try_clone(),
            to.try_clone(),
            from.try_clone(),
            to.try_clone(),
        );
        let (Ok(from_copy), Ok(to_copy), Ok(kept_from), Ok(kept_to)) = copies else {
            continue;
        };
        held.streams.extend([kept_from, kept_to]);
        drop(held);
        copying.push(std::thread::spawn(move || copy(from, to)));
        copying.push(std::thread::spawn(move || copy(to_copy, from_copy)));
    }
    for task in copying {
        drop(task.join());
    }
}

/// Copies until either end closes, then closes both.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = vec![0; COPY_BYTES];
    let mut step = || -> io::Result<usize> {
        let count = from.read(&mut bytes)?;
        to.write_all(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    };
    while step().is_ok_and(|count| count > 0) {}
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_wire_carries_nothing_and_a_mended_one_does() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Wire::to(target.local_addr().unwrap());
        let mut near = TcpStream::connect(wire.address()).unwrap();
        let (mut far, _) = target.accept().unwrap();
        near.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        wire.cut();
        assert_eq!(far.read(&mut bytes).unwrap_or(0), 0, "closed");
        let mut refused = TcpStream::connect(wire.address()).unwrap();
        assert_eq!(refused.read(&mut bytes).unwrap_or(0), 0, "not carried on");
        wire.mend();
        let mut near = TcpStream::connect(wire.address()).unwrap();
        let (mut far, _) = target.accept().unwrap();
        far.write_all(b"again").unwrap();
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"again");
    }
}
