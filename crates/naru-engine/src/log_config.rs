//! Log drivers and their options, as containers ask for them.

use crate::Engine;
use crate::container::Record;
use crate::types::LogSettings;
use gotmpl::{MissingKey, Template, Value};
use naru_base::{Error, Result};
use naru_log::{Choice, LogConfig};
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The driver of containers that don't say, where the engine's settings don't either.
pub const DEFAULT_DRIVER: &str = "json-file";
/// So many characters docker's short ids have.
const SHORT: usize = 12;

/// Checks driver and options.
///
/// # Errors
/// With docker's texts, which name the option.
pub fn check_log(settings: &LogSettings) -> Result<()> {
    choose(settings)?;
    if settings.driver == "none" {
        return Ok(());
    }
    for key in ["labels-regex", "env-regex"] {
        expression(settings, key)?;
    }
    if let Some(text) = settings.options.get("tag") {
        // Its fields are the same for all containers.
        tag(text, &BTreeMap::from(FIELDS.map(|name| (name, String::new()))))?;
    }
    Ok(())
}

fn choose(settings: &LogSettings) -> Result<Choice> {
    let driver = if settings.driver.is_empty() { DEFAULT_DRIVER } else { &settings.driver };
    naru_log::parse(driver, &settings.options)
}

/// The current file of a log in the container's folder; `None` where none is kept.
pub(crate) fn path(settings: &LogSettings, folder: &Path, id: &str) -> Option<PathBuf> {
    let driver = if settings.driver.is_empty() { DEFAULT_DRIVER } else { &settings.driver };
    Some(folder.join(naru_log::find(driver)?.file(id)?))
}

/// What the monitor is told.
///
/// # Errors
/// As [`check_log`].
pub(crate) fn for_monitor(record: &Record, folder: &Path) -> Result<LogConfig> {
    let settings = &record.host.log;
    let choice = choose(settings)?;
    Ok(LogConfig {
        driver: choice.driver.name().to_owned(),
        path: path(settings, folder, record.id.as_str()),
        max_size: choice.rotation.max_size,
        max_files: choice.rotation.max_files,
        compress: choice.rotation.compress,
        attributes: attributes(record)?,
        buffer: choice.buffer,
    })
}

/// What `labels`, `labels-regex`, `env`, `env-regex` and `tag` choose (moby, daemon/logger/loginfo.go).
fn attributes(record: &Record) -> Result<BTreeMap<String, String>> {
    let settings = &record.host.log;
    let env: BTreeMap<String, String> =
        record.config.env.iter().filter_map(|e| e.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let mut chosen = BTreeMap::new();
    for (key, all) in [("labels", &record.config.labels), ("env", &env)] {
        for name in settings.options.get(key).into_iter().flat_map(|list| list.split(',')) {
            chosen.extend(all.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        if let Some(expression) = expression(settings, &format!("{key}-regex"))? {
            let matching = all.iter().filter(|(name, _)| expression.is_match(name));
            chosen.extend(matching.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    if let Some(text) = settings.options.get("tag").filter(|text| !text.is_empty()) {
        chosen.insert("tag".into(), tag(text, &fields(record))?);
    }
    Ok(chosen)
}

fn expression(settings: &LogSettings, key: &str) -> Result<Option<Regex>> {
    let Some(text) = settings.options.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = Regex::new(text).map_err(|e| Error::invalid(format!("invalid log opt {key}={text}: {e}")))?;
    Ok(Some(parsed))
}

/// What a tag's template can name.
const FIELDS: [&str; 9] =
    ["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "Command", "Hostname", "DaemonName"];

fn fields(record: &Record) -> BTreeMap<&'static str, String> {
    let short = |text: &str| text.chars().take(SHORT).collect::<String>();
    let image = record.image.to_string();
    let command = std::iter::once(&record.path).chain(&record.args).map(String::as_str).collect::<Vec<_>>();
    BTreeMap::from([
        ("ID", record.id.short().to_owned()),
        ("FullID", record.id.to_string()),
        ("Name", record.name.clone()),
        ("ImageID", short(&image)),
        ("ImageFullID", image),
        ("ImageName", record.config.image.clone()),
        ("Command", command.join(" ")),
        ("Hostname", crate::info::hostname()),
        ("DaemonName", "docker".to_owned()),
    ])
}

fn tag(text: &str, fields: &BTreeMap<&'static str, String>) -> Result<String> {
    let bad = |e: &dyn std::fmt::Display| Error::invalid(format!("invalid log opt tag={text}: {e}"));
    let template = Template::new("log-tag").missing_key(MissingKey::Error).parse(text).map_err(|e| bad(&e))?;
    let values = fields.iter().map(|(name, value)| ((*name).into(), Value::from(value.clone())));
    let values: BTreeMap<std::sync::Arc<str>, Value> = values.collect();
    template.execute_to_string(&Value::Map(std::sync::Arc::new(values))).map_err(|e| bad(&e))
}

impl Engine {
    /// Driver and options of a container that asks for these: the engine's own where it says nothing, as docker has it.
    pub fn complete_log(&self, driver: &mut String, options: &mut BTreeMap<String, String>) {
        let default = &self.config.log;
        let name = self.log_driver();
        if driver.is_empty() {
            name.clone_into(driver);
        }
        if driver == name {
            for (key, value) in &default.options {
                options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }

    /// The driver of containers that don't say.
    pub(crate) fn log_driver(&self) -> &str {
        if self.config.log.driver.is_empty() { DEFAULT_DRIVER } else { &self.config.log.driver }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests_support;

    fn settings(pairs: &[(&str, &str)]) -> LogSettings {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LogSettings { driver: "json-file".into(), options }
    }

    #[test]
    fn bad_options_are_named() {
        for (key, value) in
            [("labels-regex", "("), ("env-regex", "["), ("tag", "{{.Nope}}"), ("tag", "{{"), ("nope", "1")]
        {
            let error = check_log(&settings(&[(key, value)])).unwrap_err();
            assert!(error.message().contains(key), "{key}={value}: {error}");
        }
        check_log(&settings(&[("tag", "{{.Name}}/{{.ID}}"), ("env-regex", "^A")])).unwrap();
    }

    #[test]
    fn attributes_are_chosen() {
        let mut record = tests_support::record("1", "box");
        record.config.labels = [("a", "1"), ("b", "2"), ("cc", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        record.config.env = ["A=x", "AB=y=z", "C=w"].map(str::to_owned).to_vec();
        record.host.log = settings(&[
            ("labels", "a,none"),
            ("labels-regex", "^c"),
            ("env", "C"),
            ("env-regex", "^AB?$"),
            ("tag", "<{{.Name}}>"),
        ]);
        let text =
            attributes(&record).unwrap().into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(text, format!("A=x AB=y=z C=w a=1 cc=3 tag=<{}>", record.name));
    }
}
