//! A proxy in front of PostgreSQL that can hang up at a chosen statement of a call: before the server hears
//! of it, or after the server has answered and before the client hears that.
//! Source: PostgreSQL's documentation, chapter "Frontend/Backend Protocol".

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// When to hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server does not hear of the statement.
    Before,
    /// The server has done it; the client does not hear so.
    After,
}

#[derive(Default)]
struct State {
    /// So many statements from now, and how.
    armed: Option<(u32, Cut)>,
    /// The server's process behind the connection that was cut.
    victim: Option<i32>,
}

/// The proxy; it listens until dropped.
pub(crate) struct PgProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PgProxy {
    pub(crate) async fn start(server: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, shared) = (server.clone(), shared.clone());
                tokio::spawn(async move {
                    // One that ends badly ends for both sides.
                    let _ = carry(client, &server, shared).await;
                });
            }
        });
        Ok(Self {
            address,
            state,
            task,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hangs up at the `nth` statement from now (1 is the next).
    pub(crate) fn arm(&self, nth: u32, cut: Cut) {
        lock(&self.state).armed = Some((nth, cut));
    }

    /// Does not hang up any more; the server's process, if it has.
    pub(crate) fn disarm(&self) -> Option<i32> {
        let mut state = lock(&self.state);
        state.armed = None;
        state.victim.take()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the two directions of a connection share.
#[derive(Default)]
struct Shared {
    process: AtomicI32,
    swallow: AtomicBool,
    over: Notify,
}

async fn carry(client: TcpStream, server: &str, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let shared = Shared::default();
    tokio::select! {
        ended = requests(from_client, to_server, &state, &shared) => ended,
        ended = answers(from_server, to_client, &state, &shared) => ended,
        () = shared.over.notified() => Ok(()),
    }
}

/// Reads a message into `out`; its type.
async fn message(from: &mut BufReader<OwnedReadHalf>, out: &mut Vec<u8>) -> std::io::Result<u8> {
    let kind = from.read_u8().await?;
    out.push(kind);
    rest(from, out).await?;
    Ok(kind)
}

/// Reads a length and what it counts; where in `out` the content begins.
async fn rest(from: &mut BufReader<OwnedReadHalf>, out: &mut Vec<u8>) -> std::io::Result<usize> {
    let length = from.read_u32().await?;
    out.extend_from_slice(&length.to_be_bytes());
    let begin = out.len();
    let content = usize::try_from(length.saturating_sub(4)).unwrap_or(0);
    out.resize(begin + content, 0);
    from.read_exact(&mut out[begin..]).await?;
    Ok(begin)
}

async fn requests(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &Mutex<State>,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut out = Vec::new();
    // The start-up message has no type.
    rest(&mut from, &mut out).await?;
    loop {
        if from.buffer().is_empty() && !out.is_empty() {
            to.write_all(&out).await?;
            out.clear();
        }
        let kind = message(&mut from, &mut out).await?;
        // Execute and Query: what makes the server do something.
        if !matches!(kind, b'E' | b'Q') {
            continue;
        }
        let mut state = lock(state);
        let Some((nth, cut)) = state.armed.take() else {
            continue;
        };
        if nth > 1 {
            state.armed = Some((nth - 1, cut));
            continue;
        }
        match cut {
            Cut::Before => {
                state.victim = Some(shared.process.load(Ordering::Relaxed));
                return Ok(());
            }
            Cut::After => shared.swallow.store(true, Ordering::Relaxed),
        }
    }
}

async fn answers(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &Mutex<State>,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut out = Vec::new();
    loop {
        if from.buffer().is_empty() && !out.is_empty() {
            to.write_all(&out).await?;
            out.clear();
        }
        let begin = out.len();
        let kind = message(&mut from, &mut out).await?;
        if kind == b'K' && out.len() >= begin + 9 {
            let mut process = [0_u8; 4];
            process.copy_from_slice(&out[begin + 5..begin + 9]);
            shared
                .process
                .store(i32::from_be_bytes(process), Ordering::Relaxed);
        }
        if shared.swallow.load(Ordering::Relaxed) {
            out.clear();
            // ReadyForQuery: it has been done.
            if kind == b'Z' {
                lock(state).victim = Some(shared.process.load(Ordering::Relaxed));
                shared.over.notify_one();
                return Ok(());
            }
        }
    }
}
