//! What the control socket promises, to good clients and to bad ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader as StdReader, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::time::Instant;

use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::control::client::Client;
use crate::control::listener::bind;
use crate::control::protocol::{parse_reply, to_line};
use crate::domain::placement::RootId;
use crate::domain::{Placement, RelPath};
use crate::filing::record::{Digest, RecordId};
use crate::index::verify::{Difference, Kind};

fn entry(n: u32) -> Entry {
    let at = Placement {
        root: RootId::Library,
        path: RelPath::new(format!("a/{n}.dcm")).unwrap(),
    };
    Entry::adopted(&RecordId(format!("x-{n}")), &at, &Digest("00".into()), 1)
}

/// Answers everything with something recognisable.
#[derive(Default)]
struct Fake {
    /// Told when a stream's client has gone.
    gone: Notify,
    /// Told when a subscription has begun.
    begun: Notify,
}

impl Handler for Fake {
    async fn status(&self, peer: Peer) -> Answer<Status> {
        Ok(Status {
            pid: peer.uid,
            ..Status::default()
        })
    }
    async fn query(&self, _: Peer, query: Query, out: mpsc::Sender<Entry>) -> Answer<()> {
        for n in 0..query.limit.unwrap_or(1) as u32 {
            if out.send(entry(n)).await.is_err() {
                self.gone.notify_one();
                break;
            }
        }
        Ok(())
    }
    async fn count(&self, _: Peer, _: Query) -> Answer<u64> {
        Ok(42)
    }
    async fn show(&self, _: Peer, what: String) -> Answer<Vec<Story>> {
        Err(Refusal::new(Code::NotFound, format!("no record of {what}")))
    }
    async fn reload(&self, _: Peer) -> Answer<()> {
        Err(Refusal::new(Code::Failed, "line 7: unknown key"))
    }
    async fn sort(
        &self,
        _: Peer,
        dirs: Vec<PathBuf>,
        _: bool,
        out: mpsc::Sender<SortProgress>,
    ) -> Answer<SortSummary> {
        let _ = out
            .send(SortProgress {
                found: dirs.len() as u64,
                ..SortProgress::default()
            })
            .await;
        Ok(SortSummary {
            filed: 1,
            ..SortSummary::default()
        })
    }
    async fn quarantine_list(&self, _: Peer, out: mpsc::Sender<Entry>) -> Answer<()> {
        let _ = out.send(entry(9)).await;
        Ok(())
    }
    async fn quarantine_release(&self, _: Peer, what: Vec<String>) -> Answer<Vec<Released>> {
        Ok(what
            .into_iter()
            .map(|what| Released {
                what,
                to: None,
                error: None,
                not_restored: None,
                label: None,
            })
            .collect())
    }
    async fn judge(&self, _: Peer, judgement: Judgement) -> Answer<Vec<Judged>> {
        let Judgement::Confirm { what } = judgement else {
            return Err(Refusal::new(Code::Failed, "only confirmations"));
        };
        Ok(what
            .into_iter()
            .map(|what| Judged {
                what,
                category: Some("brace".into()),
                to: None,
                error: None,
                already: false,
            })
            .collect())
    }
    async fn look_at_library(&self, _: Peer) -> Answer<Looked> {
        Ok(Looked::default())
    }
    async fn audit_sample(
        &self,
        _: Peer,
        count: u64,
        seed: u64,
        out: mpsc::Sender<Entry>,
    ) -> Answer<AuditList> {
        for n in 0..count as u32 {
            let _ = out.send(entry(n)).await;
        }
        Ok(AuditList {
            id: "x".into(),
            drawn_us: 1,
            seed,
            filed: 9,
            files: Vec::new(),
        })
    }
    async fn undo(&self, _: Peer, which: Undo, _: bool) -> Answer<Vec<Released>> {
        self.quarantine_release(
            Peer {
                uid: 0,
                gid: 0,
                pid: None,
            },
            which.what,
        )
        .await
    }
    async fn reindex(&self, _: Peer, _: mpsc::Sender<Progress>) -> Answer<u64> {
        // Longer than `Limits::alive` in these tests.
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(3)
    }
    async fn verify(&self, _: Peer, _: bool, out: mpsc::Sender<Finding>) -> Answer<Summary> {
        let difference = Difference {
            kind: Kind::Missing,
            id: None,
            at: None,
            detail: "gone".into(),
        };
        let _ = out.send(Finding::Difference(difference)).await;
        Ok(Summary {
            records: 5,
            ..Summary::default()
        })
    }
    async fn subscribe(&self, _: Peer, out: mpsc::Sender<Entry>) -> Answer<()> {
        let _ = out.send(entry(1)).await;
        self.begun.notify_one();
        out.closed().await;
        self.gone.notify_one();
        Ok(())
    }
}

struct Daemon {
    runtime: tokio::runtime::Runtime,
    handler: Arc<Fake>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), ControlError>>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn daemon(limits: Limits) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (handler, stop) = (Arc::new(Fake::default()), CancellationToken::new());
    let listener = bind(&path).unwrap();
    let serving = runtime.spawn(serve(listener, Arc::clone(&handler), limits, stop.clone()));
    Daemon {
        runtime,
        handler,
        stop,
        serving,
        path,
        _dir: dir,
    }
}

fn quick() -> Limits {
    Limits {
        alive: Duration::from_millis(5),
        ..Limits::default()
    }
}

impl Daemon {
    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap().expect("a daemon")
    }

    fn raw(&self) -> (StdStream, StdReader<StdStream>) {
        let stream = StdStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let reader = StdReader::new(stream.try_clone().unwrap());
        (stream, reader)
    }
}

fn next(reader: &mut impl BufRead) -> Option<Reply> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(0) => None,
        Err(err) if err.kind() == io::ErrorKind::ConnectionReset => None,
        read => {
            read.unwrap();
            Some(parse_reply(&line).unwrap())
        }
    }
}

#[test]
fn every_request_is_answered_on_one_connection() {
    let daemon = daemon(quick());
    let mut client = daemon.client();
    let mut ask = |request: &Request| -> Vec<Reply> {
        client
            .request(request)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(
        ask(&Request::Status {}),
        [Reply::Status(Box::new(Status {
            pid: uid,
            ..Status::default()
        }))]
    );
    let query = Query {
        limit: Some(200),
        ..Query::default()
    };
    assert_eq!(
        ask(&Request::Query {
            query: query.clone()
        })
        .len(),
        200
    );
    assert_eq!(ask(&Request::Count { query }), [Reply::Count { count: 42 }]);
    assert_eq!(
        ask(&Request::Sort {
            dirs: vec!["/a".into()],
            dry_run: true
        })
        .len(),
        2
    );
    assert_eq!(
        ask(&Request::QuarantineList {}),
        [Reply::Entry(Box::new(entry(9)))]
    );
    assert_eq!(
        ask(&Request::QuarantineRelease {
            what: vec!["a".into(), "b".into()]
        })
        .len(),
        2
    );
    let judgement = Judgement::Confirm {
        what: vec!["a".into(), "b".into()],
    };
    assert_eq!(ask(&Request::Judge { judgement }).len(), 2);
    assert_eq!(
        ask(&Request::LookAtLibrary {}),
        [Reply::Looked(Looked::default())]
    );
    assert_eq!(ask(&Request::AuditSample { count: 3, seed: 1 }).len(), 4);
    let which = Undo {
        let_go: false,
        what: vec!["a".into()],
        ..Undo::default()
    };
    assert_eq!(
        ask(&Request::Undo {
            which,
            dry_run: true
        })
        .len(),
        1
    );
    assert_eq!(ask(&Request::Reindex {}), [Reply::Reindexed { records: 3 }]);
    assert_eq!(ask(&Request::Verify { digests: true }).len(), 2);
    let refused = client.ask(&Request::Reload {}, |_| Some(())).unwrap_err();
    assert_eq!(refused.to_string(), "line 7: unknown key");
    assert!(
        client
            .ask(&Request::Show { what: "1.2".into() }, |_| Some(()))
            .is_err()
    );
}

#[test]
fn only_root_the_services_user_and_the_sockets_group_are_let_in() {
    let peer = |uid, gid| Peer {
        uid,
        gid,
        pid: None,
    };
    let (service, wanted) = (900, Some(40));
    let none: Option<&[u32]> = Some(&[]);
    assert!(is_stranger(peer(1000, 1000), none, service, wanted));
    assert!(is_stranger(peer(1000, 0), Some(&[0, 41]), service, wanted));
    assert!(!is_stranger(peer(0, 0), none, service, wanted));
    assert!(!is_stranger(peer(service, 1), none, service, wanted));
    assert!(!is_stranger(peer(1000, 40), none, service, wanted));
    assert!(!is_stranger(
        peer(1000, 1000),
        Some(&[7, 40]),
        service,
        wanted
    ));
    // What the kernel does not say is left to the socket's mode.
    assert!(!is_stranger(peer(1000, 1000), None, service, wanted));
    assert!(!is_stranger(peer(1000, 1000), none, service, None));
}

#[test]
fn a_subscriber_gets_events_until_it_hangs_up_and_then_costs_nothing() {
    let daemon = daemon(quick());
    let mut client = daemon.client();
    assert!(matches!(
        client.request(&Request::Subscribe {}).unwrap().next(),
        Some(Ok(Reply::Entry(_)))
    ));
    drop(client);
    daemon.runtime.block_on(daemon.handler.gone.notified());
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_an_answer_stops_it() {
    let daemon = daemon(quick());
    let mut client = daemon.client();
    let query = Query {
        limit: Some(u64::from(u32::MAX)),
        ..Query::default()
    };
    assert!(
        client
            .request(&Request::Query { query })
            .unwrap()
            .next()
            .is_some()
    );
    drop(client);
    daemon.runtime.block_on(daemon.handler.gone.notified());
}

#[test]
fn a_line_that_is_no_request_is_answered_and_the_next_one_served() {
    let daemon = daemon(Limits::default());
    let (mut stream, mut reader) = daemon.raw();
    for line in [
        &b"hello\n"[..],
        b"\n",
        b"{\"v\":1,\"request\":\"make-coffee\"}\n",
        b"\xff\xfe\x00\n",
    ] {
        stream.write_all(line).unwrap();
        assert!(
            matches!(next(&mut reader), Some(Reply::Error(refusal)) if refusal.code == Code::BadRequest)
        );
    }
    stream
        .write_all(&to_line(&Request::Status {}).unwrap())
        .unwrap();
    assert!(matches!(next(&mut reader), Some(Reply::Status(_))));
    assert_eq!(next(&mut reader), Some(Reply::Done {}));
}

#[test]
fn an_endless_line_is_refused_without_being_kept() {
    let daemon = daemon(Limits::default());
    let (mut stream, mut reader) = daemon.raw();
    // The daemon hangs up before it has read everything.
    let _ = stream.write_all(&vec![b'x'; MAX_LINE + 1000]);
    assert!(
        matches!(next(&mut reader), Some(Reply::Error(refusal)) if refusal.message.contains("bytes"))
    );
    assert_eq!(next(&mut reader), None);
}

#[test]
fn a_silent_client_is_sent_away() {
    let daemon = daemon(Limits {
        silence: Duration::from_millis(20),
        ..Limits::default()
    });
    let (mut stream, mut reader) = daemon.raw();
    stream.write_all(b"{\"v\":1,").unwrap();
    assert!(matches!(next(&mut reader), Some(Reply::Error(_))));
    assert_eq!(next(&mut reader), None);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let daemon = daemon(Limits {
        slowness: Duration::from_millis(20),
        ..quick()
    });
    let (mut stream, _reader) = daemon.raw();
    let query = Query {
        limit: Some(u64::from(u32::MAX)),
        ..Query::default()
    };
    stream
        .write_all(&to_line(&Request::Query { query }).unwrap())
        .unwrap();
    daemon.runtime.block_on(daemon.handler.gone.notified());
}

#[test]
fn one_client_too_many_is_told_so_while_everybody_is_being_served() {
    let daemon = daemon(Limits {
        clients: 1,
        ..Limits::default()
    });
    let mut first = daemon.client();
    let mut replies = first.request(&Request::Subscribe {}).unwrap();
    assert!(replies.next().unwrap().is_ok());
    let refused = daemon
        .client()
        .ask(&Request::Status {}, |_| Some(()))
        .unwrap_err();
    assert!(is_busy(&refused), "{refused}");
}

#[test]
fn whoever_is_silent_gives_way_to_the_next() {
    let daemon = daemon(Limits {
        clients: 2,
        ..Limits::default()
    });
    let (_silent, mut first) = daemon.raw();
    let (mut half, _second) = daemon.raw();
    half.write_all(b"{\"v\":1,").unwrap();
    let query = Query::default;
    // Whoever comes at the same moment as another may have to come again.
    let serve = || {
        loop {
            let mut client = daemon.client();
            match client.ask(&Request::Count { query: query() }, |_| Some(())) {
                Ok(()) => return client,
                Err(refused) => assert!(is_busy(&refused), "{refused}"),
            }
        }
    };
    let _served = [serve(), serve()];
    let mut line = String::new();
    first.read_line(&mut line).unwrap();
    assert!(line.contains("too many clients"), "{line}");
}

/// Garbage as well as good questions: their answers pile up until the socket is full.
#[test]
fn clients_that_ask_on_and_on_and_read_nothing_give_way_to_others() {
    let daemon = daemon(Limits {
        clients: 4,
        ..Limits::default()
    });
    let garbage = b"{\"v\":1,\"nothing\":{}}\n".to_vec();
    let question = to_line(&Request::Status {}).unwrap();
    let mut rude = Vec::new();
    for line in [garbage, question].iter().cycle().take(20) {
        let (stream, _) = daemon.raw();
        stream.set_nonblocking(true).unwrap();
        // Until the daemon, which waits for its answers to be read, takes no more.
        let mut stream = stream;
        while stream.write(&line.repeat(100)).is_ok() {}
        rude.push(stream);
    }
    let began = Instant::now();
    let mut client = daemon.client();
    client.ask(&Request::Status {}, |_| Some(())).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

fn is_busy(error: &ControlError) -> bool {
    let busy = Code::Busy;
    matches!(error, ControlError::Refused(Refusal { code, .. }) if *code == busy)
}

#[test]
fn stopping_ends_subscriptions_and_removes_the_socket() {
    let daemon = daemon(Limits::default());
    let mut client = daemon.client();
    let mut replies = client.request(&Request::Subscribe {}).unwrap();
    assert!(replies.next().unwrap().is_ok());
    daemon.runtime.block_on(daemon.handler.begun.notified());
    daemon.stop.cancel();
    assert!(matches!(
        replies.next(),
        Some(Err(ControlError::Refused(Refusal {
            code: Code::Stopping,
            ..
        })))
    ));
    daemon.runtime.block_on(daemon.serving).unwrap().unwrap();
    assert!(!daemon.path.exists());
    assert!(Client::connect(&daemon.path).unwrap().is_none());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(StdListener::bind(&path).unwrap());
    assert!(Client::connect(&path).unwrap().is_none());
    let live = bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(ControlError::AlreadyRunning(_))));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(live);
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path), Err(ControlError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_socket_that_another_daemon_has_put_there_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let old = bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _new = bind(&path).unwrap();
    drop(old);
    assert!(path.exists());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_named_as_such() {
    let path = PathBuf::from(format!("/tmp/{}/control.sock", "x".repeat(200)));
    assert!(matches!(
        Client::connect(&path),
        Err(ControlError::PathTooLong(_))
    ));
}

#[test]
fn whatever_bytes_arrive_every_line_gets_an_answer_and_the_daemon_lives() {
    let daemon = daemon(quick());
    let lines = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..10);
    let config = ProptestConfig {
        cases: 64,
        ..ProptestConfig::default()
    };
    proptest!(config, |(lines in lines)| {
        let (mut stream, mut reader) = daemon.raw();
        for line in lines {
            let line: Vec<u8> = line.into_iter().filter(|byte| *byte != b'\n').chain([b'\n']).collect();
            stream.write_all(&line).unwrap();
            let answered = next(&mut reader);
            prop_assert!(matches!(answered, Some(Reply::Error(_))), "{answered:?}");
        }
    });
    let count = daemon.client().ask(
        &Request::Count {
            query: Query::default(),
        },
        |reply| match reply {
            Reply::Count { count } => Some(count),
            _ => None,
        },
    );
    assert_eq!(count.unwrap(), 42);
}
