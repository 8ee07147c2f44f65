//! One request over HTTP or HTTPS, bounded in time and size.

use std::fs;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::time::timeout;

use crate::causes::causes;

/// The longest answer that is read, in bytes.
pub(super) const MAX_ANSWER: usize = 1 << 20;
/// The most characters of an answer that are told on.
pub(super) const MAX_TOLD: usize = 200;

/// Makes requests.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Http {
    /// With the system's certificate authorities, and with those of a file in PEM.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no certificate.
    pub fn new(authorities: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // A system without any has no use for HTTPS but by the file; a certificate that cannot be
        // judged by is said to be so when it is met.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = authorities {
            let wrong = |what: String| format!("{}: {what}", path.display());
            let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
            let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(wrong("holds no certificate in PEM".to_owned()));
            }
        }
        let provider = crypto::ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let mut builder = Client::builder(TokioExecutor::new());
        // Calls are rare: a connection that is kept is one that has died since.
        builder.pool_max_idle_per_host(0);
        Ok(Self { client: builder.build(connector.build()) })
    }

    /// Gets an address.
    pub(super) async fn get(&self, uri: &str, within: Duration) -> Result<Answer, String> {
        self.send(Method::GET, uri, Vec::new(), None, within).await
    }

    /// Posts JSON to an address; `id` makes a repetition known.
    pub(super) async fn post(
        &self,
        uri: &str,
        body: Vec<u8>,
        id: &str,
        within: Duration,
    ) -> Result<Answer, String> {
        self.send(Method::POST, uri, body, Some(id), within).await
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        body: Vec<u8>,
        id: Option<&str>,
        within: Duration,
    ) -> Result<Answer, String> {
        let uri: Uri = uri.parse().map_err(|error| format!("{uri:?} is no address: {error}"))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json");
        if let Some(id) = id {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .header("Idempotency-Key", id);
        }
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| causes(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| causes(error.as_ref()))?.to_bytes();
            Ok(Answer { status, body })
        };
        let silent = |_| format!("no answer within {:.1} s", within.as_secs_f64());
        timeout(within, exchange).await.map_err(silent)?
    }
}

impl Answer {
    /// The beginning of the body, in one line.
    pub(super) fn told(&self) -> String {
        one_line(&String::from_utf8_lossy(&self.body))
    }
}

/// The beginning of a text, in one line, without anything that a terminal would take for an order.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.trim().chars().take(MAX_TOLD).map(plain).collect();
    text.trim_end().to_owned()
}
