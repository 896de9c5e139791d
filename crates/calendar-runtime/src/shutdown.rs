//! The clean stop: SIGTERM and SIGINT raise a flag that everything long-running watches.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// Watches for SIGTERM and SIGINT from now on. The flag turns true at the first of them; a second
/// one ends the process at once, for people who press Ctrl-C twice.
pub fn listen() -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                info!(signal = name, "stopping");
                // Fails only when nobody watches any more, and then there is nothing to stop.
                let _ = stop.send(true);
            } else {
                warn!(signal = name, "stopping at once");
                std::process::exit(130);
            }
        }
    });
    Ok(stopped)
}

/// Waits until the flag is raised.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stopping| *stopping).await.is_err() {
        // The sender is gone without having raised it: nobody will ever ask us to stop.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_waits_for_the_flag_and_not_for_the_sender() {
        let (stop, flag) = watch::channel(false);
        let short = Duration::from_millis(20);
        assert!(
            tokio::time::timeout(short, stopped(flag.clone()))
                .await
                .is_err()
        );
        stop.send(true).unwrap();
        assert!(tokio::time::timeout(short, stopped(flag)).await.is_ok());

        let (stop, flag) = watch::channel(false);
        drop(stop);
        assert!(tokio::time::timeout(short, stopped(flag)).await.is_err());
    }
}
