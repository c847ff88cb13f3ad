//! What can be neither finished nor undone now is looked after again, without another file and without holding anything up.

use super::*;

/// A filer with an open Intent for the file `a`, while its library is away; gives where the marker is.
async fn waiting(bench: &Bench) -> (Filer, PathBuf) {
    let filer = bench.start().await;
    bench.put("a", "a");
    let open = super::recovery::intent(bench, "a", "a", true);
    let open = vec![Record::Intent(Box::new(open))];
    filer.append(open).await.unwrap().unwrap();
    let away = bench.state.join("marker");
    fs::rename(marker(bench), &away).unwrap();
    let report = filer.share_online("drop", bench.root()).await.unwrap();
    assert_eq!(report.waiting.len(), 1, "{report:?}");
    (filer, away)
}

fn marker(bench: &Bench) -> PathBuf {
    bench.library.join(super::super::destinations::MARKER)
}

fn abandoned(record: &Record) -> bool {
    matches!(record, Record::Abandoned { .. })
}

#[tokio::test]
async fn what_could_not_be_told_while_the_library_was_away_is_told_when_it_is_back() {
    let bench = Bench::new();
    let (_filer, away) = waiting(&bench).await;
    fs::rename(away, marker(&bench)).unwrap();
    bench.catalogue.told(abandoned).await;
    assert_eq!(bench.in_drop(), ["a"]);
}

#[tokio::test]
async fn a_drop_directory_with_something_stuck_is_not_held_open_and_found_anew_where_it_was() {
    let bench = Bench::new();
    let (_filer, away) = waiting(&bench).await;
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert!(!open.into_iter().any(|path| path.starts_with(&bench.drop)));
    // As after a remount: the same files in another directory.
    let before = bench.state.join("before");
    fs::rename(&bench.drop, &before).unwrap();
    fs::create_dir(&bench.drop).unwrap();
    fs::rename(before.join("a"), bench.drop.join("a")).unwrap();
    fs::rename(away, marker(&bench)).unwrap();
    bench.catalogue.told(abandoned).await;
    assert_eq!(bench.in_drop(), ["a"]);
}
