//! The daemon's side of the control socket: listens, keeps clients within bounds, and hands requests to a [`Handler`].
//!
//! However a client behaves (silent, slow, garbled, gone), it costs one of [`Limits::clients`] places for a bounded
//! time and nothing else, and who is silent gives way to the next. A request that has been taken up is carried through even if
//! its client hangs up; only a pass over directories, which can take hours, ends with who asked for it.

pub(crate) mod places;

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ControlError;
use super::listener::Listener;
use super::protocol::{
    self, AuditList, Code, Judged, Judgement, Looked, MAX_LINE, Progress, Refusal, Released, Reply,
    Request, SortProgress, SortSummary, Undo,
};
use super::status::Status;
use crate::index::entry::{Entry, Story};
use crate::index::query::Query;
use crate::index::verify::{Finding, Summary};
use places::{Places, Silent};

/// Who is at the other end of the socket, as the kernel says (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Process, when it is in a namespace that can be seen.
    pub pid: Option<i32>,
}

type Answer<T> = Result<T, Refusal>;

/// What the daemon does about requests. A sender that is closed means that the client has gone: stop when convenient.
pub trait Handler: Send + Sync + 'static {
    /// How the daemon is.
    fn status(&self, peer: Peer) -> impl Future<Output = Answer<Status>> + Send;
    /// Entries, the newest first.
    fn query(
        &self,
        peer: Peer,
        query: Query,
        out: mpsc::Sender<Entry>,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// How many entries.
    fn count(&self, peer: Peer, query: Query) -> impl Future<Output = Answer<u64>> + Send;
    /// Every file that is meant; none is [`Code::NotFound`].
    fn show(&self, peer: Peer, what: String) -> impl Future<Output = Answer<Vec<Story>>> + Send;
    /// Reads settings and model again, and returns once they are in use.
    fn reload(&self, peer: Peer) -> impl Future<Output = Answer<()>> + Send;
    /// Sorts directories.
    fn sort(
        &self,
        peer: Peer,
        dirs: Vec<PathBuf>,
        dry_run: bool,
        out: mpsc::Sender<SortProgress>,
    ) -> impl Future<Output = Answer<SortSummary>> + Send;
    /// What lies in the quarantine.
    fn quarantine_list(
        &self,
        peer: Peer,
        out: mpsc::Sender<Entry>,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// Puts files back where they came from.
    fn quarantine_release(
        &self,
        peer: Peer,
        what: Vec<String>,
    ) -> impl Future<Output = Answer<Vec<Released>>> + Send;
    /// Records what a person says about files.
    fn judge(
        &self,
        peer: Peer,
        judgement: Judgement,
    ) -> impl Future<Output = Answer<Vec<Judged>>> + Send;
    /// Looks at the library now.
    fn look_at_library(&self, peer: Peer) -> impl Future<Output = Answer<Looked>> + Send;
    /// Draws filed files at random.
    fn audit_sample(
        &self,
        peer: Peer,
        count: u64,
        seed: u64,
        out: mpsc::Sender<Entry>,
    ) -> impl Future<Output = Answer<AuditList>> + Send;
    /// Takes filed files back to where they came from.
    fn undo(
        &self,
        peer: Peer,
        which: Undo,
        dry_run: bool,
    ) -> impl Future<Output = Answer<Vec<Released>>> + Send;
    /// Builds the index again, and returns how many records the ledger has.
    fn reindex(
        &self,
        peer: Peer,
        out: mpsc::Sender<Progress>,
    ) -> impl Future<Output = Answer<u64>> + Send;
    /// Compares ledger, index and folders.
    fn verify(
        &self,
        peer: Peer,
        digests: bool,
        out: mpsc::Sender<Finding>,
    ) -> impl Future<Output = Answer<Summary>> + Send;
    /// Every file that gets its fate, until the sender is closed.
    fn subscribe(
        &self,
        peer: Peer,
        out: mpsc::Sender<Entry>,
    ) -> impl Future<Output = Answer<()>> + Send;
}

/// What clients may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time. One more takes the place of whoever has been silent for longest; where everybody is being
    /// served, it is told so and closed.
    pub clients: usize,
    /// How long a client may take to send a whole line, also when it just waits.
    pub silence: Duration,
    /// How long a client may take to read one reply.
    pub slowness: Duration,
    /// How often `alive` is said while a request is worked on.
    pub alive: Duration,
    /// How long requests under way may take to end when the daemon stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 32,
            silence: Duration::from_secs(30),
            slowness: Duration::from_secs(30),
            alive: Duration::from_secs(10),
            grace: Duration::from_secs(5),
        }
    }
}

/// How often it is looked whether the socket is still where clients look for it.
const LOOK_FOR_SOCKET_EVERY: Duration = Duration::from_secs(5);

/// Serves clients until `stop`; then removes the socket, lets requests under way end for a while, and returns.
pub async fn serve<H: Handler>(
    listener: Listener,
    handler: Arc<H>,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ControlError> {
    let path = listener.path.clone();
    let failed = |source| ControlError::Io {
        path: path.clone(),
        source,
    };
    let mut listener = listener;
    let mut socket = listener.to_tokio().map_err(failed)?;
    let mut looks = tokio::time::interval(LOOK_FOR_SOCKET_EVERY);
    let places = Places::new(limits.clients);
    let door = Arc::new(Door {
        path: listener.path.clone(),
        told: Once::new(),
    });
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = clients.join_next() => continue,
            _ = looks.tick() => {
                if let Some(anew) = listener.made_again() {
                    socket = anew.to_tokio().map_err(failed)?;
                    listener = anew;
                }
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match places.take().await {
                Some(place) => {
                    let (handler, stop) = (Arc::clone(&handler), stop.clone());
                    let (door, silent) = (Arc::clone(&door), places.silent());
                    clients.spawn(async move {
                        let _place = place;
                        let served = admit(stream, &door, &*handler, silent, limits, &stop);
                        if let Err(error) = served.await {
                            tracing::debug!(%error, "a control client has gone");
                        }
                    });
                }
                None => turn_away(&stream, &busy()),
            },
            // Out of descriptors, usually: try again when that has passed.
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot take a client");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    }
    drop((socket, listener));
    let ended = timeout(limits.grace, async {
        while clients.join_next().await.is_some() {}
    })
    .await;
    if ended.is_err() {
        tracing::warn!(clients = clients.len(), "control requests are given up");
        clients.shutdown().await;
    }
    Ok(())
}

fn busy() -> Refusal {
    Refusal::new(
        Code::Busy,
        "the daemon talks to too many clients: try again later",
    )
}

/// Tells a client why it is not listened to, if it is ready to hear it.
fn turn_away(stream: &UnixStream, why: &Refusal) {
    if let Ok(line) = protocol::to_line(&Reply::Error(why.clone())) {
        let _ = stream.try_write(&line);
    }
}

/// Listens to a client, if it may be here.
async fn admit<H: Handler>(
    stream: UnixStream,
    door: &Door,
    handler: &H,
    silent: Silent,
    limits: Limits,
    stop: &CancellationToken,
) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid: credentials.pid(),
    };
    if door.is_closed_to(peer, &stream).await? {
        turn_away(&stream, &stranger());
        return Ok(());
    }
    converse(stream, peer, handler, silent, limits, stop).await
}

/// The second look at who comes in. The socket's mode is the first; it may have been opened too far.
struct Door {
    path: PathBuf,
    /// Said in the log once, however often it is tried.
    told: Once,
}

impl Door {
    async fn is_closed_to(&self, peer: Peer, stream: &UnixStream) -> io::Result<bool> {
        // Whoever administers the service may have given the socket another group since it was made.
        let path = self.path.clone();
        let look = move || std::fs::symlink_metadata(path).map(|socket| socket.gid());
        let group = tokio::task::spawn_blocking(look).await?.ok();
        let groups = crate::sys::peer::groups(stream).ok();
        let service = rustix::process::geteuid().as_raw();
        let closed = is_stranger(peer, groups.as_deref(), service, group);
        if closed {
            self.told.call_once(|| {
                tracing::warn!(
                    uid = peer.uid,
                    "the control socket has let in somebody who is not in its group, who was refused: look at the mode of {}",
                    self.path.display()
                );
            });
        }
        Ok(closed)
    }
}

/// Whether a peer is neither root, nor the service's user, nor in the socket's group. Where the kernel does not say which
/// groups it is in, the socket's mode alone decides.
fn is_stranger(
    peer: Peer,
    groups: Option<&[u32]>,
    service: u32,
    socket_group: Option<u32>,
) -> bool {
    let (Some(groups), Some(wanted)) = (groups, socket_group) else {
        return false;
    };
    peer.uid != 0 && peer.uid != service && peer.gid != wanted && !groups.contains(&wanted)
}

fn stranger() -> Refusal {
    Refusal::new(
        Code::Forbidden,
        "only root, the service's own user and members of the control socket's group may talk to the daemon: ask to be \
         added to that group",
    )
}

/// One client, from its first line to its last.
async fn converse<H: Handler>(
    mut stream: UnixStream,
    peer: Peer,
    handler: &H,
    mut silent: Silent,
    limits: Limits,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // One that does not read is not waited for.
            () = silent.gives_way() => {
                turn_away(writer.as_ref(), &busy());
                return Ok(());
            }
            read = timeout(limits.silence, read_line(&mut reader, &mut line)) => read,
        };
        match read {
            Ok(Ok(Line::Whole)) => {}
            Ok(Ok(Line::End)) => return Ok(()),
            Ok(Ok(Line::TooLong)) => {
                let refusal = Refusal::new(
                    Code::BadRequest,
                    format!("a request has at most {MAX_LINE} bytes"),
                );
                return say(&mut writer, &Reply::Error(refusal), limits).await;
            }
            Ok(Err(err)) => return Err(err),
            Err(_) => {
                let refusal =
                    Refusal::new(Code::BadRequest, "no request for a long time: good-bye");
                return say(&mut writer, &Reply::Error(refusal), limits).await;
            }
        }
        let request = match protocol::parse_request(&line) {
            Ok(request) => request,
            Err(refusal) => {
                say_or_give_way(&mut writer, &Reply::Error(refusal), &silent, limits).await?;
                continue;
            }
        };
        let places = silent.speaks();
        let (replies, mut outbox) = mpsc::channel(64);
        let work = answer(handler, peer, request, replies, stop);
        let ((), told) = tokio::join!(work, tell(&mut writer, &mut outbox, &places, limits));
        told?;
        silent = places.silent();
    }
}

/// How a line ended.
enum Line {
    Whole,
    End,
    TooLong,
}

/// Reads one line, newline excluded; never keeps more than [`MAX_LINE`] bytes.
async fn read_line(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<Line> {
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(Line::End);
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(bytes.len());
        if line.len() + taken >= MAX_LINE {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(taken + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(Line::Whole);
        }
    }
}

/// Writes replies as they come, and `alive` while none does. A client that has gone closes the outbox, and one that leaves a
/// reply unread is silent: it gives way to others.
async fn tell(
    writer: &mut (impl AsyncWrite + Unpin),
    outbox: &mut mpsc::Receiver<Reply>,
    places: &Arc<Places>,
    limits: Limits,
) -> io::Result<()> {
    loop {
        let reply = match timeout(limits.alive, outbox.recv()).await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(()),
            Err(_) => Reply::Alive {},
        };
        if let Err(err) = say_or_give_way(writer, &reply, &places.silent(), limits).await {
            outbox.close();
            return Err(err);
        }
    }
}

async fn say_or_give_way(
    writer: &mut (impl AsyncWrite + Unpin),
    reply: &Reply,
    silent: &Silent,
    limits: Limits,
) -> io::Result<()> {
    tokio::select! {
        biased;
        told = say(writer, reply, limits) => told,
        () = silent.gives_way() => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn say(
    writer: &mut (impl AsyncWrite + Unpin),
    reply: &Reply,
    limits: Limits,
) -> io::Result<()> {
    let line = protocol::to_line(reply)?;
    timeout(limits.slowness, writer.write_all(&line)).await?
}

/// Has a request handled and its replies sent, the last of them `done` or `error`.
async fn answer<H: Handler>(
    handler: &H,
    peer: Peer,
    request: Request,
    replies: mpsc::Sender<Reply>,
    stop: &CancellationToken,
) {
    let result = match request {
        Request::Status {} => handler
            .status(peer)
            .await
            .map(|status| vec![Reply::Status(Box::new(status))]),
        Request::Query { query } => {
            let entry = |entry| Reply::Entry(Box::new(entry));
            stream(&replies, entry, |out| handler.query(peer, query, out))
                .await
                .map(|()| vec![])
        }
        Request::Count { query } => handler
            .count(peer, query)
            .await
            .map(|count| vec![Reply::Count { count }]),
        Request::Show { what } => handler.show(peer, what).await.map(|stories| {
            stories
                .into_iter()
                .map(|story| Reply::Story(Box::new(story)))
                .collect()
        }),
        Request::Reload {} => handler.reload(peer).await.map(|()| vec![]),
        Request::Sort { dirs, dry_run } => stream(&replies, Reply::SortProgress, |out| {
            handler.sort(peer, dirs, dry_run, out)
        })
        .await
        .map(|summary| vec![Reply::Sorted(summary)]),
        Request::QuarantineList {} => {
            let entry = |entry| Reply::Entry(Box::new(entry));
            stream(&replies, entry, |out| handler.quarantine_list(peer, out))
                .await
                .map(|()| vec![])
        }
        Request::QuarantineRelease { what } => handler
            .quarantine_release(peer, what)
            .await
            .map(|released| released.into_iter().map(Reply::Released).collect()),
        Request::Judge { judgement } => handler
            .judge(peer, judgement)
            .await
            .map(|judged| judged.into_iter().map(Reply::Judged).collect()),
        Request::LookAtLibrary {} => handler
            .look_at_library(peer)
            .await
            .map(|looked| vec![Reply::Looked(looked)]),
        Request::AuditSample { count, seed } => {
            let entry = |entry| Reply::Entry(Box::new(entry));
            stream(&replies, entry, |out| {
                handler.audit_sample(peer, count, seed, out)
            })
            .await
            .map(|list| vec![Reply::Audit(list)])
        }
        Request::Undo { which, dry_run } => handler
            .undo(peer, which, dry_run)
            .await
            .map(|undone| undone.into_iter().map(Reply::Released).collect()),
        Request::Reindex {} => stream(&replies, Reply::Progress, |out| handler.reindex(peer, out))
            .await
            .map(|records| vec![Reply::Reindexed { records }]),
        Request::Verify { digests } => {
            stream(&replies, finding, |out| handler.verify(peer, digests, out))
                .await
                .map(|summary| vec![Reply::Verified(summary)])
        }
        Request::Subscribe {} => {
            let entry = |entry| Reply::Entry(Box::new(entry));
            tokio::select! {
                ended = stream(&replies, entry, |out| handler.subscribe(peer, out)) => ended.map(|()| vec![]),
                () = stop.cancelled() => Err(Refusal::new(Code::Stopping, "the daemon is stopping")),
            }
        }
    };
    let last = match result {
        Ok(more) => more.into_iter().chain([Reply::Done {}]).collect(),
        Err(refusal) => vec![Reply::Error(refusal)],
    };
    for reply in last {
        if replies.send(reply).await.is_err() {
            return;
        }
    }
}

/// Runs a handler that streams, passing on what it sends. When the client goes, the handler's sender is closed.
async fn stream<T, F, R>(
    replies: &mpsc::Sender<Reply>,
    reply: impl Fn(T) -> Reply,
    handle: impl FnOnce(mpsc::Sender<T>) -> F,
) -> Answer<R>
where
    F: Future<Output = Answer<R>>,
{
    let (out, mut items) = mpsc::channel(64);
    let forward = async {
        loop {
            let item = tokio::select! {
                item = items.recv() => item,
                () = replies.closed() => None,
            };
            let Some(item) = item else { break };
            if replies.send(reply(item)).await.is_err() {
                break;
            }
        }
        items.close();
        while items.recv().await.is_some() {}
    };
    let (result, ()) = tokio::join!(handle(out), forward);
    result
}

fn finding(finding: Finding) -> Reply {
    match finding {
        Finding::Difference(difference) => Reply::Difference(difference),
        Finding::Progress(stage, done, total) => Reply::Progress(Progress {
            stage: stage.to_owned(),
            done,
            total,
        }),
    }
}

#[cfg(test)]
mod tests;
