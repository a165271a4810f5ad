use super::{Harness, MOST_OF_TTL, TTL, payloads, unique};

pub(crate) async fn a_reader_goes_on_from_where_it_was(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("log"));
    assert_eq!(bus.read(&key, None, 9).await.unwrap(), []);
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(bus.append(&key, &number.to_string(), None, None).await.unwrap());
    }
    assert!(ids.is_sorted_by(|one, next| one < next));

    let first = bus.read(&key, None, 2).await.unwrap();
    assert_eq!(payloads(&first), ["0", "1"]);
    assert_eq!(first[1].id, ids[1]);
    assert_eq!(payloads(&bus.read(&key, Some(ids[1]), 2).await.unwrap()), ["2", "3"]);
    assert_eq!(payloads(&bus.read(&key, Some(ids[1]), usize::MAX).await.unwrap()), ["2", "3", "4"]);
    assert_eq!(bus.read(&key, Some(ids[4]), 9).await.unwrap(), []);
    assert_eq!(bus.read(&key, None, 0).await.unwrap(), []);

    let later = bus.append(&key, "5", None, None).await.unwrap();
    assert!(later > ids[4]);
    assert_eq!(payloads(&bus.read(&key, Some(ids[4]), 9).await.unwrap()), ["5"]);
}

pub(crate) async fn readers_do_not_disturb_each_other(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("log"));
    for number in 0..3 {
        bus.append(&key, &number.to_string(), None, None).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(payloads(&bus.read(&key, None, 9).await.unwrap()), ["0", "1", "2"]);
    }
}

pub(crate) async fn max_len_keeps_the_newest(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("log"));
    for number in 0..900 {
        bus.append(&key, &number.to_string(), None, Some(50)).await.unwrap();
    }
    let kept = bus.read(&key, None, usize::MAX).await.unwrap();
    assert!((50..450).contains(&kept.len()), "{} are about 50", kept.len());
    let newest: Vec<String> = (850..900).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&kept[kept.len() - 50..]), newest);
}

pub(crate) async fn trim_keeps_what_is_not_older(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("log"));
    let mut ids = Vec::new();
    for number in 0..500 {
        ids.push(bus.append(&key, &number.to_string(), None, None).await.unwrap());
    }
    bus.trim(&key, Some(ids[400])).await.unwrap();
    let kept = bus.read(&key, None, usize::MAX).await.unwrap();
    assert!((100..500).contains(&kept.len()), "{} are about 100", kept.len());
    let newest: Vec<String> = (400..500).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&kept[kept.len() - 100..]), newest);

    bus.trim(&key, Some(ids[0])).await.unwrap();
    assert_eq!(bus.read(&key, None, usize::MAX).await.unwrap(), kept);
}

pub(crate) async fn trim_without_a_place_removes_all(harness: impl Harness) {
    let (bus, key, other) = (harness.bus(), unique("log"), unique("other"));
    let before = bus.append(&key, "0", None, None).await.unwrap();
    bus.append(&other, "0", None, None).await.unwrap();
    bus.trim(&key, None).await.unwrap();
    bus.trim(&key, None).await.unwrap();
    assert_eq!(bus.read(&key, None, 9).await.unwrap(), []);
    assert_eq!(bus.read(&other, None, 9).await.unwrap().len(), 1);
    let after = bus.append(&key, "1", None, None).await.unwrap();
    assert!(after > before);
    assert_eq!(payloads(&bus.read(&key, Some(before), 9).await.unwrap()), ["1"]);
}

pub(crate) async fn a_log_expires_as_a_whole(harness: impl Harness) {
    let (bus, key, other) = (harness.bus(), unique("log"), unique("other"));
    bus.append(&key, "1", None, None).await.unwrap();
    bus.append(&key, "2", Some(TTL), Some(10)).await.unwrap();
    bus.append(&other, "1", None, None).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.read(&key, None, 9).await.unwrap().len(), 2);
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.read(&key, None, 9).await.unwrap(), []);
    assert_eq!(bus.read(&other, None, 9).await.unwrap().len(), 1);
}

pub(crate) async fn a_logs_ttl_slides_with_each_append_that_has_one(harness: impl Harness) {
    let (bus, slides, stays) = (harness.bus(), unique("slides"), unique("stays"));
    bus.append(&slides, "1", Some(TTL), None).await.unwrap();
    bus.append(&stays, "1", Some(TTL), None).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    bus.append(&slides, "2", Some(TTL), None).await.unwrap();
    bus.append(&stays, "2", None, None).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.read(&slides, None, 9).await.unwrap().len(), 2);
    assert_eq!(bus.read(&stays, None, 9).await.unwrap(), []);
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.read(&slides, None, 9).await.unwrap(), []);
}
