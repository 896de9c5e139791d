//! The simulator as a program, for development and for tests in other languages.

use calendar_simulator::{Options, Server, Simulator, demo};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// A Microsoft Entra and Microsoft Graph v1.0 calendar server in memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// All identifiers, tokens and accidents follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The base of links in answers, when clients reach the simulator under another name.
    #[arg(long)]
    public_base: Option<String>,
    /// Hand notifications out at /admin/pushes/take instead of sending them, and never wait.
    #[arg(long)]
    manual: bool,
    /// Fill the demo mailbox, alex.wilber@contoso.example.
    #[arg(long)]
    demo: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let simulator = Simulator::new(Options {
        seed: arguments.seed,
        public_base: arguments.public_base,
        manual: arguments.manual,
        ..Options::default()
    });
    if arguments.demo {
        demo::fill(&simulator, demo::today(&simulator))?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::listen(simulator, &arguments.listen).await?;
    announce(&server.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    server.shutdown().await;
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "whoever starts the simulator waits for this line to learn the port"
)]
fn announce(url: &str) {
    println!("listening on {url}");
}
