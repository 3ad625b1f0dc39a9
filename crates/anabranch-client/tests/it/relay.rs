//! With a real relay on loopback, in a thread of its own: many stores over one connection, a
//! relay that goes and comes back.

use std::thread::JoinHandle;
use std::time::Duration;

use anabranch_client::{Address, Event, Options, Told, Watch};
use anabranch_relay::{Config, Settings, bind};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::copy::Copy;

/// Longer than anything here takes; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(120);

struct Running {
    address: String,
    token: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(data: &TempDir, listen: &str) -> Running {
        let settings = Settings {
            listen: Some(listen.to_string()),
            data: Some(data.path().to_owned()),
            ..Settings::default()
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let server = bind(Config::new(settings).unwrap()).await.unwrap();
                let address = server.local_addr().unwrap().to_string();
                tell.send((address, server.first_token().map(str::to_string))).unwrap();
                server.run(async { drop(stopped.await) }).await;
            });
        });
        let (address, token) = told.recv().unwrap();
        Running { address, token, stop: Some(stop), thread: Some(thread) }
    }

    fn url(&self, path: &str) -> Address {
        format!("ws://{}/sync{path}", self.address).parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Waits until a store's event is as asked.
fn wait_for(watch: &mut Watch<'_>, store: &str, is_it: impl Fn(&Event) -> bool) -> Event {
    loop {
        let Told { store: of, event } = watch.next_within(LONG).unwrap().expect("in time");
        assert!(!matches!(event, Event::Refused(_)), "{event:?}");
        if of == store && is_it(&event) {
            return event;
        }
    }
}

/// Two devices with two stores each and one connection each: what either writes the other
/// has, store by store, also what is written between two calls on the watch's own connection.
#[test]
fn many_stores_share_a_connection() {
    let data = tempfile::tempdir().unwrap();
    let relay = Running::start(&data, "127.0.0.1:0");
    let options = Options { token: relay.token.clone().unwrap(), ..Options::default() };
    let (list, notes) = ([Copy::new(), Copy::new()], [Copy::new(), Copy::new()]);
    let watch = |device: usize| {
        let stores = [(list[device].sql(), Some("list")), (notes[device].sql(), Some("notes"))];
        Watch::new(&stores, &relay.url(""), &options).unwrap()
    };
    let (mut here, mut there) = (watch(0), watch(1));
    wait_for(&mut here, "list", |event| *event == Event::Converged);
    wait_for(&mut there, "list", |event| *event == Event::Converged);
    list[0].write("milk", "2");
    wait_for(&mut here, "list", |event| matches!(event, Event::Gave(_)));
    wait_for(&mut there, "list", |event| matches!(event, Event::Took(_)));
    notes[1].write("n", "from there");
    wait_for(&mut there, "notes", |event| matches!(event, Event::Gave(_)));
    wait_for(&mut here, "notes", |event| matches!(event, Event::Took(_)));
    for pair in [&list, &notes] {
        assert_eq!(pair[0].digest(), pair[1].digest());
        assert_eq!(pair[0].n_rows(), 1);
    }
    assert_ne!(list[0].digest(), notes[0].digest());
    here.close().unwrap();
    there.close().unwrap();
    let peers = anabranch_client::peers(list[0].sql()).unwrap();
    assert_eq!(peers[0].url, relay.url("/list").to_string());
}

/// One store more than a connection carries would never sync.
#[test]
fn more_stores_than_a_connection_carries_are_refused() {
    let copy = Copy::new();
    let url = "ws://relay.example/sync".parse().unwrap();
    let names: Vec<String> = (0..1025).map(|n| format!("store-{n}")).collect();
    let stores: Vec<_> = names.iter().map(|name| (copy.sql(), Some(name.as_str()))).collect();
    assert!(Watch::new(&stores[..1024], &url, &Options::default()).is_ok());
    let refused = Watch::new(&stores, &url, &Options::default()).err().unwrap();
    assert!(refused.to_string().contains("1024"), "{refused}");
}

/// Who shows something is seen by others, stamped by the relay; of many states the last gets
/// through, and who leaves is seen to have left.
#[test]
fn presence_is_shown_and_ends() {
    let data = tempfile::tempdir().unwrap();
    let relay = Running::start(&data, "127.0.0.1:0");
    let options = Options { token: relay.token.clone().unwrap(), ..Options::default() };
    let (a, b) = (Copy::new(), Copy::new());
    let url = relay.url("/notes");
    let mut here = Watch::new(&[(a.sql(), None)], &url, &options).unwrap();
    let mut there = Watch::new(&[(b.sql(), None)], &url, &options).unwrap();
    assert!(here.set_presence("", Some(&[0; 4097])).is_err());
    // Before it is connected; shown once it is.
    here.set_presence("notes", Some(b"first")).unwrap();
    wait_for(&mut there, "notes", |event| *event == Event::Converged);
    let is_shown = |event: &Event, wanted: Option<&[u8]>| match event {
        Event::Present { state, .. } => state.as_deref() == wanted,
        _ => false,
    };
    let turn = |watch: &mut Watch<'_>| drop(watch.next_within(Duration::from_millis(1)).unwrap());
    let until = |here: &mut Watch<'_>, there: &mut Watch<'_>, state| loop {
        turn(here);
        let told = there.next_within(Duration::from_millis(1)).unwrap();
        if let Some(told) = told.filter(|told| is_shown(&told.event, state)) {
            return told.event;
        }
    };
    let Event::Present { site, .. } = until(&mut here, &mut there, Some(b"first")) else {
        panic!("no presence")
    };
    let own: Vec<u8> = a.sql().query_row("SELECT crsql_site_id()", [], |row| row.get(0)).unwrap();
    assert_eq!(site.as_bytes(), own);
    // Far more than the relay lets through.
    for n in 0..500_u32 {
        here.set_presence("", Some(&n.to_le_bytes())).unwrap();
        turn(&mut here);
    }
    here.set_presence("", Some(b"last")).unwrap();
    until(&mut here, &mut there, Some(b"last"));
    // Gone with its connection.
    drop(here);
    wait_for(&mut there, "notes", |event| is_shown(event, None));
}

/// The relay stops, this copy goes on writing, and is in sync again by itself.
#[test]
fn a_watch_comes_back_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let relay = Running::start(&data, "127.0.0.1:0");
    let options = Options { token: relay.token.clone().unwrap(), ..Options::default() };
    let (a, b) = (Copy::new(), Copy::new());
    let url = relay.url("/notes");
    let mut watch = Watch::new(&[(a.sql(), None)], &url, &options).unwrap();
    wait_for(&mut watch, "notes", |event| *event == Event::Converged);
    let address = relay.address.clone();
    drop(relay);
    wait_for(&mut watch, "notes", |event| matches!(event, Event::Offline { .. }));
    assert!(anabranch_client::peers(a.sql()).unwrap()[0].error.is_some());
    a.write("n", "while it was away");
    let _relay = Running::start(&data, &address);
    wait_for(&mut watch, "notes", |event| matches!(event, Event::Gave(_)));
    wait_for(&mut watch, "notes", |event| *event == Event::Converged);
    let report = anabranch_client::once(b.sql(), &url, &options, &mut |_| ()).unwrap();
    assert!(report.is_converged(), "{report:?}");
    assert_eq!(a.digest(), b.digest());
}
