//! Streams that are kept: whose, how long, within which bounds, and that no cut loses a byte.

use super::*;
use hyper::body::Body as _;
use proptest::prelude::*;
use std::future::poll_fn;
use std::pin::Pin;

const HOUR: Duration = Duration::from_secs(3600);

fn streams(n_each_max: usize, n_all_max: usize) -> Arc<Streams> {
    let (n_stream_bytes, n_streams_bytes) = (n_each_max, n_all_max);
    let resume_streams = Some(HOUR);
    let limits = Limits { resume_streams, n_stream_bytes, n_streams_bytes, ..Limits::default() };
    Streams::new(&limits)
}

fn asked(body: u32) -> Asked {
    Asked { route: "/v1/x".to_owned(), body: (body, 1) }
}

fn begin(streams: &Arc<Streams>, client: u64, id: &str) -> (Outlet, Body) {
    streams.begin(Family::OpenAi, client, Some(id), asked(1))
}

fn place(id: &str, after: Option<usize>) -> Place {
    Place { id: id.to_owned(), after, param: "last-event-id" }
}

/// Everything that there is to read, to the end.
async fn all(mut body: Body) -> String {
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// One that has ended, with a body that is dropped.
async fn ended(streams: &Arc<Streams>, client: u64, id: &str, n_bytes: usize) {
    let (mut outlet, body) = begin(streams, client, id);
    drop(body);
    outlet.send("x".repeat(n_bytes)).await.unwrap();
    outlet.finish();
}

/// Which of these the client can resume.
fn ids(streams: &Streams, client: u64) -> String {
    let has = |id: &&str| streams.resume(client, &place(id, None), None).is_ok();
    ["a", "b", "c", "d"].into_iter().filter(has).collect()
}

fn word(streams: &Streams, client: u64, place: &Place, asked: Option<&Asked>) -> &'static str {
    streams.resume(client, place, asked).map_or_else(|error| error.word(), |_| "ok")
}

#[tokio::test]
async fn a_stream_is_resumed_by_its_client_alone() {
    let streams = streams(1 << 20, 1 << 20);
    let (mut outlet, body) = begin(&streams, 1, "a");
    outlet.send("data: 1\n\n".to_owned()).await.unwrap();
    outlet.send("data: 2\n\nevent: x\ndata: 3\n\n".to_owned()).await.unwrap();
    outlet.finish();
    let whole = "id: a:0\ndata: 1\n\nid: a:1\ndata: 2\n\nid: a:2\nevent: x\ndata: 3\n\n";
    assert_eq!(all(body).await, whole);
    let rest = streams.resume(1, &place("a", Some(0)), Some(&asked(1))).unwrap();
    assert_eq!(all(rest).await, whole["id: a:0\ndata: 1\n\n".len()..]);
    assert_eq!(all(streams.resume(1, &place("a", Some(2)), None).unwrap()).await, "");
    assert_eq!(word(&streams, 2, &place("a", Some(0)), None), "stream_not_found");
    assert_eq!(word(&streams, 1, &place("b", None), None), "stream_not_found");
    for after in [3, usize::MAX] {
        assert_eq!(word(&streams, 1, &place("a", Some(after)), None), "invalid_value");
    }
    // Not with another request.
    assert_eq!(word(&streams, 1, &place("a", Some(0)), Some(&asked(2))), "invalid_value");
    streams.forget(2, "a");
    assert_eq!(ids(&streams, 1), "a");
    streams.forget(1, "a");
    assert_eq!((ids(&streams, 1), streams.n_bytes()), (String::new(), 0));
}

#[tokio::test]
async fn without_a_time_or_an_id_nothing_is_kept() {
    for (streams, id) in
        [(streams(1 << 20, 1 << 20), None), (Streams::new(&Limits::default()), Some("a"))]
    {
        let (mut outlet, body) = streams.begin(Family::OpenAi, 1, id, asked(1));
        outlet.send("data: 1\n\n".to_owned()).await.unwrap();
        assert_eq!((streams.n_bytes(), streams.lock().len()), (0, 0));
        drop(body);
        outlet.gone().await;
        assert!(outlet.send("data: 2\n\n".to_owned()).await.is_err());
        assert_eq!(ids(&streams, 1), "");
    }
}

#[tokio::test]
async fn time_counts_from_the_end() {
    let streams = streams(1 << 20, 1 << 20);
    let (outlet, body) = begin(&streams, 1, "a");
    ended(&streams, 1, "b", 1).await;
    let later = Instant::now() + HOUR;
    streams.sweep(later - HOUR / 2);
    assert_eq!(streams.lock().len(), 2);
    streams.sweep(later);
    assert_eq!(streams.lock().keys().collect::<Vec<_>>(), ["a"]);
    outlet.finish();
    // Not while somebody reads the end.
    streams.sweep(later + HOUR);
    assert_eq!(streams.lock().len(), 1);
    drop(body);
    streams.sweep(later + HOUR);
    assert_eq!((streams.lock().len(), streams.n_bytes()), (0, 0));
}

#[tokio::test]
async fn who_has_most_gives_up_what_ended_first() {
    // Room for three.
    let streams = streams(1 << 20, 3 * 1100);
    ended(&streams, 1, "a", 1000).await;
    ended(&streams, 1, "b", 1000).await;
    ended(&streams, 2, "a2", 1000).await;
    ended(&streams, 2, "c", 900).await;
    assert_eq!(ids(&streams, 1), "b");
    assert!(streams.n_bytes() <= 3 * 1100);
    // One that goes on is given up after those that have ended, which is told.
    let (mut outlet, body) = begin(&streams, 3, "d");
    for _ in 0..3 {
        outlet.send("x".repeat(1000)).await.unwrap();
    }
    assert_eq!(word(&streams, 3, &place("d", None), None), "stream_given_up");
    assert!(streams.n_bytes() <= 3 * 1100);
    outlet.finish();
    assert_eq!(all(body).await.len(), 3000 + "id: d:0\n".len() * 3);
}

#[tokio::test]
async fn a_stream_larger_than_its_bound_is_told_of_and_takes_nobodys_room() {
    let streams = streams(1000, 1 << 20);
    ended(&streams, 1, "a", 500).await;
    let (mut outlet, body) = begin(&streams, 1, "b");
    outlet.send("x".repeat(1000)).await.unwrap();
    assert_eq!(word(&streams, 1, &place("b", None), None), "stream_given_up");
    drop(body);
    outlet.gone().await;
    drop(outlet);
    assert_eq!(word(&streams, 1, &place("b", None), None), "stream_given_up");
    assert_eq!(ids(&streams, 1), "a");
}

#[tokio::test]
async fn the_number_of_streams_is_bounded() {
    let streams = streams(1 << 20, 1 << 20);
    // It has most bytes, but the other one has most streams.
    ended(&streams, 2, "a", 200_000).await;
    for stream_idx in 0..2 * N_STREAMS {
        ended(&streams, 1, &stream_idx.to_string(), 1).await;
    }
    assert_eq!(streams.lock().len(), N_STREAMS);
    assert_eq!(ids(&streams, 2), "a");
}

/// What happens to a stream.
#[derive(Debug, Clone)]
enum Act {
    /// So many events are written at once.
    Write(usize),
    /// The reader takes a frame, if there is one.
    Read,
    /// The connection is lost.
    Cut,
    /// The stream is resumed behind the last event that came, or so many before it.
    Resume(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1..5_usize).prop_map(Act::Write),
        3 => Just(Act::Read),
        1 => Just(Act::Cut),
        2 => (0..4_usize).prop_map(Act::Resume),
    ];
    prop::collection::vec(act, 1..60)
}

/// Reads a frame if there is one; whether there was.
async fn read_into(body: &mut Body, text: &mut String) -> bool {
    let frame = poll_fn(|cx| std::task::Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
    let std::task::Poll::Ready(Some(frame)) = frame else { return false };
    text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    true
}

proptest! {
    /// Whatever is lost and resumed where: what came before the place and what came behind it are
    /// the stream, byte for byte.
    #[test]
    fn what_came_is_the_stream_however_it_was_cut(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let streams = streams(1 << 20, 1 << 20);
            let (mut outlet, body) = begin(&streams, 1, "a");
            let (mut reader, mut came) = (Some(body), String::new());
            let (mut whole, mut n_written) = (String::new(), 0);
            let n_events = |came: &str| came.matches("\n\n").count();
            for act in acts {
                match act {
                    Act::Write(n) => {
                        // Who is behind is waited for.
                        while let Some(body) = &mut reader && read_into(body, &mut came).await {}
                        let events = (n_written..n_written + n).map(|n| format!("data: {n}\n\n"));
                        let text: String = events.collect();
                        for n in n_written..n_written + n {
                            whole.push_str(&format!("id: a:{n}\ndata: {n}\n\n"));
                        }
                        n_written += n;
                        assert!(outlet.send(text).await.is_ok());
                    }
                    Act::Read => {
                        if let Some(body) = &mut reader {
                            read_into(body, &mut came).await;
                        }
                    }
                    Act::Cut => reader = None,
                    Act::Resume(n_back) => {
                        let n_came = n_events(&came).saturating_sub(n_back);
                        let kept: String = came.split_inclusive("\n\n").take(n_came).collect();
                        came = kept;
                        let at = place("a", n_came.checked_sub(1));
                        reader = Some(streams.resume(1, &at, None).unwrap());
                    }
                }
            }
            outlet.finish();
            let at = place("a", n_events(&came).checked_sub(1));
            came.push_str(&all(streams.resume(1, &at, None).unwrap()).await);
            assert_eq!(came, whole);
        });
    }
}
