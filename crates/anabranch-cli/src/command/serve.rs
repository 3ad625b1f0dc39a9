//! `ana serve`: a relay, from nothing.
//!
//! Every setting is a flag, a variable and a key of the file, in that order of strength.

use std::path::PathBuf;

use anabranch_relay::{Config, ConfigError, JwksPlace, Server, Settings, StartError, start_log};
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::hint::word;
use crate::leash;

const AFTER_HELP: &str = "\
Examples:
  ana serve
  ana serve --listen 0.0.0.0:7440 --data /var/lib/anabranch
  ana serve --config relay.toml --check-config

The first start makes the data directory, a key and one admin token, and prints
the command for a client. Port 0 picks a free port. SIGTERM or Ctrl-C ends it.

Every setting is also a key of the file (max-store-bytes = 1000000) and a
variable (ANABRANCH_MAX_STORE_BYTES); flags win over variables, variables over
the file. ANABRANCH_JWT_SECRET is a secret of HS256 tokens, at least 32 bytes.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where to listen [default: 127.0.0.1:7440]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to keep stores and keys [default: ./anabranch-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings, and do no more
    #[arg(long)]
    check_config: bool,
    /// Take tokens signed with these public keys too (JWKS)
    #[arg(long, value_name = "FILE or URL")]
    jwks: Option<String>,
    /// Take a site's changes from its owner only
    #[arg(long)]
    strict_sites: bool,
    /// Let web pages of this origin connect; may be given again; * is all
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Certificate chain for TLS
    #[arg(long, value_name = "PEM")]
    tls_cert: Option<PathBuf>,
    /// Private key for TLS
    #[arg(long, value_name = "PEM")]
    tls_key: Option<PathBuf>,
    /// text, or json for one object a line
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Connections at a time
    #[arg(long, value_name = "N")]
    max_connections: Option<u64>,
    /// Connections of one address that have shown no valid token yet
    #[arg(long, value_name = "N")]
    max_address_connections: Option<u64>,
    /// Connections at a time on one store
    #[arg(long, value_name = "N")]
    max_store_connections: Option<u64>,
    /// Bytes of changes in one store
    #[arg(long, value_name = "BYTES")]
    max_store_bytes: Option<u64>,
    /// Bytes of blobs that one store names
    #[arg(long, value_name = "BYTES")]
    max_store_blob_bytes: Option<u64>,
    /// Changes a second on one store
    #[arg(long, value_name = "N")]
    max_changes_per_second: Option<u64>,
    /// End when standard input does
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let config = config(args)?;
    if args.check_config {
        return say_settings(&config, console);
    }
    if args.until_stdin_ends {
        leash::end_with_stdin();
    }
    start_log(config.log_format, config.log_level);
    let data = config.data.clone();
    let mut said = Ok(());
    anabranch_relay::serve(config, |server| said = say_started(server, &data, console))
        .map_err(start_failure)?;
    said?;
    Ok(Exit::Ok)
}

fn config(args: &Args) -> Result<Config> {
    let flags = Settings {
        listen: args.listen.clone(),
        data: args.data.clone(),
        jwks: args.jwks.clone(),
        jwt_secret: None,
        strict_sites: args.strict_sites.then_some(true),
        origins: (!args.origins.is_empty()).then(|| args.origins.clone()),
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        log_format: args.log_format.clone(),
        log_level: args.log_level.clone(),
        max_connections: args.max_connections,
        max_address_connections: args.max_address_connections,
        max_store_connections: args.max_store_connections,
        max_store_bytes: args.max_store_bytes,
        max_store_blob_bytes: args.max_store_blob_bytes,
        max_changes_per_second: args.max_changes_per_second,
    };
    let variables = Settings::from_environment(|name| std::env::var(name).ok());
    let file = args.config.as_deref().map_or(Ok(Settings::default()), Settings::read);
    let settings =
        flags.over(variables.map_err(config_failure)?).over(file.map_err(config_failure)?);
    Config::new(settings).map_err(config_failure)
}

fn say_settings(config: &Config, console: &mut Console) -> Result<Exit> {
    if let Some(JwksPlace::File(path)) = &config.jwks
        && !path.exists()
    {
        return Err(Failure::new(Exit::Io, format!("jwks: {}: no such file", path.display()))
            .hint("check the spelling of the path"));
    }
    let data = config.data.display().to_string();
    if console.is_json() {
        console.json(&json!({ "listen": config.listen.to_string(), "data": data }))?;
    } else {
        console.line(format!("The settings are good: {} with {data}", config.listen))?;
    }
    Ok(Exit::Ok)
}

/// Where it listens, and on the first start what to do next.
fn say_started(server: &Server, data: &std::path::Path, console: &mut Console) -> Result<()> {
    let address = server.local_addr()?;
    let scheme = if server.is_tls() { "wss" } else { "ws" };
    let url = format!("{scheme}://{address}/sync/");
    let data = data.display().to_string();
    if console.is_json() {
        console.json(&json!({
            "url": url, "listen": address.to_string(), "data": data,
            "token": server.first_token(),
        }))?;
    } else {
        console.line(format!("Relay on {scheme}://{address}, data in {data}"))?;
        if let Some(token) = server.first_token() {
            console.line("\nA first admin token was made; it is shown this once:")?;
            console.line(format!("  {token}"))?;
            console.line("\nSync a database with the store `notes`:")?;
            console.line(format!("  ANABRANCH_TOKEN={token} ana sync my.db {url}notes"))?;
            console.line("\nMake tokens for others:")?;
            console.line(format!(
                "  ana token --data {} --subject ann --store notes --scope write",
                word(&data)
            ))?;
        }
    }
    console.finish()
}

fn config_failure(error: ConfigError) -> Failure {
    let exit = match error {
        ConfigError::Io { .. } => Exit::Io,
        _ => Exit::Usage,
    };
    Failure::new(exit, told(&error)).hint("`ana serve --help` shows the settings and an example")
}

fn start_failure(error: StartError) -> Failure {
    let (exit, hint) = match &error {
        StartError::InUse { .. } => (Exit::Again, "stop the other one, or choose another --data"),
        StartError::Listen { .. } => (Exit::Io, "choose another --listen; port 0 picks a free one"),
        StartError::Io { .. } => (Exit::Io, "choose a --data directory that you may write"),
        StartError::Tls { .. } => (Exit::Io, "tls-cert and tls-key are PEM files"),
        _ => (Exit::Refused, "the message above says which file"),
    };
    Failure::new(exit, told(&error)).hint(hint)
}

/// An error and its causes in one line.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Without the number of the operating system's error.
        let words = cause.split(" (os error").next().unwrap_or(&cause);
        text.push_str(&format!(": {words}"));
        source = error.source();
    }
    text
}
