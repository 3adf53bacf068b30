//! What kubelet and Prometheus ask over plain HTTP: `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;

use crate::telemetry::Metrics;

/// What a replica still waits for before it is ready. Clones share it. Leading is no part of it: standbys are ready.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<BTreeSet<&'static str>>>);

impl Readiness {
    /// Not ready before [`Readiness::reached`] was called for each of `parts`.
    pub fn waiting_for(parts: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Arc::new(Mutex::new(parts.into_iter().collect())))
    }

    /// `part` is ready from now on.
    pub fn reached(&self, part: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    fn answer(&self) -> (StatusCode, String) {
        let missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.is_empty() {
            return (StatusCode::OK, "ok\n".to_owned());
        }
        let missing: Vec<_> = missing.iter().copied().collect();
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", ")))
    }
}

/// The routes. `/healthz` answers as long as the process serves at all.
pub fn router(readiness: Readiness, metrics: Metrics) -> Router {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readiness.answer() }))
        .route("/metrics", get(move || async move { ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.encode()) }))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_replica_is_ready_when_everything_is_reached_and_healthy_before() {
        let readiness = Readiness::waiting_for(["tls", "caches"]);
        let router = router(readiness.clone(), Metrics::new());
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let not_ready = (StatusCode::SERVICE_UNAVAILABLE, "waiting for caches, tls\n".to_owned());
        assert_eq!(get(&router, "/readyz").await, not_ready);
        readiness.reached("tls");
        assert_eq!(get(&router, "/readyz").await.1, "waiting for caches\n");
        readiness.reached("caches");
        assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_text() {
        let router = router(Readiness::waiting_for([]), Metrics::new());
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
