//! A client of the API that keeps status, headers and body together.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;

/// A client that follows no redirect.
#[derive(Clone)]
pub struct Http(reqwest::Client);

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body as JSON of an answer with this status.
    #[expect(clippy::must_use_candidate, reason = "often only the status matters")]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }
}

impl Http {
    /// A client without proxies, for plain HTTP on this machine.
    #[must_use]
    pub fn new() -> Self {
        // reqwest wants one even for plain HTTP. An error says that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(20))
            .build();
        Self(client.expect("a plain client"))
    }

    /// Sends a request. An error when nobody answers.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        self.send_for(method, url, token, None, body).await
    }

    /// Sends a request of a service key that acts for a user.
    pub async fn send_for(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        calendar_user: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.0.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(id) = calendar_user {
            request = request.header("calendar-user", id);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    /// GET with these headers.
    pub async fn get_with(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.0.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer {
        status,
        headers,
        text: response.text().await?,
    })
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}
