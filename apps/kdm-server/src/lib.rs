//! Students over HTTP.
