//! Files that `-f` names by a URL.

use bytes::Bytes;
use client::https::{Proxy, ResponseBody};
use client::{HttpsApi, HttpsConfig};
use http::header::{ACCEPT, LOCATION};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};

use crate::error::{Error, Result};

/// How often a server that fails is asked, and how many redirections are followed.
const ATTEMPTS: usize = 3;
const REDIRECTIONS: usize = 10;
/// The most that is read of a file.
const MAX_FILE: usize = 256 << 20;

/// The text of a file. Runs on a thread of its own, as whoever reads files need not wait for others.
pub(crate) fn read(url: &str) -> Result<String> {
    let failed =
        |error: &dyn std::fmt::Display| Error::message(format!("unable to read URL {url:?}: {error}"));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(read_following(url))
        });
        reader.join().unwrap_or_else(|_| Err(failed(&"the reader broke off")))
    })
}

async fn read_following(url: &str) -> Result<String> {
    let mut at = url.to_string();
    let mut failures = 0;
    for _ in 0..REDIRECTIONS {
        let response = get(&at).await?;
        let status = response.status();
        if status.is_redirection()
            && let Some(place) = response.headers().get(LOCATION).and_then(|place| place.to_str().ok())
        {
            at = joined(&at, place);
            continue;
        }
        if status.is_server_error() && failures + 1 < ATTEMPTS {
            failures += 1;
            continue;
        }
        if status != StatusCode::OK {
            return Err(Error::message(format!(
                "unable to read URL {at:?}, server reported {status}, status code={}",
                status.as_u16()
            )));
        }
        let body = Limited::new(response.into_body(), MAX_FILE).collect().await;
        let body = body.map_err(|error| Error::message(format!("unable to read URL {at:?}: {error}")))?;
        return Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned());
    }
    Err(Error::message(format!("unable to read URL {url:?}, Get {url:?}: stopped after 10 redirects")))
}

/// A place that a redirection names, which may be relative.
fn joined(from: &str, place: &str) -> String {
    if place.contains("://") {
        return place.to_string();
    }
    let (scheme, rest) = from.split_once("://").unwrap_or(("https", from));
    if let Some(host_and_path) = place.strip_prefix("//") {
        return format!("{scheme}://{host_and_path}");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if place.starts_with('/') {
        return format!("{scheme}://{authority}{place}");
    }
    let folder =
        rest.split('?').next().and_then(|path| path.rsplit_once('/')).map_or(authority, |(folder, _)| folder);
    format!("{scheme}://{folder}/{place}")
}

async fn get(url: &str) -> Result<Response<ResponseBody>> {
    let failed =
        |error: &dyn std::fmt::Display| Error::message(format!("unable to read URL {url:?}: {error}"));
    let uri: Uri = url.parse().map_err(|error| failed(&error))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(failed(&"it is not a URL"));
    };
    let mut config = HttpsConfig::new(format!("{scheme}://{authority}"));
    config.proxy = Proxy::from_environment(&config.server).map_err(|error| failed(&error))?;
    config.user_agent = client::https::user_agent("kubectl");
    let api = HttpsApi::new(config).map_err(|error| failed(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(ACCEPT, "*/*").body(Bytes::new());
    Ok(api.request(request.map_err(|error| failed(&error))?).await?)
}

#[cfg(test)]
mod tests;
