//! A TCP proxy in front of PostgreSQL that can be cut, as when the server goes away.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way to a server that can be closed and opened again.
pub struct Proxy {
    /// The port on 127.0.0.1.
    pub port: u16,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// Listens in front of `target` (`host:port`), open or closed.
    pub async fn start(target: String, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (open, is_open) = watch::channel(open);
        let target = Arc::new(target);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut is_open) = (Arc::clone(&target), is_open.clone());
                tokio::spawn(async move {
                    if !*is_open.borrow() {
                        return;
                    }
                    if let Ok(mut server) = TcpStream::connect(target.as_str()).await {
                        tokio::select! {
                            _ = copy_bidirectional(&mut client, &mut server) => {}
                            _ = is_open.wait_for(|open| !open) => {}
                        }
                    }
                });
            }
        });
        Self { port, open }
    }

    /// Opens the way, or cuts it and every connection on it.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}
