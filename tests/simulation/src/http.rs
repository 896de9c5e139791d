//! HTTP by hand: a user's browser, and a proxy that spoils requests.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// The head of a request without a body.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Stands between the adapter and the provider, and drops the preferences of requests for further pages.
pub(crate) struct PreferFilter {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for PreferFilter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PreferFilter {
    pub(crate) async fn start(provider: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(filter(client, provider));
            }
        });
        Ok(Self { address, task })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn filter(client: TcpStream, provider: SocketAddr) -> Option<()> {
    let provider = TcpStream::connect(provider).await.ok()?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_provider, mut to_provider) = provider.into_split();
    let requests = async {
        loop {
            let head = head(&mut from_client).await?;
            let is_further = head.lines().next()?.contains("skiptoken");
            let mut length = 0;
            let mut kept = String::new();
            for line in head.split_inclusive("\r\n") {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                if !(is_further && lower.starts_with("prefer:")) {
                    kept.push_str(line);
                }
            }
            let mut body = vec![0; length];
            from_client.read_exact(&mut body).await.ok()?;
            to_provider.write_all(kept.as_bytes()).await.ok()?;
            to_provider.write_all(&body).await.ok()?;
        }
    };
    let answers = async {
        tokio::io::copy(&mut from_provider, &mut to_client)
            .await
            .ok()
    };
    tokio::select! {
        ended = requests => ended,
        _ = answers => None,
    }
}

/// Opens a URL as a browser would; where it is sent to.
pub(crate) async fn redirected(url: &str) -> std::io::Result<Option<String>> {
    let Ok(url) = Url::parse(url) else {
        return Ok(None);
    };
    let host = url.host_str().unwrap_or("127.0.0.1");
    let port = url.port_or_known_default().unwrap_or(80);
    let mut stream = TcpStream::connect((host, port)).await?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.trim().to_owned())
    });
    Ok(location)
}
