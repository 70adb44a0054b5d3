//! Generated files of the chart: the CRDs' template and the table of values in the README.

use super::support::chart;
use serde_yaml::Value;
use std::fmt::Write as _;

/// Compares a file of the chart with the generated text; with `UPDATE=1` in the environment, writes it.
fn compare(name: &str, generated: &str) {
    let file = chart().join(name);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&file, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "charts/agent-tenancy/{name} differs from the generated text; run `UPDATE=1 cargo test`"
    );
}

#[test]
fn the_chart_holds_the_generated_crds() {
    let mut text = String::from(
        "{{- /* Generated from src/api by `make generate`; edit the types, not this file. */}}\n{{- if .Values.crds.install }}\n",
    );
    for (name, crd) in agent_tenancy::api::crd::render_crds().unwrap() {
        assert!(!crd.contains("{{"), "{name} would be read as a template");
        let (head, spec) = crd.split_once("\nspec:\n").unwrap();
        let head = head.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        write!(
            text,
            "---\n{head}\n  labels:\n    {{{{- include \"agent-tenancy.labels\" . | nindent 4 }}}}\n  \
             {{{{- if .Values.crds.keep }}}}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{{{- end }}}}\nspec:\n{spec}"
        )
        .unwrap();
    }
    text.push_str("{{- end }}\n");
    compare("templates/crds.yaml", &text);
}

/// A row of the table.
struct Row {
    path: String,
    meaning: String,
}

/// The values that a comment `# -- …` describes.
fn rows(text: &str) -> Vec<Row> {
    let (mut rows, mut parents, mut meaning) = (Vec::new(), Vec::<(usize, String)>::new(), None);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim_start();
        if let Some(comment) = line.strip_prefix("# -- ") {
            meaning = Some(comment.to_owned());
        } else if !line.starts_with('#') && !line.starts_with('-') && line.contains(':') {
            let key = line.split(':').next().unwrap().to_owned();
            parents.retain(|(depth, _)| *depth < indent);
            parents.push((indent, key));
            if let Some(meaning) = meaning.take() {
                let path = parents.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
                rows.push(Row { path, meaning });
            }
        }
    }
    rows
}

fn at<'v>(values: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(values, |value, key| &value[key])
}

#[test]
fn the_readme_shows_every_value() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let rows = rows(&text);

    let mut table = String::from("| value | default | meaning |\n| --- | --- | --- |\n");
    for row in &rows {
        let default = serde_json::to_string(at(&values, &row.path)).unwrap();
        writeln!(table, "| `{}` | `{default}` | {} |", row.path, row.meaning.replace('|', "\\|")).unwrap();
    }
    let mut undescribed = Vec::new();
    leaves("", &values, &mut |path| {
        let described = rows.iter().any(|row| path == row.path || path.starts_with(&format!("{}.", row.path)));
        if !described {
            undescribed.push(path.to_owned());
        }
    });
    assert_eq!(undescribed, Vec::<String>::new(), "values without a comment '# -- …'");

    let (begin, end) = ("<!-- values: begin -->\n", "<!-- values: end -->");
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let (before, rest) = readme.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    compare("README.md", &format!("{before}{begin}{table}{end}{after}"));
}

fn leaves(path: &str, value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Mapping(map) if !map.is_empty() => {
            for (key, child) in map {
                let key = key.as_str().unwrap();
                leaves(&if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }, child, found);
            }
        }
        _ => found(path),
    }
}
