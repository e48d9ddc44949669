//! Files of a directory over HTTP, for `kubectl proxy --www`.
//!
//! What a link in the directory leads to counts as being in it. Absent: parts of files, and conditions.

use std::path::Path;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};

/// The type of a file by the end of its name.
fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "wasm" => "application/wasm",
        "xml" => "text/xml; charset=utf-8",
        "pdf" => "application/pdf",
        "txt" | "md" | "yaml" | "yml" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The file at a path below the directory; of a folder its `index.html`, else a list.
pub(super) fn answer(directory: &Path, below: &str) -> Response<Bytes> {
    let missing = || of(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n");
    let Some(decoded) = decoded(below) else { return missing() };
    // Nothing above the directory can be named.
    if decoded.split('/').any(|part| part == "..") || decoded.contains('\0') {
        return missing();
    }
    let path = directory.join(decoded.trim_start_matches('/'));
    if path.is_dir() {
        if !decoded.is_empty() && !decoded.ends_with('/') {
            let name = below.rsplit('/').next().unwrap_or_default();
            let mut response = of(StatusCode::MOVED_PERMANENTLY, "text/plain; charset=utf-8", "");
            if let Ok(place) = HeaderValue::from_str(&format!("{name}/")) {
                response.headers_mut().insert(LOCATION, place);
            }
            return response;
        }
        let index = path.join("index.html");
        if !index.is_file() {
            return list(&path).unwrap_or_else(|_| missing());
        }
        return file(&index).unwrap_or_else(|_| missing());
    }
    file(&path).unwrap_or_else(|_| missing())
}

fn file(path: &Path) -> std::io::Result<Response<Bytes>> {
    Ok(of(StatusCode::OK, content_type(path), std::fs::read(path)?))
}

fn list(folder: &Path) -> std::io::Result<Response<Bytes>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let escape = |name: &str| name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;");
    let line = |name: &String| {
        format!(
            "<a href=\"{}\">{}</a>\n",
            client::https::encode_component(name).replace("%2F", "/"),
            escape(name)
        )
    };
    let body: String = names.iter().map(line).collect();
    Ok(of(StatusCode::OK, "text/html; charset=utf-8", format!("<!doctype html>\n<pre>\n{body}</pre>\n")))
}

/// A path without escapes; none if it is no text then.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
