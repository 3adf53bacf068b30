//! For tests: a Kubernetes API in memory that stores objects, checks resourceVersions, and fails when told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

type Fault = Box<dyn FnMut(&Method, &str) -> Option<StatusCode> + Send>;

/// The stored objects by path, and how requests go wrong.
#[derive(Clone, Default)]
pub struct FakeApi {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    version: u64,
    fault: Option<Fault>,
    silent: bool,
    log: Vec<String>,
}

impl FakeApi {
    /// A client of this API.
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                if api.inner.lock().unwrap().silent {
                    std::future::pending::<()>().await;
                }
                let (parts, body) = request.into_parts();
                let body = to_bytes(Body::new(body), 1 << 20).await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (status, body) = api.answer(&parts.method, parts.uri.path(), body);
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(status).body(Body::from(body.to_string())).unwrap(),
                )
            }
        });
        kube::Client::new(service, "default")
    }

    /// From now on `fault` may answer a request with an error instead.
    pub fn fail(&self, fault: impl FnMut(&Method, &str) -> Option<StatusCode> + Send + 'static) {
        self.inner.lock().unwrap().fault = Some(Box::new(fault));
    }

    /// Whether requests get no answer at all.
    pub fn set_silent(&self, silent: bool) {
        self.inner.lock().unwrap().silent = silent;
    }

    /// The object at `path`.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.inner.lock().unwrap().objects.get(path).cloned()
    }

    /// Stores an object as somebody else's write.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut inner = self.inner.lock().unwrap();
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        inner.objects.insert(path.to_owned(), object);
    }

    /// `<method> <path>` of every request so far.
    pub fn log(&self) -> Vec<String> {
        self.inner.lock().unwrap().log.clone()
    }

    fn answer(&self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mut inner = self.inner.lock().unwrap();
        inner.log.push(format!("{method} {path}"));
        if let Some(status) = inner.fault.as_mut().and_then(|fault| fault(method, path)) {
            return failure(status);
        }
        let stored = inner.objects.get(path).cloned();
        let (path, mut object) = match (method, stored) {
            (&Method::GET, Some(object)) => return (StatusCode::OK, object),
            (&Method::POST, _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if inner.objects.contains_key(&path) {
                    return failure(StatusCode::CONFLICT);
                }
                (path, body)
            }
            (&Method::GET | &Method::PUT, None) => return failure(StatusCode::NOT_FOUND),
            (&Method::PUT, Some(old)) => {
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
                    return failure(StatusCode::CONFLICT);
                }
                (path.to_owned(), body)
            }
            (&Method::PATCH, _) => (path.to_owned(), body),
            _ => return failure(StatusCode::METHOD_NOT_ALLOWED),
        };
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        inner.objects.insert(path, object.clone());
        (StatusCode::OK, object)
    }
}

fn failure(status: StatusCode) -> (StatusCode, Value) {
    let reason = match status {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::FORBIDDEN => "Forbidden",
        _ => "InternalError",
    };
    let code = status.as_u16();
    (
        status,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code}),
    )
}
