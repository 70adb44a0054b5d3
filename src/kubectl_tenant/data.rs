//! Taking a tenant's data out, and erasing one of its users.

use super::{
    agent_api::{AgentApiArgs, AgentApiClient},
    cluster::Cluster,
    error::PluginError,
};
use crate::domain::class::ErrorClass;
use serde::Deserialize;
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// What is exported, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub server: AgentApiArgs,
    /// Only what belongs to this user (the `sub` of its tokens)
    #[arg(long, value_name = "SUB")]
    pub sub: Option<String>,
    /// File to write; one that is there is continued from its last whole page. Without it: standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Who is erased.
#[derive(Clone, Debug, clap::Args)]
pub struct EraseArgs {
    #[command(flatten)]
    pub server: AgentApiArgs,
    /// The user to erase (the `sub` of its tokens)
    #[arg(long, value_name = "SUB")]
    pub sub: String,
    /// Says that you mean it: there is no way back
    #[arg(long)]
    pub yes: bool,
}

/// The line that ends a page.
#[derive(Deserialize)]
struct PageEnd {
    r#type: String,
    #[serde(default)]
    next: Option<String>,
}

/// How far an export is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Beginning,
    At(String),
    Complete,
}

fn resolve_progress(line: &str) -> Option<Progress> {
    let end: PageEnd = serde_json::from_str(line).ok().filter(|end: &PageEnd| end.r#type == "page")?;
    Some(end.next.map_or(Progress::Complete, Progress::At))
}

/// Exports, page by page. Returns what to print at the end.
///
/// # Errors
/// When the agent API says no, or the file can't be written; what was written stays, and the next call goes on there.
pub async fn export(cluster: &Cluster, name: &str, args: &ExportArgs) -> Result<String, PluginError> {
    let api = AgentApiClient::new(cluster, name, &args.server).await?;
    let (mut sink, mut progress) = match &args.output {
        None => (Sink::Terminal, Progress::Beginning),
        Some(path) => {
            let (file, progress) = open(path).map_err(|e| unwritable(path, &e))?;
            (Sink::File(file, path), progress)
        }
    };
    let mut rows = 0;
    loop {
        let mut query: Vec<(&str, &str)> = args.sub.iter().map(|sub| ("sub", sub.as_str())).collect();
        match &progress {
            Progress::Beginning => {}
            Progress::At(cursor) => query.push(("cursor", cursor)),
            Progress::Complete => break,
        }
        let page = api.call(reqwest::Method::GET, &["export"], &query, "data:export").await?;
        let cut = || PluginError::new(ErrorClass::Transient, "a page of the export came without its end");
        progress = page.lines().last().and_then(resolve_progress).ok_or_else(cut)?;
        sink.write(&page)?;
        rows += page.lines().count() - 1;
    }
    Ok(match &args.output {
        None => String::new(),
        Some(path) => format!("{}: complete, {rows} rows more than before\n", path.display()),
    })
}

enum Sink<'a> {
    Terminal,
    File(File, &'a Path),
}

impl Sink<'_> {
    fn write(&mut self, page: &str) -> Result<(), PluginError> {
        match self {
            Self::Terminal => std::io::stdout()
                .write_all(page.as_bytes())
                .map_err(|e| PluginError::new(ErrorClass::Bug, format!("can't write to standard output: {e}"))),
            // On the disk before the next page is asked for: an export that was said to be complete is.
            Self::File(file, path) => {
                file.write_all(page.as_bytes()).and_then(|()| file.sync_data()).map_err(|e| unwritable(path, &e))
            }
        }
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> PluginError {
    PluginError::new(ErrorClass::Invalid, format!("can't write {}: {error}", path.display()))
}

/// Opens a file for going on after its last whole page; what follows that is cut off.
fn open(path: &Path) -> std::io::Result<(File, Progress)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let (mut progress, mut whole, mut at) = (Progress::Beginning, 0, 0);
    let mut reader = BufReader::new(&mut file);
    let mut line = String::new();
    loop {
        line.clear();
        let read = reader.read_line(&mut line)?;
        if read == 0 || !line.ends_with('\n') {
            break;
        }
        at += read as u64;
        if let Some(there) = resolve_progress(&line) {
            (progress, whole) = (there, at);
        }
    }
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    Ok((file, progress))
}

#[derive(Deserialize)]
struct Erased {
    conversations: i64,
    messages: i64,
    renamed: i64,
}

/// Erases a user. Returns what to print.
///
/// # Errors
/// When it wasn't meant, or the agent API says no. Asking again does what was left.
pub async fn erase(cluster: &Cluster, name: &str, args: &EraseArgs) -> Result<String, PluginError> {
    if !args.yes {
        let text = format!("this deletes every conversation of '{}' for good; say --yes if you mean it", args.sub);
        return Err(PluginError::new(ErrorClass::Invalid, text));
    }
    let api = AgentApiClient::new(cluster, name, &args.server).await?;
    let answer = api.call(reqwest::Method::DELETE, &["users", &args.sub], &[], "data:erase").await?;
    let Erased { conversations, messages, renamed } = serde_json::from_str(&answer)
        .map_err(|e| PluginError::new(ErrorClass::Bug, format!("the agent API's answer can't be read: {e}")))?;
    Ok(format!(
        "user '{}' erased: {conversations} conversations with {messages} messages deleted, {renamed} rows renamed\n",
        args.sub
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_continued_after_its_last_whole_page() {
        let dir = std::env::temp_dir().join(format!("export-{}", uuid::Uuid::new_v4()));
        let end = "{\"type\":\"page\",\"next\":null}\n";
        let page = "{\"type\":\"message\"}\n{\"type\":\"page\",\"next\":\"c1\"}\n";
        for (content, progress, kept) in [
            (String::new(), Progress::Beginning, 0),
            ("{\"type\":\"message\"}\n".to_owned(), Progress::Beginning, 0),
            (page.to_owned(), Progress::At("c1".to_owned()), page.len()),
            (format!("{page}{{\"type\":\"mess"), Progress::At("c1".to_owned()), page.len()),
            (format!("{page}{end}"), Progress::Complete, page.len() + end.len()),
        ] {
            std::fs::write(&dir, &content).unwrap();
            let (file, found) = open(&dir).unwrap();
            assert_eq!((found, file.metadata().unwrap().len()), (progress, kept as u64), "{content}");
        }
        std::fs::remove_file(&dir).unwrap();
    }
}
