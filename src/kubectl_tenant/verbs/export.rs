//! `export`: a tenant's data as JSON Lines, continued where an earlier export to the same file ended. The first line says
//! what is exported; a file that does not begin with it is never changed.

use crate::{
    clock::Clock,
    domain::{class::ErrorClass, time::whole_seconds},
    kubectl_tenant::{
        clients::agent_api::{AgentApiArgs, AgentApiClient},
        cluster::Cluster,
        error::{PluginError, VerbFailure},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions, TryLockError},
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
    /// File to write. An interrupted export of the same data is continued after its last complete page; any other file is
    /// left untouched. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Format of the first line.
const FORMAT: u32 = 1;

/// The first line: what the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportHeader {
    r#type: String,
    format: u32,
    tenant_id: String,
    /// Identity of the tenant's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    /// Only the data of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Everything that was stored before is in the complete export; what came later may be missing.
    start_time: Timestamp,
}

impl ExportHeader {
    fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().filter(|header: &Self| header.r#type == "export" && header.format == FORMAT)
    }

    fn render(&self) -> Result<String, PluginError> {
        let unwritable = |e| PluginError::new(ErrorClass::Bug, format!("the first line can't be written: {e}"));
        Ok(serde_json::to_string(self).map_err(unwritable)? + "\n")
    }

    /// Why a file with this header can't be continued by an export with another one.
    fn find_difference(&self, wanted: &Self) -> Option<String> {
        let user = |header: &Self| header.sub.as_ref().map_or("all users".to_owned(), |sub| format!("user '{sub}'"));
        if self.tenant_id != wanted.tenant_id {
            return Some(format!("holds an export of tenant {}", self.tenant_id));
        }
        if self.incarnation != wanted.incarnation {
            return Some(format!("holds an export of former data of tenant {}", self.tenant_id));
        }
        (self.sub != wanted.sub).then(|| format!("holds an export of {}, not of {}", user(self), user(wanted)))
    }
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
enum ExportProgress {
    Beginning,
    At(String),
    Complete,
}

fn resolve_progress(line: &str) -> Option<ExportProgress> {
    let end: PageEnd = serde_json::from_str(line).ok().filter(|end: &PageEnd| end.r#type == "page")?;
    Some(end.next.map_or(ExportProgress::Complete, ExportProgress::At))
}

/// Exports, page by page.
///
/// # Errors
/// When the agent API refuses, the file holds something else, or it can't be written; what was written stays, and the next
/// call continues there.
pub(crate) async fn run(cluster: &Cluster, args: &ExportArgs) -> Result<String, VerbFailure> {
    let api = AgentApiClient::new(cluster, &args.name, &args.agent_api).await?;
    let header = ExportHeader {
        r#type: "export".to_owned(),
        format: FORMAT,
        tenant_id: api.tenant_id().to_owned(),
        incarnation: api.incarnation().map(str::to_owned),
        sub: args.sub.clone(),
        start_time: whole_seconds(Clock::system().now()),
    };
    let Opened { mut sink, mut progress, start_time } = open(args.output.as_deref(), &header)?;
    let was_complete = progress == ExportProgress::Complete;
    let mut rows = 0;
    loop {
        let mut query: Vec<(&str, &str)> = args.sub.iter().map(|sub| ("sub", sub.as_str())).collect();
        match &progress {
            ExportProgress::Beginning => {}
            ExportProgress::At(cursor) => query.push(("cursor", cursor)),
            ExportProgress::Complete => break,
        }
        let page = api.call(reqwest::Method::GET, &["export"], &query, "data:export").await?;
        let cut = || PluginError::new(ErrorClass::Transient, "a page of the export was incomplete");
        progress = page.lines().last().and_then(resolve_progress).ok_or_else(cut)?;
        sink.write(&page)?;
        rows += page.lines().count() - 1;
    }
    Ok(match &args.output {
        None => String::new(),
        Some(path) if was_complete => format!(
            "{}: already complete, with what was stored before {start_time}; export newer data to another file\n",
            path.display()
        ),
        Some(path) => {
            format!("{}: complete, with what was stored before {start_time}; {rows} rows added\n", path.display())
        }
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

/// Where to write, how far the export there is, and when it was started.
struct Opened<'a> {
    sink: Sink<'a>,
    progress: ExportProgress,
    start_time: Timestamp,
}

/// Opens the output, and writes the header to a new one. Of an interrupted export of the same data, what follows the last
/// complete page is removed.
///
/// # Errors
/// When the file holds anything else, is written by another process, or can't be written.
fn open<'a>(output: Option<&'a Path>, header: &ExportHeader) -> Result<Opened<'a>, PluginError> {
    let Some(path) = output else {
        let mut sink = Sink::Terminal;
        sink.write(&header.render()?)?;
        return Ok(Opened { sink, progress: ExportProgress::Beginning, start_time: header.start_time });
    };
    let refused = |why: String| {
        let text = format!("{} {why}; it was left as it is: export to another file", path.display());
        PluginError::new(ErrorClass::Invalid, text)
    };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = file.map_err(|e| unwritable(path, &e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(refused("is being written by another export".to_owned())),
        // Some file systems have no locks.
        Err(TryLockError::Error(_)) => {}
    }
    let found = read(&mut file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => refused("is not an export".to_owned()),
        _ => unwritable(path, &error),
    })?;
    let (progress, start_time, end) = match found {
        FileContent::Nothing => (ExportProgress::Beginning, header.start_time, 0),
        FileContent::Foreign => return Err(refused("is not an export that can be continued".to_owned())),
        FileContent::Export { header: old, progress, end } => match old.find_difference(header) {
            Some(difference) => return Err(refused(difference)),
            None => (progress, old.start_time, end),
        },
    };
    file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(|e| unwritable(path, &e))?;
    let mut sink = Sink::File(file, path);
    if end == 0 {
        sink.write(&header.render()?)?;
    }
    Ok(Opened { sink, progress, start_time })
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
enum FileContent {
    Nothing,
    /// Anything that does not begin with a header.
    Foreign,
    Export {
        header: ExportHeader,
        progress: ExportProgress,
        /// Bytes up to the end of the last complete page.
        end: u64,
    },
}

fn read(file: &mut File) -> std::io::Result<FileContent> {
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    let mut at = reader.read_line(&mut line)? as u64;
    if at == 0 {
        return Ok(FileContent::Nothing);
    }
    let Some(header) = ExportHeader::parse(&line).filter(|_| line.ends_with('\n')) else {
        return Ok(FileContent::Foreign);
    };
    let (mut progress, mut end) = (ExportProgress::Beginning, at);
    let mut line = Vec::new();
    loop {
        line.clear();
        // The last line may be cut within a character.
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || !line.ends_with(b"\n") {
            return Ok(FileContent::Export { header, progress, end });
        }
        at += read as u64;
        if let Some(found) = std::str::from_utf8(&line).ok().and_then(resolve_progress) {
            (progress, end) = (found, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "{\"type\":\"message\"}\n{\"type\":\"page\",\"next\":\"c1\"}\n";
    const END: &str = "{\"type\":\"page\",\"next\":null}\n";

    fn header(tenant_id: &str, incarnation: &str, sub: Option<&str>) -> ExportHeader {
        ExportHeader {
            r#type: "export".to_owned(),
            format: FORMAT,
            tenant_id: tenant_id.to_owned(),
            incarnation: Some(incarnation.to_owned()),
            sub: sub.map(str::to_owned),
            start_time: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_file_is_continued_after_its_last_complete_page() {
        let path = std::env::temp_dir().join(format!("export-{}", uuid::Uuid::new_v4()));
        let mine = header("acme", "1", None);
        let first = mine.render().unwrap();
        for (content, progress, kept) in [
            (String::new(), ExportProgress::Beginning, 0),
            (first.clone(), ExportProgress::Beginning, 0),
            (format!("{first}{{\"type\":\"message\"}}\n"), ExportProgress::Beginning, 0),
            (format!("{first}{PAGE}"), ExportProgress::At("c1".to_owned()), PAGE.len()),
            (format!("{first}{PAGE}{{\"type\":\"mess"), ExportProgress::At("c1".to_owned()), PAGE.len()),
            (format!("{first}{PAGE}{END}"), ExportProgress::Complete, PAGE.len() + END.len()),
        ] {
            std::fs::write(&path, &content).unwrap();
            let later = ExportHeader { start_time: Timestamp::from_second(60).unwrap(), ..mine.clone() };
            let opened = open(Some(&path), &later).unwrap();
            let started = if content.is_empty() { later.start_time } else { mine.start_time };
            assert_eq!((opened.progress, opened.start_time), (progress, started), "{content}");
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.len() - text.find('\n').unwrap() - 1, kept, "{content}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_with_anything_else_is_left_as_it_is() {
        let path = std::env::temp_dir().join(format!("export-{}", uuid::Uuid::new_v4()));
        let mine = header("acme", "1", None);
        let other = |header: &ExportHeader| format!("{}{PAGE}", header.render().unwrap()).into_bytes();
        for (content, part) in [
            (b"my notes\n".to_vec(), "is not an export"),
            (b"\xff\xfe\x00".to_vec(), "is not an export"),
            (format!("{PAGE}{END}").into_bytes(), "is not an export"),
            (mine.render().unwrap().trim_end().as_bytes().to_vec(), "is not an export"),
            (other(&header("globex", "1", None)), "of tenant globex"),
            (other(&header("acme", "2", None)), "of former data"),
            (other(&header("acme", "1", Some("ann"))), "of user 'ann', not of all users"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let error = open(Some(&path), &mine).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), content, "{error}");
        }
        std::fs::write(&path, "").unwrap();
        let first = open(Some(&path), &mine).unwrap();
        assert!(open(Some(&path), &mine).err().unwrap().to_string().contains("another export"));
        drop(first);
        std::fs::remove_file(&path).unwrap();
    }
}
