//! An HTTP server with connections that are bounded in number and in time.
//!
//! axum's own server waits for a request's head and for a slow reader without end: a few thousand sockets with half a head
//! would use up the process's descriptors.

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Sleep, sleep, timeout},
};
use tower::ServiceExt;

/// Most bytes of a request's head, and of what is read ahead.
const MAX_BUFFER: usize = 64 * 1024;
/// Pause after a failed accept, and between two requests to close idle connections. A connection that is younger is spared.
const PAUSE: Duration = Duration::from_millis(250);

/// Bounds of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most connections at once. At this number connections without a request are closed for new ones.
    pub connections: usize,
    /// Longest wait for the rest of a request's head, from the connection's or the head's beginning.
    pub head: Duration,
    /// Longest wait for the next request.
    pub idle: Duration,
    /// Longest wait for a client to read more of its answer.
    pub write: Duration,
}

/// Serves until `stop` is done; returns when every connection is closed. A connection that runs a request then is closed
/// after its answer.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, stop: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let close_idle = watch::Sender::new(());
    let mut stop = pin!(stop);
    'accepting: loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let permit = loop {
            if let Ok(permit) = Arc::clone(&slots).try_acquire_owned() {
                break permit;
            }
            // It waits here, where it costs nothing but its socket.
            close_idle.send_replace(());
            tokio::select! {
                freed = timeout(PAUSE, Arc::clone(&slots).acquire_owned()) => if let Ok(Ok(permit)) = freed {
                    break permit;
                },
                () = &mut stop => break 'accepting,
            }
        };
        tokio::spawn(connection(stream, router.clone(), limits, close_idle.subscribe(), permit));
    }
    // Every connection ends after its answer.
    drop((listener, close_idle));
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    drop(slots.acquire_many(all).await);
}

/// Whether an accept failed only for the connection that it was about to return.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: ConnectionLimits,
    mut close_idle: watch::Receiver<()>,
    _slot: OwnedSemaphorePermit,
) {
    drop(stream.set_nodelay(true));
    let activity = Arc::new(Activity::default());
    let waiting = Arc::clone(&activity);
    let io = TokioIo::new(TimedStream::new(stream, limits, Arc::clone(&activity)));
    let service = service_fn(move |request: http::Request<Incoming>| {
        activity.begin_request();
        let (router, activity) = (router.clone(), Arc::clone(&activity));
        async move {
            let response = router.oneshot(request.map(Body::new)).await;
            activity.end_request();
            response
        }
    });
    let mut served = pin!(http1::Builder::new().max_buf_size(MAX_BUFFER).serve_connection(io, service));
    let began = Instant::now();
    loop {
        tokio::select! {
            // Errors are the client's: it left, or it was too slow.
            _ = served.as_mut() => return,
            closing = close_idle.changed() => match closing {
                // The server stops.
                Err(_) => break,
                Ok(()) if waiting.is_running() => break,
                Ok(()) if began.elapsed() > PAUSE => return,
                Ok(()) => {}
            },
        }
    }
    served.as_mut().graceful_shutdown();
    drop(served.await);
}

/// What a connection waits for, as a number that only grows: even while a head is awaited, odd while a request runs.
#[derive(Default)]
struct Activity(AtomicUsize);

impl Activity {
    fn begin_request(&self) {
        self.0.fetch_or(1, Ordering::Relaxed);
    }

    fn end_request(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn is_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) % 2 == 1
    }
}

/// A stream that fails with `TimedOut` when the other side keeps it waiting.
struct TimedStream<S> {
    stream: S,
    limits: ConnectionLimits,
    activity: Arc<Activity>,
    reading: Option<Reading>,
    writing: Option<Pin<Box<Sleep>>>,
}

/// A wait for a request's head.
struct Reading {
    /// The activity that it belongs to.
    activity: usize,
    /// Whether some of the head has come.
    begun: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<S> TimedStream<S> {
    fn new(stream: S, limits: ConnectionLimits, activity: Arc<Activity>) -> Self {
        Self { stream, limits, activity, reading: None, writing: None }
    }

    /// Whether the head is overdue. The first head of a connection has to come at once, later ones within the idle timeout.
    fn is_overdue(&mut self, context: &mut Context<'_>) -> bool {
        let activity = self.activity.0.load(Ordering::Relaxed);
        if activity % 2 == 1 {
            self.reading = None;
            return false;
        }
        let current = self.reading.take().filter(|reading| reading.activity == activity);
        let begun = activity == 0;
        let limit = if begun { self.limits.head } else { self.limits.idle };
        let reading = self.reading.insert(current.unwrap_or_else(|| Reading {
            activity,
            begun,
            deadline: Box::pin(sleep(limit)),
        }));
        reading.deadline.as_mut().poll(context).is_ready()
    }

    /// Notes that some of a head, or of a body, has come.
    fn note_read(&mut self) {
        let activity = self.activity.0.load(Ordering::Relaxed);
        if activity % 2 == 1 || self.reading.as_ref().is_some_and(|r| r.activity == activity && r.begun) {
            return;
        }
        self.reading = Some(Reading { activity, begun: true, deadline: Box::pin(sleep(self.limits.head)) });
    }

    fn timed<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(result) => {
                self.writing = None;
                // The connection is not read again before something happens: the wait for the next head begins here, and
                // again with each part of the answer.
                let _ = self.is_overdue(context);
                if let Some(reading) = self.reading.as_mut().filter(|reading| !reading.begun) {
                    reading.deadline.as_mut().reset(Instant::now() + self.limits.idle);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let limit = self.limits.write;
                let deadline = self.writing.get_or_insert_with(|| Box::pin(sleep(limit)));
                match deadline.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    self.note_read();
                }
                Poll::Ready(result)
            }
            Poll::Pending if self.is_overdue(context) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
    };

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections: 4,
        head: Duration::from_millis(400),
        idle: Duration::from_millis(1200),
        write: Duration::from_millis(400),
    };

    async fn start(limits: ConnectionLimits) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/slow", get(|| async { sleep(Duration::from_millis(900)).await }))
            .route("/large", get(|| async { vec![0_u8; 64 << 20] }));
        let server = tokio::spawn(serve(listener, router, limits, async { drop(stopped.await) }));
        (address, stop, server)
    }

    async fn connect(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Until the server closes the connection, and what came until then.
    async fn closed(mut stream: TcpStream) -> (Duration, Vec<u8>) {
        let (began, mut text) = (Instant::now(), Vec::new());
        drop(timeout(Duration::from_secs(10), stream.read_to_end(&mut text)).await.unwrap());
        (began.elapsed(), text)
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up_however_it_trickles() {
        let (address, _stop, _server) = start(LIMITS).await;
        assert!(closed(connect(address, "").await).await.0 < Duration::from_millis(1100));
        assert!(closed(connect(address, "GET / HTTP/1.1\r\nHost: a\r\n").await).await.0 < Duration::from_millis(1100));
        let mut trickle = connect(address, "GET / HTTP/1.1\r\n").await;
        let began = Instant::now();
        while trickle.write_all(b"a: b\r\n").await.is_ok() && began.elapsed() < Duration::from_secs(5) {
            sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_connection_may_be_idle_and_a_request_may_take_longer_than_a_head() {
        let (address, _stop, _server) = start(LIMITS).await;
        let mut stream = connect(address, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut bytes = [0; 4096];
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
        // Longer than a head may take, and less than a connection may be idle.
        sleep(Duration::from_millis(700)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
        let (idle, _) = closed(stream).await;
        assert!((Duration::from_millis(1100)..Duration::from_millis(2500)).contains(&idle), "{idle:?}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (address, _stop, _server) = start(ConnectionLimits { connections: 1, ..LIMITS }).await;
        let stuck = connect(address, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Its connection is the only one: another client is answered when it is given up.
        let (took, answer) =
            closed(connect(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await).await;
        assert!(String::from_utf8_lossy(&answer).ends_with("hello"));
        assert!(took < Duration::from_secs(5), "{took:?}");
        drop(stuck);
    }

    #[tokio::test]
    async fn at_the_cap_connections_without_a_request_make_room() {
        let patient = ConnectionLimits { head: Duration::from_secs(60), idle: Duration::from_secs(60), ..LIMITS };
        let (address, stop, server) = start(patient).await;
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(connect(address, "GET / HTTP/1.1\r\n").await);
        }
        for _ in 0..3 {
            let call = connect(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            let (took, answer) = closed(call).await;
            assert!(String::from_utf8_lossy(&answer).ends_with("hello") && took < Duration::from_secs(5), "{took:?}");
        }
        stop.send(()).unwrap();
        timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    }
}
