//! For tests: a Kubernetes API in memory, with resourceVersions, status sub-resources, and a hook before each request.
//! It may also fall silent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

type Hook = Box<dyn FnMut(&FakeApi, &Method, &str) -> Option<StatusCode> + Send>;

/// The stored objects by path.
#[derive(Clone, Default)]
pub struct FakeApi {
    inner: Arc<Mutex<Inner>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    version: u64,
    silent: bool,
    log: Vec<String>,
    writes: Vec<String>,
    allowed: Vec<String>,
    reviews: Vec<Value>,
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
                let body = to_bytes(Body::new(body), 1 << 22).await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let path = parts.uri.path();
                api.inner.lock().unwrap().log.push(format!("{} {path}", parts.method));
                let mut hook = api.hook.lock().unwrap().take();
                let failed = hook.as_mut().and_then(|hook| hook(&api, &parts.method, path));
                *api.hook.lock().unwrap() = hook;
                let (code, answer) = match failed {
                    Some(code) => failure(code),
                    None if path.ends_with("/subjectaccessreviews") => (StatusCode::OK, api.review(&body)),
                    None => {
                        let (code, answer) = api.answer(&parts.method, path, &body);
                        (code, page(answer, parts.uri.query().unwrap_or_default()))
                    }
                };
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(code).body(Body::from(answer.to_string())).unwrap(),
                )
            }
        });
        kube::Client::new(service, "default")
    }

    /// `hook` sees every request first; it may change objects, and fail the request.
    pub fn before(&self, hook: impl FnMut(&FakeApi, &Method, &str) -> Option<StatusCode> + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Changes the object at `path` as somebody else's write, just before the first request of `method` to a path that ends
    /// in `written`.
    pub fn change_before(
        &self,
        method: Method,
        written: &'static str,
        path: &'static str,
        change: impl FnOnce(&mut Value) + Send + 'static,
    ) {
        let mut change = Some(change);
        self.before(move |api, asked, at| {
            if *asked == method
                && at.ends_with(written)
                && let Some(change) = change.take()
            {
                api.change(path, change);
            }
            None
        });
    }

    /// Whether requests get no answer at all.
    pub fn set_silent(&self, silent: bool) {
        self.inner.lock().unwrap().silent = silent;
    }

    /// The object at `path`.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.inner.lock().unwrap().objects.get(path).cloned()
    }

    /// All objects under `prefix`, at any depth.
    pub fn under(&self, prefix: &str) -> Vec<(String, Value)> {
        let inner = self.inner.lock().unwrap();
        let found = inner.objects.iter().filter(|(path, _)| path.starts_with(prefix));
        found.map(|(path, object)| (path.clone(), object.clone())).collect()
    }

    /// Stores an object as somebody else's write.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut inner = self.inner.lock().unwrap();
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        inner.objects.insert(path.to_owned(), object);
    }

    /// Changes an object as somebody else's write.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        change(&mut object);
        self.put(path, object);
    }

    /// Removes an object as somebody else's write.
    pub fn remove(&self, path: &str) {
        self.inner.lock().unwrap().objects.remove(path);
    }

    /// `<method> <path>` of every request so far.
    pub fn log(&self) -> Vec<String> {
        self.inner.lock().unwrap().log.clone()
    }

    /// `<method> <path>` of every write that succeeded.
    pub fn writes(&self) -> Vec<String> {
        self.inner.lock().unwrap().writes.clone()
    }

    /// What access reviews grant from now on, each as `<verb> <resource> <name>`.
    pub fn allow(&self, allowed: &[&str]) {
        self.inner.lock().unwrap().allowed = allowed.iter().map(|&right| right.to_owned()).collect();
    }

    /// The specs of all access reviews.
    pub fn reviews(&self) -> Vec<Value> {
        self.inner.lock().unwrap().reviews.clone()
    }

    fn review(&self, body: &Value) -> Value {
        let mut inner = self.inner.lock().unwrap();
        let attribute = |name: &str| body["spec"]["resourceAttributes"][name].as_str().unwrap();
        let right = format!("{} {} {}", attribute("verb"), attribute("resource"), attribute("name"));
        inner.reviews.push(body["spec"].clone());
        json!({"metadata": {}, "spec": body["spec"], "status": {"allowed": inner.allowed.contains(&right)}})
    }

    fn answer(&self, method: &Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let mut inner = self.inner.lock().unwrap();
        let (object_path, is_status) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        let old = inner.objects.get(object_path).cloned();
        let (key, mut new) = match (method.as_str(), old) {
            ("GET", Some(object)) => return (StatusCode::OK, object),
            ("GET", None) => {
                let last = path.rsplit('/').next().unwrap_or_default();
                if !["pods", "jobs", "events", "actionruns", "secrets", "orchestratorextensions"].contains(&last) {
                    return failure(StatusCode::NOT_FOUND);
                }
                let is_item = |key: &str| {
                    let in_namespace = key.starts_with(&format!("{path}/"));
                    in_namespace || (!path.contains("/namespaces/") && key.contains(&format!("/{last}/")))
                };
                let items: Vec<&Value> =
                    inner.objects.iter().filter(|(key, _)| is_item(key)).map(|(_, object)| object).collect();
                return (StatusCode::OK, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
            }
            ("POST", _) => {
                let key = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if inner.objects.contains_key(&key) {
                    return failure(StatusCode::CONFLICT);
                }
                (key, body.clone())
            }
            ("PUT", Some(old)) => {
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
                    return failure(StatusCode::CONFLICT);
                }
                let mut new = if is_status { old } else { body.clone() };
                if is_status {
                    new["status"] = body["status"].clone();
                }
                (object_path.to_owned(), new)
            }
            ("PATCH", Some(mut old)) => {
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
                    return failure(StatusCode::CONFLICT);
                }
                merge(&mut old, body);
                (object_path.to_owned(), old)
            }
            // Server-side apply creates what is not there.
            ("PATCH", None) if !is_status && body["apiVersion"].is_string() => (object_path.to_owned(), body.clone()),
            ("DELETE", Some(old)) => {
                let only = body["preconditions"].as_object().into_iter().flatten();
                if only.into_iter().any(|(field, value)| *value != old["metadata"][field.as_str()]) {
                    return failure(StatusCode::CONFLICT);
                }
                inner.objects.remove(object_path);
                inner.writes.push(format!("DELETE {path}"));
                return (StatusCode::OK, old);
            }
            _ => return failure(StatusCode::NOT_FOUND),
        };
        inner.version += 1;
        new["metadata"]["resourceVersion"] = inner.version.to_string().into();
        inner.writes.push(format!("{method} {path}"));
        inner.objects.insert(key, new.clone());
        (StatusCode::OK, new)
    }
}

/// The part of a list that `query` asks for; `continue` is how many came before.
fn page(mut answer: Value, query: &str) -> Value {
    let number = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
    let (skip, Some(limit)) = (number("continue").unwrap_or(0), number("limit")) else { return answer };
    if let Some(items) = answer["items"].as_array_mut() {
        let is_last = items.len() <= skip + limit;
        *items = items.iter().skip(skip).take(limit).cloned().collect();
        if !is_last {
            answer["metadata"]["continue"] = (skip + limit).to_string().into();
        }
    }
    answer
}

fn merge(old: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => {
            if !old.is_object() {
                *old = json!({});
            }
            patch.iter().for_each(|(key, value)| merge(&mut old[key], value));
        }
        other => *old = other.clone(),
    }
}

fn failure(code: StatusCode) -> (StatusCode, Value) {
    let reason = match code {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        _ => "InternalError",
    };
    // As the API does where a value breaks a rule.
    let message = if reason == "Invalid" { "Invalid value: \"<a quotation>\"" } else { reason };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
        "code": code.as_u16(),
    });
    (code, body)
}
