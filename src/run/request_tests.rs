//! Tests of the request.
