//! The results of a benchmark: a list of measures, as a table for people and as JSON for programs.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// What was measured; unique in a report.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit: `s`, `ms`, `MiB`, `1/s`; `ratio` for a quotient of two figures of the same run.
    pub unit: String,
    /// What it should be, such as `≤ 60`; nothing where it has no aim.
    pub aim: Option<String>,
    /// Whether the aim is met; nothing without an aim.
    pub ok: Option<bool>,
    /// How it was measured, and other remarks.
    pub note: String,
}

impl Measure {
    /// A figure without an aim.
    pub fn new(name: impl Into<String>, value: f64, unit: impl Into<String>) -> Measure {
        Measure { name: name.into(), value, unit: unit.into(), aim: None, ok: None, note: String::new() }
    }

    /// It should be at most this. A figure that is not a number misses every aim.
    #[must_use]
    pub fn at_most(self, aim: f64) -> Measure {
        Measure { aim: Some(format!("≤ {aim}")), ok: Some(self.value <= aim), ..self }
    }

    /// It should be at least this.
    #[must_use]
    pub fn at_least(self, aim: f64) -> Measure {
        Measure { aim: Some(format!("≥ {aim}")), ok: Some(self.value >= aim), ..self }
    }

    /// Adds how it was measured.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Measure {
        Measure { note: note.into(), ..self }
    }
}

/// The report of one run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its rows.
    pub measures: Vec<Measure>,
}

impl Report {
    /// A report that begins with the machine it was made on.
    pub fn begin() -> Report {
        Report { measures: vec![machine()] }
    }

    /// The rows that miss their aims.
    pub fn failed(&self) -> Vec<&Measure> {
        self.measures.iter().filter(|measure| measure.ok == Some(false)).collect()
    }

    /// Writes the list as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.measures)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(path, text + "\n"))
            .with_context(|| format!("the report {} can't be written", path.display()))
    }

    /// The table, which is also Markdown.
    pub fn render(&self) -> String {
        let head = ["measure", "value", "unit", "aim", "ok", "note"].map(str::to_owned);
        let rows: Vec<[String; 6]> = self.measures.iter().map(cells).collect();
        let width =
            |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut text = String::new();
        line(&mut text, &head, &widths);
        line(&mut text, &widths.map(|width| "-".repeat(width)), &widths);
        rows.iter().for_each(|row| line(&mut text, row, &widths));
        text
    }
}

fn cells(measure: &Measure) -> [String; 6] {
    let Measure { name, value, unit, aim, ok, note } = measure;
    let ok = match ok {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    [name.clone(), figure(*value), unit.clone(), aim.clone().unwrap_or_default(), ok.to_owned(), note.clone()]
}

fn line(text: &mut String, cells: &[String; 6], widths: &[usize; 6]) {
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Figures are aligned on the right.
        let _ = match column {
            1 => write!(text, "| {cell:>width$} "),
            _ => write!(text, "| {cell:<width$} "),
        };
    }
    text.push_str("|\n");
}

/// About three significant digits.
fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The value at this share of a sorted list (nearest rank); not a number for an empty one.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The machine, in one row: figures of different machines can't be compared.
fn machine() -> Measure {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kib = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let memory = kib.map_or(String::new(), |kib| format!(", {} GiB", kib.div_ceil(1 << 20)));
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned();
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let note = format!(
        "{cpu}{memory}, Linux {}; {build}; clients and servers share it, etcd and Postgres don't wait for the disk; \
         load before the start {load}",
        kernel.trim()
    );
    Measure::new("machine", cores as f64, "cores").note(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_decide_what_has_failed() {
        let measures = vec![
            Measure::new("without an aim", 7.0, "s"),
            Measure::new("met", 0.5, "ratio").at_least(0.5),
            Measure::new("missed", 61.0, "MiB").at_most(60.0),
            Measure::new("not measured", f64::NAN, "ms").at_most(60.0),
        ];
        let report = Report { measures };
        let failed: Vec<_> = report.failed().into_iter().map(|measure| measure.name.as_str()).collect();
        assert_eq!(failed, ["missed", "not measured"]);
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let table = report.render();
        assert!(table.lines().any(|line| squeeze(line) == "| met | 0.50 | ratio | ≥ 0.5 | yes | |"), "{table}");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (100.0, 198.0));
        assert_eq!(percentile(&[3.0], 0.99), 3.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
