//! A gate in front of Postgres and of a provider: it lets so many pieces of their answers through and holds the rest, so
//! that a call can be stopped exactly where it waits for each of them.

use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// One message of Postgres' protocol: a byte, a length that counts itself, the rest.
    OfPostgres,
    /// This many bytes.
    OfProvider(usize),
}

#[derive(Default)]
struct State {
    left: usize,
    held: Option<Pieces>,
    /// Connections made before this one are cut.
    cut: usize,
    connections: usize,
}

/// See the file's description.
pub struct Gate(watch::Sender<State>);

impl Gate {
    /// An open gate.
    pub fn new() -> Arc<Self> {
        let gate = Self(watch::Sender::new(State::default()));
        gate.open();
        Arc::new(gate)
    }

    /// Lets everything through, from now on.
    pub fn open(&self) {
        self.close_after(usize::MAX);
    }

    /// Lets so many pieces through, and holds what follows.
    pub fn close_after(&self, pieces: usize) {
        self.0.send_modify(|state| (state.left, state.held) = (pieces, None));
    }

    /// Breaks every connection, and loses what is held; the gate is open for new ones.
    pub fn cut(&self) {
        self.0.send_modify(|state| state.cut = state.connections);
        self.open();
    }

    /// Waits until something is held, and says what.
    pub async fn holds(&self) -> Pieces {
        let mut state = self.0.subscribe();
        let held = state.wait_for(|state| state.held.is_some()).await.unwrap().held;
        held.unwrap()
    }

    /// Waits until the next piece may pass; `false` if the connection is cut.
    async fn pass(&self, connection: usize, pieces: Pieces) -> bool {
        let mut state = self.0.subscribe();
        loop {
            let mut passed = false;
            self.0.send_if_modified(|state| {
                passed = state.left > 0;
                if passed {
                    state.left -= 1;
                } else {
                    state.held = Some(pieces);
                }
                !passed
            });
            if passed {
                return true;
            }
            let next = state.wait_for(|state| state.left > 0 || state.cut >= connection).await.unwrap();
            if next.cut >= connection {
                return false;
            }
        }
    }

    /// A port that leads through the gate to `target`.
    pub async fn before(self: &Arc<Self>, target: SocketAddr, pieces: Pieces) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (far, gate) = (TcpStream::connect(target).await.unwrap(), Arc::clone(&gate));
                let mut number = 0;
                gate.0.send_modify(|state| {
                    state.connections += 1;
                    number = state.connections;
                });
                tokio::spawn(async move {
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = gate.answers(number, from_far, to_near, pieces) => {}
                        () = questions(from_near, to_far) => {}
                        () = gate.is_cut(number) => {}
                    }
                });
            }
        });
        port
    }

    async fn is_cut(&self, connection: usize) {
        self.0.subscribe().wait_for(|state| state.cut >= connection).await.unwrap();
    }

    async fn answers(&self, connection: usize, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pieces: Pieces) {
        loop {
            let piece = match pieces {
                Pieces::OfPostgres => message(&mut from).await,
                Pieces::OfProvider(most) => {
                    let mut bytes = vec![0; most];
                    from.read(&mut bytes).await.ok().filter(|n| *n > 0).map(|n| bytes[..n].to_vec())
                }
            };
            let Some(piece) = piece else { return };
            if !self.pass(connection, pieces).await || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    }
}

async fn message(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize;
    message.resize(length + 1, 0);
    from.read_exact(&mut message[5..]).await.ok()?;
    Some(message)
}

/// Questions go through at once. Their end is passed on, and the answer may still come.
async fn questions(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    if tokio::io::copy(&mut from, &mut to).await.is_ok() {
        drop(to.shutdown().await);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
