//! Version vectors: their JSON, their laws; times and words.

use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::limits::{MAX_CLOCK_AHEAD_MS, MAX_SITES};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::words::words;

use crate::random;

const CHAIN: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn reads_what_it_writes() {
    let mut rng = random::rng(5);
    for _ in 0..200 {
        let vector = random::vector(&mut rng);
        assert_eq!(VersionVector::from_json(&vector.to_json()), Ok(vector));
    }
    let spaced = format!(
        " {{ \"ab\" :\n[ 7 ,\t\"{CHAIN}\" ] , \"00ff\":[9007199254740992,\"{CHAIN}\"] }}\r\n"
    );
    let vector = VersionVector::from_json(&spaced).unwrap();
    assert_eq!(vector.version(SiteId::new(&[0xab]).unwrap()), 7);
    assert_eq!(vector.version(SiteId::new(&[0, 0xff]).unwrap()), 1 << 53);
    let branched = format!(r#"{{"ab":[1,"{CHAIN}","cd",0,"{CHAIN}"],"cd":[1,"{CHAIN}"]}}"#);
    let vector = VersionVector::from_json(&branched).unwrap();
    let (branch, root) = (SiteId::new(&[0xab]).unwrap(), SiteId::new(&[0xcd]).unwrap());
    assert_eq!(vector.branch(branch).map(|branch| (branch.root, branch.base)), Some((root, 0)));
    assert_eq!(vector.to_json(), branched);
}

#[test]
fn refuses_what_it_would_not_write() {
    let check = |text: &str, at: usize| {
        let found = VersionVector::from_json(text);
        assert_eq!(found.map_err(|error| error.at), Err(at), "{text}");
    };
    check("", 0);
    check("null", 0);
    check("[]", 0);
    check("{", 1);
    check("{}}", 2);
    check("{} x", 3);
    check("{,}", 1);
    check(r#"{"":[1,"00"]}"#, 3);
    check(r#"{"a":[1,"00"]}"#, 2);
    check(r#"{"AB":[1,"00"]}"#, 2);
    check(&format!("{{\"{}\":", "00".repeat(17)), 34);
    check(r#"{"ab"[1,"00"]}"#, 5);
    check(r#"{"ab":{1,"00"}}"#, 6);
    check(r#"{"ab":[0,"00"]}"#, 7);
    check(r#"{"ab":[-1,"00"]}"#, 7);
    check(r#"{"ab":[1.5,"00"]}"#, 8);
    check(r#"{"ab":[01,"00"]}"#, 7);
    check(r#"{"ab":[9007199254740993,"00"]}"#, 7);
    check(r#"{"ab":[99999999999999999999999,"00"]}"#, 7);
    check(r#"{"ab":[1,"00"]}"#, 13);
    check(&format!(r#"{{"ab":[1,"{CHAIN}00"]}}"#), 42);
    check(&format!(r#"{{"ab":[1,"{CHAIN}"]"#), 44);
    check(&format!(r#"{{"ab":[1,"{CHAIN}",2]}}"#), 44);
    check(&format!(r#"{{"ab":[1,"{CHAIN}","cd",1]}}"#), 50);
    check(&format!(r#"{{"ab":[1,"{CHAIN}","cd",9007199254740992,"{CHAIN}"]}}"#), 100);
    check(&format!(r#"{{"ab":[1,"{CHAIN}"],}}"#), 45);
    check(&format!(r#"{{"ab":[1,"{CHAIN}"],"ab":[1,"{CHAIN}"]}}"#), 45);
    check("{\"é", 2);
}

#[test]
fn bounds_the_number_of_sites() {
    let entries: Vec<String> =
        (0..=MAX_SITES).map(|n| format!("\"{n:06x}\":[1,\"{CHAIN}\"]")).collect();
    let most = format!("{{{}}}", entries[..MAX_SITES].join(","));
    assert_eq!(VersionVector::from_json(&most).unwrap().len(), MAX_SITES);
    let error = VersionVector::from_json(&format!("{{{}}}", entries.join(","))).unwrap_err();
    assert_eq!(error.reason, "too many sites");
}

#[test]
fn joins_by_maximum() {
    let mut rng = random::rng(6);
    for _ in 0..500 {
        let (a, b) = (random::vector(&mut rng), random::vector(&mut rng));
        let mut ab = a.clone();
        ab.join(&b);
        let mut ba = b.clone();
        ba.join(&a);
        assert!(ab.is_at_or_below(&ba) && ba.is_at_or_below(&ab));
        assert!(a.is_at_or_below(&ab) && b.is_at_or_below(&ab));
        let mut again = ab.clone();
        again.join(&a);
        assert_eq!(again, ab);
    }
    let mut vector = VersionVector::new();
    let site = random::site(1);
    vector.set(site, Held { version: 3, chain: Chain([1; 16]) });
    vector.set(site, Held { version: 0, chain: Chain([1; 16]) });
    assert!(vector.is_empty());
}

#[test]
fn admits_a_time_up_to_ten_minutes_ahead() {
    let now = 1_000_000;
    let at = |ms: u64| Hlc(ms << 16 | 3);
    assert!(at(0).check_ahead(now).is_ok());
    assert!(at(now + MAX_CLOCK_AHEAD_MS).check_ahead(now).is_ok());
    let error = at(now + MAX_CLOCK_AHEAD_MS + 5).check_ahead(now).unwrap_err();
    assert_eq!(error.retry_at_ms, now + 5);
    assert!(error.to_string().starts_with("ClockAhead: a change of time"));
    assert!(at(now + MAX_CLOCK_AHEAD_MS + 5).check_ahead(error.retry_at_ms).is_ok());
    assert!(Hlc(u64::MAX).check_ahead(0).is_err());
}

#[test]
fn time_goes_on_where_the_clock_does_not() {
    let first = Hlc(0).next(1000);
    assert_eq!(first, Hlc(1000 << 16));
    assert_eq!(first.next(1000), Hlc(1000 << 16 | 1));
    assert_eq!(first.next(900), Hlc(1000 << 16 | 1));
    assert_eq!(first.next(1001).millis(), 1001);
}

/// Addresses and their words from the proposal of 2009.
#[test]
fn speaks_proquints() {
    assert_eq!(words(&[127, 0, 0, 1]), "lusab babad babab babab babab babab");
    assert_eq!(
        words(&[63, 84, 220, 193, 63, 118, 7, 35, 255, 255, 255, 255]),
        "gutih tugad gutuk bisog zuzuz zuzuz"
    );
    assert_eq!(words(&[]), "babab babab babab babab babab babab");
    assert_eq!(words(&[0xff; 32]), "zuzuz zuzuz zuzuz zuzuz zuzuz zuzuz");
}
