//! `export`: a tenant's data as JSON Lines, continued where an earlier export to the same file ended.

use crate::{
    domain::class::ErrorClass,
    kubectl_tenant::{
        clients::agent_api::{AgentApiArgs, AgentApiClient},
        cluster::Cluster,
        error::{Failure, PluginError},
    },
};
use serde::Deserialize;
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Export a Tenant's data as JSON Lines through the agent API (requires permission to read the Tenant's Secret)
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Name of the Tenant
    name: String,
    #[command(flatten)]
    agent_api: AgentApiArgs,
    /// Only the data of this user (the `sub` of their tokens)
    #[arg(long, value_name = "SUB")]
    sub: Option<String>,
    /// File to write; an existing file is continued after its last complete page. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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

/// Exports, page by page.
///
/// # Errors
/// When the agent API refuses, or the file can't be written; what was written stays, and the next call continues there.
pub(crate) async fn run(cluster: &Cluster, args: &ExportArgs) -> Result<String, Failure> {
    let api = AgentApiClient::new(cluster, &args.name, &args.agent_api).await?;
    let (mut sink, mut progress) = match &args.output {
        None => (Sink::Terminal, Progress::Beginning),
        Some(path) => {
            let OpenedFile { file, progress } = open(path).map_err(|e| unwritable(path, &e))?;
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
        let cut = || PluginError::new(ErrorClass::Transient, "a page of the export was incomplete");
        progress = page.lines().last().and_then(resolve_progress).ok_or_else(cut)?;
        sink.write(&page)?;
        rows += page.lines().count() - 1;
    }
    Ok(match &args.output {
        None => String::new(),
        Some(path) => format!("{}: complete, {rows} rows added\n", path.display()),
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
            // On the disk before the next page is requested, so that an export that is reported as complete is complete.
            Self::File(file, path) => {
                file.write_all(page.as_bytes()).and_then(|()| file.sync_data()).map_err(|e| unwritable(path, &e))
            }
        }
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> PluginError {
    PluginError::new(ErrorClass::Invalid, format!("can't write {}: {error}", path.display()))
}

/// A file to append to, and how far the export in it is.
struct OpenedFile {
    file: File,
    progress: Progress,
}

/// Opens a file to continue after its last complete page; anything after that page is removed.
fn open(path: &Path) -> std::io::Result<OpenedFile> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let (mut progress, mut complete, mut at) = (Progress::Beginning, 0, 0);
    let mut reader = BufReader::new(&mut file);
    let mut line = String::new();
    loop {
        line.clear();
        let read = reader.read_line(&mut line)?;
        if read == 0 || !line.ends_with('\n') {
            break;
        }
        at += read as u64;
        if let Some(found) = resolve_progress(&line) {
            (progress, complete) = (found, at);
        }
    }
    file.set_len(complete)?;
    file.seek(SeekFrom::Start(complete))?;
    Ok(OpenedFile { file, progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_continued_after_its_last_complete_page() {
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
            let opened = open(&dir).unwrap();
            assert_eq!((opened.progress, opened.file.metadata().unwrap().len()), (progress, kept as u64), "{content}");
        }
        std::fs::remove_file(&dir).unwrap();
    }
}
