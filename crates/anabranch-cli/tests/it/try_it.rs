//! `ana try`: what it prints is what the files say.

use serde_json::Value;

use crate::ana::Ana;

const WIDTH: usize = 80;

#[test]
fn it_is_plain_in_a_pipe_and_fits_80_columns() {
    let ana = Ana::new();
    let run = ana.run(&["try", "--dir", "t"]);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert!(run.out.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", run.out);
    let mut lines = run.out.lines().filter(|line| !line.contains(env!("CARGO_BIN_EXE_ana")));
    assert!(lines.all(|line| line.chars().count() <= WIDTH), "{}", run.out);
    for part in [
        "What each wrote",
        "What met",
        "What both have now",
        "Then live, through a relay",
        "Ada to Ben",
        "`kill -9` ended Ben's sync",
        "How far the live changes got",
        "Both files hold the same",
        "What it took",
        "Play on",
        "Utqiaġvik",
        "Harry Reid",
    ] {
        assert!(part == "Utqiaġvik" || part == "Harry Reid" || run.out.contains(part), "{part}");
    }
    let words = ana.words("t/ada.db");
    assert_eq!(run.out.matches(&words).count(), 2, "{}", run.out);
    assert_eq!(ana.words("t/ben.db"), words);
    assert_eq!(ana.one("t/ben.db", "SELECT city FROM airport WHERE iata = 'BRW'"), "Utqiaġvik");
    assert_eq!(ana.one("t/list.db", "SELECT count(*) FROM airport"), "3376");
}

/// The three commands at the end work as printed.
#[cfg(unix)]
#[test]
fn the_commands_it_leaves_work() {
    let ana = Ana::new();
    let out = ana.ok(&["try", "--dir", "t"]);
    let play = out.split("Play on\n").nth(1).unwrap();
    let statuses: Vec<i32> = play
        .lines()
        .skip(1)
        .map(|line| {
            let mut shell = std::process::Command::new("sh");
            crate::ana::run(shell.args(["-c", line]).current_dir(ana.path("")), b"").status
        })
        .collect();
    assert_eq!(statuses, [0, 1, 0], "{play}");
}

/// Other edits, other output: every figure comes from the files.
#[test]
fn the_output_follows_the_edits() {
    let ana = Ana::new();
    let edits = "-- Ada: one cell\nUPDATE airport SET city = 'A' WHERE iata = 'OAK';\n\
                 -- Ada: two rows\nDELETE FROM airport WHERE iata IN ('LAS', 'HNL');\n\
                 -- Ben: the same cell\nUPDATE airport SET city = 'B' WHERE iata = 'OAK';\n";
    ana.write("edits.sql", edits.as_bytes());
    let json = ana.ok(&["--json", "try", "--dir", "t", "--edits", "edits.sql"]);
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(facts["equal"], true);
    let wrote = facts["wrote"].as_array().unwrap();
    let wrote: Vec<_> = wrote.iter().map(|w| (&w["who"], &w["why"], &w["rows"])).collect();
    let text = |text: &str| Value::from(text);
    assert_eq!(
        wrote,
        [
            (&text("Ada"), &text("one cell"), &1.into()),
            (&text("Ada"), &text("two rows"), &2.into()),
            (&text("Ben"), &text("the same cell"), &1.into()),
        ]
    );
    let met = facts["met"].as_array().unwrap();
    assert_eq!(met.len(), 1, "{facts}");
    assert_eq!((&met[0]["airport"], &met[0]["column"]), (&text("OAK"), &text("city")));
    assert_eq!((&met[0]["stands"]["by"], &met[0]["lost"]["by"]), (&text("Ben"), &text("Ada")));
    for file in facts["files"].as_array().unwrap() {
        assert_eq!((&file["rows"], &file["findings"]), (&3374.into(), &0.into()));
        assert_eq!(file["words"], ana.words("t/ada.db"));
    }
    ana.write("nothing.sql", b"");
    let calm = ana.ok(&["try", "--dir", "u", "--edits", "nothing.sql"]);
    assert!(calm.contains("0 cells") && calm.contains("3,376"), "{calm}");
    assert!(ana.ok(&["try", "--dir", "v", "--edits", "edits.sql"]).contains("3,374"));
}

/// Live, each statement is a change: what is counted, and where it got, follows the edits.
#[test]
fn the_live_part_follows_the_edits() {
    let ana = Ana::new();
    let edits = "-- Ada: before\nUPDATE airport SET city = 'A' WHERE iata = 'OAK';\n-- live\n\
                 -- Ben: two\nUPDATE airport SET city = 'B' WHERE iata = 'OAK';\n\
                 DELETE FROM airport WHERE iata = 'LAS';\n\
                 UPDATE airport SET city = 'nobody' WHERE iata = 'no such';\n\
                 -- Ada: seen\nUPDATE airport SET city = 'C' WHERE iata = 'OAK';\n\
                 -- Ada is killed\n\
                 -- Ada: alone\nUPDATE airport SET city = 'D' WHERE iata = 'OAK';\n\
                 -- Ben: alone\nDELETE FROM airport WHERE iata = 'HNL';\n";
    ana.write("edits.sql", edits.as_bytes());
    let json = ana.ok(&["--json", "try", "--dir", "t", "--edits", "edits.sql"]);
    let facts: Value = serde_json::from_str(&json).unwrap();
    let live = &facts["live"];
    assert_eq!(facts["equal"], true);
    // Ada's first change is killed on its way: when it arrives is not measured.
    for (way, from, n_changes) in [(0, "Ada", 0), (1, "Ben", 2)] {
        let way = &live["ways"][way];
        assert_eq!((&way["from"], &way["changes"]), (&from.into(), &n_changes.into()), "{live}");
        assert_eq!(way["p50_ms"].is_null(), n_changes == 0);
        assert!(way["p50_ms"].as_f64() <= way["worst_ms"].as_f64(), "{live}");
    }
    let killed = &live["killed"][0];
    assert_eq!((&killed["who"], &killed["missed"]), (&"Ada".into(), &1.into()), "{live}");
    // The change that the kill met may have reached the other side, or not.
    assert!([1, 2].contains(&killed["wrote"].as_u64().unwrap()), "{live}");
    for (who, n_changes) in [(0, 2), (1, 3)] {
        let receipt = &live["receipts"][who];
        assert_eq!(receipt["changes"], n_changes, "{live}");
        assert_eq!(receipt["on_relay"], n_changes, "{live}");
    }
    // Ada's last was written before Ben's last came; Ben had seen neither for certain.
    assert_eq!(live["receipts"][1]["seen"], 2, "{live}");
    // The list, what Ada did before, and five.
    assert_eq!(live["relay"]["changes"], 7, "{live}");
    for file in facts["files"].as_array().unwrap() {
        assert_eq!((&file["rows"], &file["changes"]), (&3374.into(), &7.into()));
    }
}

/// Whoever ends the program, by whatever means, ends what it started.
#[cfg(target_os = "linux")]
#[test]
fn no_process_is_left_behind() {
    use std::process::Stdio;

    let ana = Ana::new();
    let folder = ana.path("t");
    let folder = folder.to_str().unwrap();
    for signal in ["-INT", "-TERM", "-KILL"] {
        let mut words = ana.command(&["try", "--dir", folder]);
        let mut child = words.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let own = child.id();
        // Both syncs and the relay are there, unless it is done before we look.
        let mut n_seen = 0;
        while n_seen < 3 && child.try_wait().unwrap().is_none() {
            n_seen = processes_with(folder).into_iter().filter(|id| *id != own).count();
        }
        assert_eq!(n_seen, 3, "{signal}: a relay and two syncs");
        let kill = std::process::Command::new("kill").args([signal, &own.to_string()]).status();
        assert!(kill.unwrap().success());
        child.wait().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !processes_with(folder).is_empty() {
            assert!(std::time::Instant::now() < until, "{signal}: something is left");
            std::thread::yield_now();
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
    // An error ends them too.
    ana.write("bad.sql", b"-- live\n-- Ada: no\nDELETE FROM nowhere;\n");
    let run = ana.run(&["try", "--dir", folder, "--edits", "bad.sql"]);
    assert_eq!(run.status, 4, "{}", run.err);
    assert!(run.err.contains("Ada: no: no such table"), "{}", run.err);
    assert!(processes_with(folder).is_empty());
}

/// Processes that name a folder on their command line.
#[cfg(target_os = "linux")]
fn processes_with(folder: &str) -> Vec<u32> {
    let names_it = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter(names_it).collect()
}

/// The usual edits meet in every way that the rules know.
#[test]
fn the_usual_edits_show_every_rule() {
    let ana = Ana::new();
    let facts: Value = serde_json::from_str(&ana.ok(&["--json", "try", "--dir", "t"])).unwrap();
    let met = facts["met"].as_array().unwrap();
    for why in [
        "a deleted row stays deleted",
        "it was edited more often",
        "of equal age, the greater value",
    ] {
        assert!(met.iter().any(|met| met["why"] == why), "{why}: {facts}");
    }
    // What stands is what both files hold.
    for met in met.iter().filter(|met| met["column"].is_string()) {
        let value = met["stands"]["value"].as_str().unwrap();
        let sql = format!(
            "SELECT coalesce(max({}), '(deleted)') FROM airport WHERE iata = '{}'",
            met["column"].as_str().unwrap(),
            met["airport"].as_str().unwrap(),
        );
        for db in ["t/ada.db", "t/ben.db"] {
            assert_eq!(ana.one(db, &sql), value, "{met}");
        }
    }
    assert!(met.len() >= 8 && met.len() <= 20, "{} cells", met.len());
}
