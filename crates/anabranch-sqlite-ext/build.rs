//! Compiles the trampolines: one C function for each SQLite function that a host hands to
//! an extension.
//!
//! They are written from `sqlite3ext.h` of the very SQLite that libsqlite3-sys binds, so
//! that they cannot fall behind it: the struct gives types and the version each function
//! came with, the macros below it give the names. `shim.c` adds what C cannot forward
//! (functions with `...`). A function that is in neither would make the linker take the
//! SQLite that is compiled in, and stop at the names defined twice: nothing goes wrong
//! silently.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// One member of `struct sqlite3_api_routines`.
struct Routine {
    name: String,
    /// The C type of the result.
    result: String,
    params: Vec<String>,
    /// As SQLITE_VERSION_NUMBER; 0 for those that were always there.
    since: u32,
}

/// Oldest SQLite that loads us, as SQLITE_VERSION_NUMBER. `shim.c` refuses older ones.
const MIN_VERSION: u32 = 3_040_000;

/// What to answer when the host lacks the function, where that is not an error code.
const NEUTRAL: [(&str, &str); 1] = [
    // "Not interrupted": 1 would stop whoever asks.
    ("is_interrupted", "0"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim.c");
    let include =
        PathBuf::from(env::var_os("DEP_SQLITE3_INCLUDE").expect("libsqlite3-sys bundles"));
    let header = fs::read_to_string(include.join("sqlite3ext.h")).expect("SQLite's header");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("trampolines.inc"), trampolines(&header)).expect("OUT_DIR can be written");
    compile(&include, &out);
}

fn compile(include: &Path, out: &Path) {
    cc::Build::new()
        .file("shim.c")
        .include(include)
        .include(out)
        .define("ANABRANCH_MIN_VERSION", MIN_VERSION.to_string().as_str())
        .flag_if_supported("-fvisibility=hidden")
        // Deprecated functions are forwarded like all others.
        .flag_if_supported("-Wno-deprecated-declarations")
        // Also in debug builds: every call of SQLite's goes through here.
        .opt_level(2)
        // All of it: the linker must find every name here before it looks elsewhere.
        .link_lib_modifier("+whole-archive")
        .compile("anabranch_shim");
}

/// C text of all trampolines.
fn trampolines(header: &str) -> String {
    let routines = routines(header);
    let mut text = String::new();
    for (function, member) in macros(header) {
        let routine = routines
            .iter()
            .find(|routine| routine.name == member)
            .unwrap_or_else(|| panic!("{member} is named by a macro, but not in the struct"));
        // `shim.c` writes these by hand.
        if routine.params.iter().all(|param| param != "...") {
            text.push_str(&trampoline(&function, routine));
        }
    }
    text
}

/// C text of one trampoline.
fn trampoline(function: &str, routine: &Routine) -> String {
    let Routine { name, result, params, since } = routine;
    let params: Vec<&String> = params.iter().filter(|param| *param != "void").collect();
    let named: Vec<String> = params.iter().enumerate().map(|(i, p)| with_name(p, i)).collect();
    let named = if named.is_empty() { "void".into() } else { named.join(", ") };
    let args: Vec<String> = (0..params.len()).map(|i| format!("a{i}")).collect();
    let call = format!("api->{name}({})", args.join(", "));
    let mut text = String::new();
    let mut write = |line: &str| writeln!(text, "{line}").expect("a String takes all");
    write(&format!("{result} {function}({named}) {{"));
    // A member past the end of an older host's struct must not even be read. Some are null:
    // the host was compiled without them.
    let lacks = match *since > MIN_VERSION {
        true => format!("version < {since} || !api->{name}"),
        false => format!("!api->{name}"),
    };
    match result.as_str() {
        "void" => write(&format!("  if( {lacks} ) return;\n  {call};")),
        _ => write(&format!("  if( {lacks} ) return {};\n  return {call};", lacking(routine))),
    }
    write("}");
    text
}

/// The answer of a function that the host lacks.
fn lacking(routine: &Routine) -> &'static str {
    if let Some((_, answer)) = NEUTRAL.iter().find(|(name, _)| *name == routine.name) {
        return answer;
    }
    // Other integers are counts and sizes; pointers are null.
    if routine.result == "int" { "SQLITE_ERROR" } else { "0" }
}

/// `#define sqlite3_function sqlite3_api->member`, in order.
fn macros(header: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(function), Some(body)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some(member) = body.strip_prefix("sqlite3_api->") else { continue };
        // SQLite's header says some twice.
        if pairs.iter().all(|(known, _)| known != function) {
            pairs.push((function.into(), member.into()));
        }
    }
    pairs
}

/// The members of the struct.
fn routines(header: &str) -> Vec<Routine> {
    let (_, body) = header.split_once("struct sqlite3_api_routines {").expect("the struct");
    let (body, _) = body.split_once("\n};").expect("its end");
    let mut since = 0;
    let mut routines = Vec::new();
    for member in body.split(';') {
        let mut declaration = member.to_string();
        while let Some((before, rest)) = declaration.split_once("/*") {
            let (comment, after) = rest.split_once("*/").expect("a comment ends");
            since = version(comment).unwrap_or(since);
            declaration = format!("{before}{after}");
        }
        if !declaration.trim().is_empty() {
            routines.push(routine(&declaration, since));
        }
    }
    routines
}

/// `Version 3.7.16 and later`.
fn version(comment: &str) -> Option<u32> {
    let number = comment.trim().strip_prefix("Version ")?.strip_suffix(" and later")?;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().unwrap_or(Some(0));
    Some(next()? * 1_000_000 + next()? * 1_000 + next()?)
}

/// `const char *(*name)(int,char*)`.
fn routine(declaration: &str, since: u32) -> Routine {
    let declaration = declaration.replace("SQLITE_CDECL", "");
    let unreadable = || panic!("cannot read {declaration:?}");
    let (result, rest) = declaration.split_once('(').unwrap_or_else(unreadable);
    let (name, params) = rest.split_once(')').unwrap_or_else(unreadable);
    let params = params.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    Routine {
        name: name.trim().trim_start_matches('*').trim().to_string(),
        result: result.trim().to_string(),
        params: split(params.unwrap_or_else(|| panic!("cannot read {declaration:?}"))),
        since,
    }
}

/// Splits parameters at the commas outside parentheses.
fn split(params: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in params.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match (c, depth) {
            (',', 0) => parts.push(String::new()),
            _ => parts.last_mut().expect("starts with one").push(c),
        }
    }
    parts.iter().map(|part| part.trim().to_string()).collect()
}

/// A parameter's declaration under the name `a<index>`.
fn with_name(param: &str, index: usize) -> String {
    // A pointer to a function has its name, or none, inside.
    if let Some((before, rest)) = param.split_once("(*") {
        let (_, after) = rest.split_once(')').expect("parentheses match");
        return format!("{before}(*a{index}){after}");
    }
    let last = |c: char| !(c.is_alphanumeric() || c == '_');
    let start = param.rfind(last).map_or(0, |at| at + 1);
    let (kind, word) = param.split_at(start);
    let is_name = !kind.trim().is_empty()
        && !["int", "char", "double", "unsigned"].contains(&word)
        && kind.trim() != "const";
    match is_name {
        true => format!("{kind} a{index}"),
        false => format!("{param} a{index}"),
    }
}
