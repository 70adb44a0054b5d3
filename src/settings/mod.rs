//! Checked settings: defaults in code, a YAML file over them, environment variables over both.
//!
//! An unknown key is refused with its path, so that a typing error does not silently mean the default.
//! An environment variable names a key by its path: `AGENT_TENANCY__DATABASE__CONNECTION_BUDGET=16` sets
//! `database.connectionBudget`. Its value is parsed as YAML: `true`, `5`, `[a, b]`.

#[cfg(feature = "agent-api")]
pub mod agent_api;
#[cfg(feature = "operator")]
pub mod database;
#[cfg(feature = "operator")]
pub mod operator;

use crate::domain::class::ErrorClass;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};
use std::{fmt, path::Path};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Variables that start like this are settings.
pub const ENVIRONMENT_PREFIX: &str = "AGENT_TENANCY__";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("the settings file '{file}' can't be read")]
    Unreadable {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML, or not a mapping.
    #[error("the settings file '{file}' is not a YAML mapping: {reason}")]
    NotYaml {
        /// Its path.
        file: String,
        /// Where and why.
        reason: String,
    },
    /// An unknown key.
    #[error("'{path}' ({origin}) is not a setting; known here: {known}")]
    UnknownKey {
        /// Path of the key.
        path: String,
        /// The file, or the variable's name.
        origin: String,
        /// The known keys.
        known: String,
    },
    /// A key that was renamed.
    #[error("'{path}' ({origin}) is now '{successor}'")]
    RenamedKey {
        /// Path of the key.
        path: String,
        /// The file, or the variable's name.
        origin: String,
        /// Path of the key that replaced it.
        successor: &'static str,
    },
    /// A value of the wrong type, or out of bounds.
    #[error("{0}")]
    Wrong(String),
}

impl SettingsError {
    /// The settings have to be changed.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

/// Settings of one program.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Paths of keys of earlier versions, each with the path of its successor.
    const RENAMED: &'static [(&'static str, &'static str)] = &[];

    /// Checks the bounds of all settings.
    ///
    /// # Errors
    /// A sentence that starts with the setting's path.
    fn check(&self) -> Result<(), String>;
}

/// A secret setting: usable, wiped when dropped, and never shown or written.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "(redacted)" })
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "(redacted)" })
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The derived code would quote a value of the wrong type.
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a secret must be a text (in quotes)")),
        }
    }
}

/// Reads the settings: defaults, then the file, then the variables that start with [`ENVIRONMENT_PREFIX`].
///
/// # Errors
/// The first invalid setting, with its path and origin.
pub fn load<T: Settings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let text = match file {
        None => None,
        Some(path) => {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|source| SettingsError::Unreadable { file: file.clone(), source })?;
            Some((file, text))
        }
    };
    resolve(text.as_ref().map(|(name, text)| SettingsFile { name, text }), environment)
}

/// The text of a settings file, and the name by which messages refer to it.
#[derive(Clone, Copy)]
pub struct SettingsFile<'f> {
    /// In messages.
    pub name: &'f str,
    /// YAML.
    pub text: &'f str,
}

/// [`load`] without the file system.
///
/// # Errors
/// As [`load`].
pub fn resolve<T: Settings>(
    file: Option<SettingsFile<'_>>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let wrong = |e: serde_yaml::Error| SettingsError::Wrong(e.to_string());
    let mut merged = serde_yaml::to_value(T::default()).map_err(wrong)?;
    if let Some(SettingsFile { name, text }) = file {
        let not_yaml = |reason: String| SettingsError::NotYaml { file: name.to_owned(), reason };
        match serde_yaml::from_str::<Value>(text).map_err(|e| not_yaml(e.to_string()))? {
            Value::Null => {}
            Value::Mapping(given) => merge(&mut merged, given, "", KeyOrigin { name, renamed: T::RENAMED })?,
            _ => return Err(not_yaml("its top level is something else".to_owned())),
        }
    }
    let mut variables: Vec<_> = environment.into_iter().filter(|(n, _)| n.starts_with(ENVIRONMENT_PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        set(&mut merged, text, KeyOrigin { name: &name, renamed: T::RENAMED })?;
    }
    // Through text, because only the parser of text names the path of an invalid value. Its line numbers are meaningless.
    let text = serde_yaml::to_string(&merged).map_err(wrong)?;
    let settings: T = serde_yaml::from_str(&text).map_err(|e| {
        let reason = e.to_string();
        SettingsError::Wrong(reason.split(" at line ").next().unwrap_or_default().to_owned())
    })?;
    settings.check().map_err(SettingsError::Wrong)?;
    Ok(settings)
}

/// Where a key was found.
#[derive(Clone, Copy)]
struct KeyOrigin<'o> {
    /// The file, or the variable's name.
    name: &'o str,
    /// [`Settings::RENAMED`].
    renamed: &'static [(&'static str, &'static str)],
}

/// Merges `given` into `base`. Keys must exist in `base`, except in mappings that are empty by default (free-form ones).
fn merge(base: &mut Value, given: Mapping, path: &str, origin: KeyOrigin<'_>) -> Result<(), SettingsError> {
    let Value::Mapping(base) = base else {
        *base = Value::Mapping(given);
        return Ok(());
    };
    let free_form = base.is_empty();
    for (key, value) in given {
        let name = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        match (base.get_mut(&key), value) {
            (None, value) if free_form => {
                base.insert(key, value);
            }
            (None, _) => return Err(unknown(&path, origin, base)),
            (Some(old @ Value::Mapping(_)), Value::Mapping(given)) => merge(old, given, &path, origin)?,
            // `section:` without a value keeps its defaults.
            (Some(Value::Mapping(_)), Value::Null) => {}
            (Some(old), value) => *old = value,
        }
    }
    Ok(())
}

/// Applies one variable.
fn set(base: &mut Value, text: String, origin: KeyOrigin<'_>) -> Result<(), SettingsError> {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let mut at = base;
    let mut path = String::new();
    for part in origin.name.trim_start_matches(ENVIRONMENT_PREFIX).split("__") {
        if !at.is_mapping() {
            return Err(SettingsError::UnknownKey {
                path: format!("{path}.{part}"),
                origin: origin.name.to_owned(),
                known: "nothing".to_owned(),
            });
        }
        let Value::Mapping(mapping) = at else { return Ok(()) };
        let key = mapping.keys().find(|k| k.as_str().is_some_and(|k| plain(k) == plain(part))).cloned();
        let Some(key) = key else {
            let path = if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
            let renamed = origin.renamed.iter().find(|(old, _)| plain(old) == plain(&path));
            return Err(unknown(renamed.map_or(path.as_str(), |(old, _)| *old), origin, mapping));
        };
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key.as_str().unwrap_or_default());
        at = mapping.entry(key).or_insert(Value::Null);
    }
    // The value of a text setting is not parsed: `0123` and `yes` are texts.
    *at = if at.is_string() { Value::String(text) } else { serde_yaml::from_str(&text).unwrap_or(Value::String(text)) };
    Ok(())
}

fn unknown(path: &str, KeyOrigin { name, renamed }: KeyOrigin<'_>, siblings: &Mapping) -> SettingsError {
    let (path, origin) = (path.to_owned(), name.to_owned());
    if let Some((_, successor)) = renamed.iter().find(|(old, _)| *old == path) {
        return SettingsError::RenamedKey { path, origin, successor };
    }
    let known: Vec<_> = siblings.keys().filter_map(Value::as_str).collect();
    SettingsError::UnknownKey { path, origin, known: known.join(", ") }
}

/// The effective settings, as YAML, with secrets as `(redacted)`.
///
/// # Errors
/// When they can't be written as YAML.
pub fn render<T: Settings>(settings: &T) -> Result<String, SettingsError> {
    serde_yaml::to_string(settings).map_err(|e| SettingsError::Wrong(e.to_string()))
}

/// How and how much is logged; every program has this section as `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// Level, or directives such as `info,agent_tenancy=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info".to_owned() }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

#[cfg(test)]
mod tests;
