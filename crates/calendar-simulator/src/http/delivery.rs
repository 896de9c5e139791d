//! Answers on their way to the client: whole, or as a fault wants them.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use futures_util::stream;

use super::{Answer, UnderWay};
use crate::fault::Delivery;
use crate::simulator::Simulator;

/// An answer and what becomes of it.
pub(super) struct Outgoing {
    pub(super) answer: Answer,
    pub(super) delivery: Delivery,
    /// The request counts as under way until its body is sent.
    pub(super) under_way: Option<UnderWay>,
}

/// A part of a body, or its violent end.
type Piece = Result<Vec<u8>, io::Error>;

pub(super) fn deliver(simulator: &Simulator, outgoing: Outgoing) -> Response<Body> {
    let Outgoing {
        mut answer,
        delivery,
        under_way,
    } = outgoing;
    let body = std::mem::take(&mut answer.body).into_bytes();
    let half = body.len() / 2;
    let (body, length) = match delivery {
        Delivery::Whole => (Body::from(body), None),
        Delivery::Truncated => (Body::from(body[..half].to_vec()), None),
        Delivery::Closed => (broken(), None),
        Delivery::Cut if body.is_empty() => (broken(), None),
        Delivery::Cut => {
            let parts = vec![Ok(body[..half].to_vec()), Err(breaks())];
            let stream = piecewise(simulator.clone(), parts, Duration::ZERO, under_way);
            (stream, Some(body.len()))
        }
        Delivery::Slow { pieces, pause_ms } => {
            let pieces = usize::try_from(pieces).unwrap_or(usize::MAX).max(1);
            let size = body.len().div_ceil(pieces).max(1);
            let parts = body.chunks(size).map(|part| Ok(part.to_vec())).collect();
            let pause = Duration::from_millis(pause_ms);
            let stream = piecewise(simulator.clone(), parts, pause, under_way);
            (stream, Some(body.len()))
        }
    };
    let mut response = respond(answer, body);
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

pub(super) fn respond(answer: Answer, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn breaks() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Fails before anything of the answer has left: the server closes the connection without a word.
fn broken() -> Body {
    Body::from_stream(stream::iter([Piece::Err(breaks())]))
}

fn piecewise(
    simulator: Simulator,
    parts: Vec<Piece>,
    pause: Duration,
    under_way: Option<UnderWay>,
) -> Body {
    let state = (parts.into_iter(), simulator, under_way);
    Body::from_stream(stream::unfold(
        state,
        move |(mut parts, simulator, under_way)| async move {
            let part = parts.next()?;
            // Also without a pause the server gets to send what it has.
            tokio::task::yield_now().await;
            simulator.pause(pause).await;
            Some((part, (parts, simulator, under_way)))
        },
    ))
}
