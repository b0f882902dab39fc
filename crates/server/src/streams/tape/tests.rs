//! A tape and its readers, alone: order, ends, bounds, and who must stop.

use super::*;
use hyper::body::Body as _;
use std::future::poll_fn;

const SOON: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(100_000);

/// A tape that is whole, in room for so many bytes.
fn whole(lasts: Duration, n_bytes_max: usize) -> (Arc<Tape>, Arc<AtomicUsize>) {
    let n_all = Arc::new(AtomicUsize::new(0));
    let room = Room { lasts, n_bytes_max, n_all: n_all.clone() };
    (Tape::new(Family::OpenAi, Some(room)), n_all)
}

fn plain() -> Arc<Tape> {
    Tape::new(Family::OpenAi, None)
}

async fn write(writer: &mut Writer, pieces: &[&'static str]) -> Result<(), Gone> {
    let pieces: Vec<Bytes> =
        pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
    writer.fit(&pieces);
    writer.write(pieces).await
}

/// The next frame; `Err` where the stream broke off.
async fn frame(reader: &mut Reader) -> Option<Result<String, String>> {
    let frame = poll_fn(|cx| Pin::new(&mut *reader).poll_frame(cx)).await?;
    let text = |frame: Frame<Bytes>| String::from_utf8(frame.into_data().unwrap().into()).unwrap();
    Some(frame.map(text).map_err(|error| error.to_string()))
}

async fn text(reader: &mut Reader) -> String {
    frame(reader).await.unwrap().unwrap()
}

/// Whether there is nothing to read now.
async fn is_waiting(reader: &mut Reader) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *reader).poll_frame(cx).is_pending())).await
}

#[tokio::test]
async fn what_is_written_is_read_once_and_a_reader_that_is_behind_is_waited_for() {
    let tape = plain();
    let mut reader = tape.read(0).unwrap();
    let mut writer = Writer(tape);
    assert!(is_waiting(&mut reader).await);
    let large: &'static str = "x".repeat(UNREAD_BYTES).leak();
    assert_eq!(write(&mut writer, &[large]).await, Ok(()));
    let more = tokio::spawn(async move {
        assert_eq!(write(&mut writer, &["y"]).await, Ok(()));
        writer
    });
    tokio::time::sleep(SOON).await;
    assert!(!more.is_finished());
    assert_eq!(text(&mut reader).await, large);
    let mut writer = more.await.unwrap();
    assert_eq!(text(&mut reader).await, "y");
    writer.comment(": c");
    assert_eq!(text(&mut reader).await, ": c");
    // Not behind something to read.
    assert_eq!(write(&mut writer, &["z"]).await, Ok(()));
    writer.comment(": c");
    assert_eq!(text(&mut reader).await, "z");
    assert!(is_waiting(&mut reader).await);
    // Who waits to write learns that the reader is gone, and so does who asks.
    assert_eq!(write(&mut writer, &[large]).await, Ok(()));
    let more = tokio::spawn(async move {
        let written = write(&mut writer, &["y"]).await;
        writer.gone().await;
        written
    });
    drop(reader);
    assert_eq!(more.await.unwrap(), Err(Gone));
}

#[tokio::test]
async fn a_stream_without_its_end_is_an_error() {
    let tape = plain();
    let mut reader = tape.read(0).unwrap();
    let mut writer = Writer(tape);
    assert_eq!(write(&mut writer, &["x"]).await, Ok(()));
    drop(writer);
    assert_eq!(text(&mut reader).await, "x");
    let broken = Some(Err("the stream broke off".to_owned()));
    assert_eq!((frame(&mut reader).await, frame(&mut reader).await), (broken, None));
    let tape = plain();
    let mut reader = tape.read(0).unwrap();
    Writer(tape).finish();
    assert!(frame(&mut reader).await.is_none() && reader.is_end_stream());
}

#[tokio::test]
async fn a_whole_tape_is_read_from_anywhere_and_by_the_newest_reader_alone() {
    let (tape, n_all) = whole(NEVER, 1 << 20);
    let mut first = tape.read(0).unwrap();
    let mut writer = Writer(tape.clone());
    assert_eq!(write(&mut writer, &["a", "b", "c"]).await, Ok(()));
    assert_eq!(text(&mut first).await, "abc");
    let mut second = tape.read(1).unwrap();
    assert_eq!(text(&mut second).await, "bc");
    let taken = text(&mut first).await;
    assert!(taken.starts_with("data: {\"error\"") && taken.contains("stream_taken"), "{taken}");
    // The end of the older one is none of the newer one's.
    assert_eq!(frame(&mut first).await, None);
    drop(first);
    assert!(is_waiting(&mut second).await && tape.ended().is_none());
    // Without a reader it goes on, and nobody is waited for.
    drop(second);
    let large: &'static str = "d".repeat(UNREAD_BYTES).leak();
    for _ in 0..2 {
        assert_eq!(write(&mut writer, &[large]).await, Ok(()));
    }
    assert_eq!(tape.read(6).err(), Some(Lost::Ahead(5)));
    let mut last = tape.read(4).unwrap();
    assert_eq!(text(&mut last).await, large);
    writer.finish();
    assert_eq!(frame(&mut last).await, None);
    drop(last);
    assert!(tape.ended().is_some());
    let mut again = tape.read(2).unwrap();
    assert_eq!(
        (text(&mut again).await, text(&mut again).await),
        ("c".to_owned(), large.to_owned())
    );
    let n_bytes = 3 + 2 * UNREAD_BYTES + 5 * PIECE_BYTES;
    assert_eq!((tape.n_bytes(), n_all.load(Ordering::Relaxed)), (n_bytes, n_bytes));
}

#[tokio::test]
async fn frames_are_large_and_not_endless() {
    let (tape, _) = whole(NEVER, 1 << 20);
    let mut writer = Writer(tape.clone());
    let piece: &'static str = "x".repeat(FRAME_BYTES / 2).leak();
    let large: &'static str = "y".repeat(2 * FRAME_BYTES).leak();
    assert_eq!(write(&mut writer, &[piece, piece, piece, large, "z"]).await, Ok(()));
    writer.finish();
    let mut reader = tape.read(0).unwrap();
    let mut n_bytes = Vec::new();
    while let Some(frame) = frame(&mut reader).await {
        n_bytes.push(frame.unwrap().len());
    }
    assert_eq!(n_bytes, [FRAME_BYTES, FRAME_BYTES / 2, 2 * FRAME_BYTES, 1]);
}

#[tokio::test]
async fn a_tape_without_room_goes_on_for_who_reads_it_and_nobody_else() {
    let (tape, n_all) = whole(NEVER, 2 * (PIECE_BYTES + 1));
    let mut reader = tape.read(0).unwrap();
    let mut writer = Writer(tape.clone());
    assert_eq!(write(&mut writer, &["a", "b"]).await, Ok(()));
    assert!(tape.is_whole());
    assert_eq!(write(&mut writer, &["c"]).await, Ok(()));
    assert!(!tape.is_whole());
    assert_eq!((tape.n_bytes(), n_all.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(text(&mut reader).await, "abc");
    for from in 0..5 {
        assert_eq!(tape.read(from).err(), Some(Lost::GivenUp));
    }
    assert_eq!(write(&mut writer, &["d"]).await, Ok(()));
    assert_eq!(text(&mut reader).await, "d");
    drop(reader);
    // As one that never was whole.
    writer.gone().await;
    assert_eq!(write(&mut writer, &["e"]).await, Err(Gone));
    drop(writer);
    assert_eq!(tape.read(0).err(), Some(Lost::GivenUp));
}

#[tokio::test]
async fn who_is_far_behind_of_what_is_given_up_is_told() {
    let (tape, n_all) = whole(NEVER, 1 << 20);
    let mut writer = Writer(tape.clone());
    let piece: &'static str = "x".repeat(BEHIND_BYTES / 2).leak();
    assert_eq!(write(&mut writer, &[piece, piece, piece]).await, Ok(()));
    let mut reader = tape.read(0).unwrap();
    assert_eq!(text(&mut reader).await, piece);
    tape.give_up();
    // What is left is within bounds.
    assert_eq!(text(&mut reader).await, piece);
    assert_eq!(n_all.load(Ordering::Relaxed), 0);

    let (tape, _) = whole(NEVER, 1 << 20);
    let mut writer = Writer(tape.clone());
    assert_eq!(write(&mut writer, &[piece, piece, "y"]).await, Ok(()));
    let mut reader = tape.read(0).unwrap();
    tape.give_up();
    let told = text(&mut reader).await;
    assert!(told.contains("stream_given_up"), "{told}");
    assert_eq!(frame(&mut reader).await, None);
    assert_eq!(write(&mut writer, &["z"]).await, Err(Gone));
}

#[tokio::test]
async fn a_tape_that_nobody_comes_back_to_is_over() {
    let (tape, n_all) = whole(SOON, 1 << 20);
    let reader = tape.read(0).unwrap();
    let mut writer = Writer(tape.clone());
    assert_eq!(write(&mut writer, &["a"]).await, Ok(()));
    tokio::time::sleep(2 * SOON).await;
    assert!(tokio::time::timeout(SOON, writer.gone()).await.is_err(), "somebody reads");
    drop(reader);
    writer.gone().await;
    assert_eq!(tape.read(0).err(), Some(Lost::Broken));
    drop(writer);
    tape.give_up();
    assert_eq!(n_all.load(Ordering::Relaxed), 0);
}
