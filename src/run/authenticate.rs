//! Who is no runner gets nowhere: the token is checked before a byte of a request's body is read or passed on.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};

use crate::protocol::{Refusal, Token};

/// Most attempts of a run: a token is that of one of them.
const ATTEMPTS: u32 = 10;

/// `routes`, for those alone that hold a token of the run that their path names. Which attempt's it is, the routes
/// check once they have read the request.
pub fn authenticated(token_key: Vec<u8>, routes: Router) -> Router {
    routes.layer(from_fn_with_state(Arc::new(token_key), check))
}

async fn check(State(key): State<Arc<Vec<u8>>>, request: Request, next: Next) -> Response {
    if is_runner(&key, request.uri().path(), request.headers()) {
        return next.run(request).await;
    }
    let refusal = Refusal { message: "the token is none of this run's".to_owned() };
    (StatusCode::UNAUTHORIZED, Json(refusal)).into_response()
}

fn is_runner(key: &[u8], path: &str, headers: &HeaderMap) -> bool {
    let uid = path.strip_prefix("/v1/runs/").and_then(|rest| rest.split_once('/')).map(|(uid, _)| uid);
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).and_then(Token::from_hex);
    let (Some(uid), Some(token)) = (uid, token) else { return false };
    (1..=ATTEMPTS).fold(false, |found, attempt| found | token.matches(&Token::derive(key, uid, attempt)))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes, to_bytes};
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, token: Option<&str>, body: Body) -> (StatusCode, String) {
        let routes = Router::new().fallback(post(|body: Bytes| async move { body.len().to_string() }));
        let mut request = Request::post(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = authenticated(b"key".to_vec(), routes).oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_token_of_any_attempt_of_the_run_lets_in() {
        for attempt in [1, 2, 10] {
            let token = Token::derive(b"key", "7", attempt).to_hex();
            let answer = ask("/v1/runs/7/report", Some(&token), Body::from("body")).await;
            assert_eq!(answer, (StatusCode::OK, "4".to_owned()));
        }
    }

    #[tokio::test]
    async fn without_a_token_of_the_run_no_byte_of_the_body_is_read() {
        let of_another_run = Token::derive(b"key", "8", 1).to_hex();
        let of_another_key = Token::derive(b"yek", "7", 1).to_hex();
        for token in [None, Some(""), Some("x"), Some(&*of_another_run), Some(&*of_another_key)] {
            // A body that never comes: whoever reads it waits for ever.
            let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
            let (status, text) = ask("/v1/runs/7/report", token, body).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert_eq!(text, r#"{"message":"the token is none of this run's"}"#);
        }
        let token = Token::derive(b"key", "", 1).to_hex();
        for path in ["/", "/v1/runs/7", "/v2/runs/7/report"] {
            assert_eq!(ask(path, Some(&token), Body::empty()).await.0, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
}
