//! What a request to the Kubernetes API is about, for counting: pure.

use axum::http::{Method, Uri};

/// The verb, as Kubernetes' rights have it, and the resource with its sub-resource (`actionruns/status`); `other` for
/// what is no resource.
pub(super) fn described(method: &Method, uri: &Uri) -> (&'static str, String) {
    let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (named, is_item) = match segments.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => match rest {
            ["namespaces", _, resource, name, sub @ ..] => (joined(resource, sub), !name.is_empty()),
            ["namespaces", _, resource] => (joined(resource, &[]), false),
            [resource, _, sub @ ..] => (joined(resource, sub), true),
            [resource] => (joined(resource, &[]), false),
            [] => ("other".to_owned(), false),
        },
        _ => ("other".to_owned(), false),
    };
    let watches = uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with("watch=")));
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if is_item => "delete",
        Method::DELETE => "deletecollection",
        _ if watches => "watch",
        _ if is_item => "get",
        _ => "list",
    };
    (verb, named)
}

fn joined(resource: &str, sub: &[&str]) -> String {
    match sub.first() {
        Some(sub) => format!("{resource}/{sub}"),
        None => resource.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verb_and_resource_are_those_of_kubernetes_rights() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/namespaces/n/pods?limit=500", "list pods"),
            (Method::GET, "/apis/outrigger.dev/v1alpha1/actionruns?&watch=true&x=1", "watch actionruns"),
            (Method::GET, "/apis/outrigger.dev/v1alpha1/namespaces/n/actionruns/a", "get actionruns"),
            (Method::PUT, "/apis/outrigger.dev/v1alpha1/namespaces/n/actionruns/a/status?", "update actionruns/status"),
            (Method::PATCH, "/apis/outrigger.dev/v1alpha1/extensiontargets/a/status", "patch extensiontargets/status"),
            (Method::POST, "/apis/batch/v1/namespaces/n/jobs", "create jobs"),
            (Method::DELETE, "/apis/batch/v1/namespaces/n/jobs/j", "delete jobs"),
            (Method::GET, "/api/v1/namespaces/n", "get namespaces"),
            (Method::GET, "/version", "list other"),
        ] {
            let (verb, resource) = described(&method, &uri.parse().unwrap());
            assert_eq!(format!("{verb} {resource}"), expected, "{method} {uri}");
        }
    }
}
