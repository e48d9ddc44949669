//! Requests on resources: method and path become a verb, the body becomes a tree, the result an answer.

use std::pin::pin;
use std::sync::Arc;

use api::{ApiError, DeleteOptions, DryRun, FieldSelector, managed};
use axum::body::Body;
use client::streams::websocket;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Response};

use super::head::Head;
use super::metrics::LongRunning;
use super::negotiate::media_type;
use super::route::Target;
use super::{answer, body, connect, gzip, table, watch};
use crate::fairness::{self, Kind};
use crate::heavy::{HEAVY, Worker};
use crate::registry::{Call, Source, Subresource, delete_options, not_allowed, strategies};
use crate::server::ApiServer;

/// What a patch by server-side apply is called.
const APPLY: &str = "application/apply-patch+yaml";

/// What a request does, by method and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// Only for what is behind a proxy. It has no name, so only who may do everything may do it.
    Options,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Options => "",
        }
    }

    fn of(head: &Head<'_>, target: &Target) -> Result<Verb, ApiError> {
        let named = target.name.is_some();
        Ok(match head.parts.method {
            Method::GET | Method::HEAD if target.watch => Verb::Watch,
            Method::GET | Method::HEAD if named => Verb::Get,
            Method::GET | Method::HEAD if head.query.flag("watch") => Verb::Watch,
            Method::GET | Method::HEAD => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT if named => Verb::Update,
            Method::PATCH if named => Verb::Patch,
            Method::DELETE if named => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            Method::OPTIONS if target.subresource.as_deref() == Some("proxy") => Verb::Options,
            _ => return Err(not_allowed()),
        })
    }
}

/// What a request is to fairness. `body` is the size of its body if that is known.
pub(super) fn flow<'a>(
    head: &'a Head<'_>,
    target: &'a Target,
    body: Option<u64>,
) -> Result<(fairness::Request<'a>, Kind), ApiError> {
    let verb = Verb::of(head, target)?;
    let subresource = target.subresource.as_deref();
    let kind = match subresource {
        _ if verb == Verb::Watch => Kind::Endless,
        Some(name) if is_connection(target, name) => Kind::Endless,
        _ if head.reads() => Kind::Reads,
        _ => Kind::Writes { body },
    };
    let request = fairness::Request {
        user: &head.user,
        verb: verb.name(),
        group: &target.resource.row.group,
        resource: &target.resource.row.plural,
        subresource,
        namespace: target.namespace.as_deref(),
    };
    Ok((request, kind))
}

/// Counts a request among those that last as long as their clients want.
pub(super) fn long_running(
    server: &ApiServer,
    head: &Head<'_>,
    target: &Target,
) -> Result<LongRunning, ApiError> {
    Ok(server.metrics.long_running(Verb::of(head, target)?.name(), target))
}

/// Serves one request on a resource or subresource.
pub(super) async fn serve(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let verb = Verb::of(head, target)?;
    let call = Call::new(&target.resource, target.namespace.as_deref(), &head.user)
        .sub(target.subresource.as_deref())
        .by_agent(Some(managed::manager_of_agent(head.header(USER_AGENT))))
        .dry(head.query.dry_run()?)
        .told_by(head.trail.clone());
    let fields = match verb {
        Verb::List | Verb::Watch | Verb::DeleteCollection => Some(head.query.fields()?),
        _ => None,
    };
    let decided = server.registry.authorize(&call, verb.name(), target.name.as_deref(), fields.as_ref());
    head.decided(&decided);
    decided?;
    call.warn(target.resource.strategy.deprecation().map(str::to_string).into_iter().collect());
    let applies = media_type(head.header(CONTENT_TYPE)) == APPLY;
    let timer = server.metrics.start(verb.name(), target, applies, call.dry_run == DryRun::All);
    let mut outcome = paced(server, head, target, &call, verb, body).await;
    let is_stream =
        verb == Verb::Watch || target.subresource.as_deref().is_some_and(|name| is_connection(target, name));
    // Who is told of the answer reads it as it is.
    let is_told = head.trail.as_ref().is_some_and(|trail| trail.wants_response());
    if let Ok(response) = &outcome
        && !is_stream
        && !is_told
        && server.registry.config.gates.compression
        && gzip::is_wanted(&head.parts.headers, response)
    {
        outcome = match outcome {
            Ok(response) => Ok(Box::pin(gzip::compressed(response)).await),
            refused => refused,
        };
    }
    let code = match &outcome {
        Ok(response) => response.status().as_u16(),
        Err(error) => error.code(),
    };
    timer.end(code);
    // A refusal carries the warnings, too.
    let mut response = outcome.unwrap_or_else(|error| answer::status(&error, head.preferences));
    response = timer.measure(response);
    answer::add_warnings(&mut response, &call.take_warnings());
    Ok(response)
}

/// Reads the body of a write, so that a heavy one can be carried out apart from the others.
async fn paced(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    verb: Verb,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let reads = matches!(verb, Verb::Get | Verb::List | Verb::Watch);
    let connects = target.subresource.as_deref().is_some_and(|name| is_connection(target, name));
    let registry = &server.registry;
    let (weight, body) = match verb {
        _ if reads || connects => (0, body),
        _ => {
            let bytes = body::read(body).await?;
            let weight = match verb {
                Verb::DeleteCollection => HEAVY,
                _ => registry.weight(call, target.name.as_deref(), bytes.len()),
            };
            (weight, Body::from(bytes))
        }
    };
    let work = pin!(act(server, head, target, call, verb, body));
    registry.turns.run(&head.user.name, weight, work).await
}

async fn act(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    verb: Verb,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    // After authorization: a caller without leave does not learn what a resource can do.
    if verb != Verb::Options {
        call.check_verb(verb.name())?;
    }
    match (target.name.as_deref(), call.about()) {
        (Some(name), Some(Subresource::Connection(connection))) => {
            Box::pin(connect::serve(server, head, target, call, *connection, name, body)).await
        }
        (Some(name), Some(Subresource::Action(_))) => {
            let (tree, duplicates) = decoded(head, body).await?;
            let options = head.query.create_options()?;
            let result = Box::pin(server.registry.post(call, name, tree, &duplicates, &options)).await?;
            Ok(answer::json(201, &result, head))
        }
        (Some(name), _) if verb != Verb::Watch => named(server, head, target, call, verb, name, body).await,
        _ => collection(server, head, target, call, verb, body).await,
    }
}

fn is_connection(target: &Target, subresource: &str) -> bool {
    matches!(target.resource.subresource(subresource), Some(Subresource::Connection(_)))
}

async fn decoded(head: &Head<'_>, body: Body) -> Result<body::Decoded, ApiError> {
    let decoded = body::decode(head, &body::read(body).await?)?;
    if let Some(trail) = &head.trail {
        trail.about(&decoded.0);
    }
    Ok(decoded)
}

/// Verbs on one object, or on a part of it. Writes are boxed here and below: a `get` would carry their room
/// about.
async fn named(
    server: &ApiServer,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    verb: Verb,
    name: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    // A request whose answer the client could not read is not carried out either.
    let printer = table::Printer::new(&target.resource, head)?;
    let registry = &server.registry;
    let mut code = 200;
    let object = match verb {
        Verb::Get => registry.read(call, name, head.query.get("resourceVersion")).await?,
        Verb::Update => {
            let (tree, duplicates) = decoded(head, body).await?;
            let options = head.query.update_options("UpdateOptions")?;
            let object =
                Box::pin(registry.write(call, name, Source::Body(tree, &duplicates), &options)).await?;
            // Some kinds are created by a PUT to a free name.
            code = if call.has_created() { 201 } else { 200 };
            object
        }
        Verb::Patch => {
            let kind = body::patch_kind(head)?;
            let options = head.query.patch_options(kind)?;
            let patch = body::decode_patch(kind, &body::read(body).await?)?;
            let object = Box::pin(registry.write(call, name, Source::Patch(&patch), &options)).await?;
            code = if call.has_created() { 201 } else { 200 };
            object
        }
        Verb::Delete => {
            let options = deletion(head, body).await?;
            let one = dry(call, &options);
            let deleted = Box::pin(registry.delete(&one, name, &options)).await;
            call.warn(one.take_warnings());
            let deleted = deleted?;
            // Where nothing is left to show, upstream answers with a Status for most kinds.
            if deleted.gone && !strategies::returns_deleted_object(&target.resource.row) {
                let status = answer::deleted_status(&target.resource.row, &deleted.object);
                return Ok(answer::json(200, &status, head));
            }
            deleted.object
        }
        _ => return Err(not_allowed()),
    };
    // What is sent as it is stored is not decoded. A write has its turn already.
    let weight = if printer.accepted().is_stored() { 0 } else { object.json_len() };
    let answer = async { answer::object(code, &object, &printer, head) };
    registry.turns.run(&head.user.name, weight, pin!(answer)).await
}

/// Verbs on a collection.
async fn collection(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    verb: Verb,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let registry = &server.registry;
    let worker = Worker::new(&registry.turns, &head.user);
    answer::accepted_of(&target.resource.row, head)?;
    match verb {
        Verb::List => {
            let list = registry.list_stored(call, &head.query.list_options()?).await?;
            let printer = table::Printer::new(&target.resource, head)?;
            answer::list(list, &target.resource, &printer, head, worker).await
        }
        Verb::Watch => {
            let mut options = head.query.watch_options()?;
            if let Some(name) = &target.name {
                options.fields.terms.extend(FieldSelector::equals("metadata.name", name).terms);
            }
            let watch = registry.watch(call, &options).await?;
            let stopping = head.peer.stopping.clone();
            let answer = watch::answer(watch, target.resource.clone(), head, worker, stopping)?;
            match websocket::is_wanted(&head.parts.headers) {
                true => watch::socket::over_socket(server, head, answer),
                false => Ok(answer),
            }
        }
        Verb::Create => {
            let (tree, duplicates) = decoded(head, body).await?;
            let options = head.query.create_options()?;
            let object = Box::pin(registry.create(call, tree, &duplicates, &options)).await?;
            answer::object(201, &object, &table::Printer::new(&target.resource, head)?, head)
        }
        Verb::DeleteCollection => {
            let options = deletion(head, body).await?;
            let (all, selection) = (dry(call, &options), head.query.list_options()?);
            let items = Box::pin(registry.delete_collection(&all, &selection, &options)).await;
            call.warn(all.take_warnings());
            let items = items?;
            let resource_version = registry.caches.revision();
            let list = client::ObjectList { items, resource_version, ..client::ObjectList::default() };
            let printer = table::Printer::new(&target.resource, head)?;
            answer::list(list, &target.resource, &printer, head, worker).await
        }
        _ => Err(not_allowed()),
    }
}

/// Options of a deletion: from the body if there is one, else from the query.
async fn deletion(head: &Head<'_>, body: Body) -> Result<DeleteOptions, ApiError> {
    let bytes = body::read(body).await?;
    let mut options = if bytes.is_empty() {
        head.query.delete_options()?
    } else {
        delete_options(&body::decode(head, &bytes)?.0)?
    };
    if head.query.dry_run()? == DryRun::All {
        options.dry_run = DryRun::All;
    }
    Ok(options)
}

fn dry<'a>(call: &Call<'a>, options: &DeleteOptions) -> Call<'a> {
    Call::new(&call.resource, call.namespace, call.user).dry(options.dry_run).told_by(call.trail.clone())
}
