//! Buckets of Amazon S3 and of what speaks like it.

use std::time::Duration;

use kdm_data::Error;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use super::{Address, Objects};
use crate::Outcome;

/// How often a request is made again that a server was too busy for, and for how long.
const RETRIES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// A store in a bucket.
pub(super) struct Bucket {
    address: Address,
    store: AmazonS3,
    runtime: Runtime,
}

/// The bucket of an address: endpoint, region and credentials are those of the variables `AWS_*`,
/// or of the machine's role.
///
/// # Errors
/// When these make no sense.
pub(super) fn open(address: &Address) -> Outcome<Bucket> {
    let retries =
        RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = endpoint.into_iter().find_map(|key| std::env::var(key).ok());
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(&address.bucket).with_retry(retries);
    if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) {
        // A person who names an endpoint without encryption means it.
        let plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint).with_allow_http(plain);
    }
    let store = builder.build().map_err(|error| refused(address, "", &error))?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(Error::io("read", address.shown("")))?;
    Ok(Bucket { address: address.clone(), store, runtime })
}

impl Objects for Bucket {
    fn get(&self, file: &str) -> Outcome<Vec<u8>> {
        let fetched = self.runtime.block_on(async {
            let key = Key::parse(self.address.object(file))?;
            self.store.get(&key).await?.bytes().await
        });
        let bytes = fetched.map_err(|error| refused(&self.address, file, &error))?;
        Ok(bytes.into())
    }
}

/// What a server's answer means for whoever asked.
fn refused(address: &Address, file: &str, error: &object_store::Error) -> Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let credentials = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of somebody who may read \
                       it, or AWS_SKIP_SIGNATURE=true for a public bucket";
    let (problem, action) = match error {
        NotFound { .. } => (
            "is not there".to_string(),
            "check bucket and prefix, the endpoint (AWS_ENDPOINT_URL) and the region (AWS_REGION), \
             and that the whole folder of the store was copied",
        ),
        PermissionDenied { .. } | Unauthenticated { .. } => {
            ("the server refuses it to these credentials".to_string(), credentials)
        }
        other => (
            chain(other),
            "check the network, the endpoint (AWS_ENDPOINT_URL) and the credentials \
             (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), and run the command again: what was \
             fetched is kept",
        ),
    };
    Error::invalid(address.shown(file), "object", problem, action)
}

/// An error and its cause, in one line.
fn chain(error: &object_store::Error) -> String {
    let last = std::iter::successors(std::error::Error::source(error), |e| e.source()).last();
    let (whole, last) = (error.to_string(), last.map(ToString::to_string).unwrap_or_default());
    let line = if whole.contains(&last) { whole } else { format!("{whole}: {last}") };
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
