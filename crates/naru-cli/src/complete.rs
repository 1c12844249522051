//! Shell completion: scripts that ask this program, and the answers, from the same table that the parser reads.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Kind;
use crate::spec::{self, FAMILIES, Found};

const BASH: &str = r#"_PROG_complete() {
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _PROG_complete PROG
"#;

const ZSH: &str = r#"#compdef PROG
_PROG() {
    local -a found
    local line
    for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    _describe 'PROG' found || _files
}
compdef _PROG PROG
"#;

const FISH: &str = r#"complete -c PROG -e
complete -c PROG -a '(PROG __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"#;

/// Prints the script for a shell.
pub fn script(context: &mut Context, shell: &str) -> Outcome {
    let text = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        _ => return Err(Failure::new(format!("Usage:  {} completion bash|zsh|fish", context.program))),
    };
    context.printer.raw(text.replace("PROG", context.program).as_bytes())?;
    Ok(0)
}

/// Prints what may stand in place of the last of `words`, with a tab before what it is.
pub fn candidates(context: &mut Context, words: &[String]) -> Outcome {
    let (current, before) = words.split_last().map_or(("", words), |(last, rest)| (last.as_str(), rest));
    for (word, about) in candidates_for(before, current) {
        if word.starts_with(current) {
            context.printer.line(format!("{word}\t{about}"))?;
        }
    }
    if let Found::Command(command, ..) = spec::find(before)
        && !current.starts_with('-')
    {
        for name in names(context, command.usage) {
            if name.starts_with(current) {
                context.printer.line(format!("{name}\t"))?;
            }
        }
    }
    Ok(0)
}

fn candidates_for(before: &[String], current: &str) -> Vec<(String, &'static str)> {
    match spec::find(before) {
        Found::Command(command, ..) if current.starts_with('-') => command
            .sorted_flags()
            .into_iter()
            .map(|f| (format!("--{}{}", f.long, if matches!(f.kind, Kind::Bool) { "" } else { "=" }), f.help))
            .collect(),
        Found::Family(family) => {
            let prefix = format!("{family} ");
            let of_family = |c: &'static spec::Command| {
                c.paths.iter().find_map(|p| p.strip_prefix(&prefix)).map(|p| (p.to_owned(), c.about))
            };
            spec::commands().filter_map(of_family).collect()
        }
        Found::Unknown(0) => {
            let top = |c: &'static spec::Command| {
                c.paths.iter().find(|p| !p.contains(' ')).map(|p| ((*p).to_owned(), c.about))
            };
            let families = FAMILIES.iter().map(|(f, about)| ((*f).to_owned(), *about));
            spec::commands().filter_map(top).chain(families).collect()
        }
        _ => Vec::new(),
    }
}

/// The names of the objects that a command's usage line asks for; none when the engine does not answer.
fn names(context: &Context, usage: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Named {
        #[serde(default)]
        name: String,
    }
    let from_lists =
        |lists: Vec<Vec<String>>| lists.into_iter().flatten().map(|n| n.trim_start_matches('/').to_owned()).collect();
    if usage.contains("CONTAINER") {
        let list = context.get::<Vec<crate::types::Container>>("/containers/json?all=1").unwrap_or_default();
        return from_lists(list.into_iter().map(|c| c.names).collect());
    }
    if usage.contains("IMAGE") {
        let list = context.get::<Vec<crate::types::Image>>("/images/json").unwrap_or_default();
        return from_lists(list.into_iter().map(|i| i.repo_tags).collect());
    }
    if usage.contains("VOLUME") {
        let list = context.get::<crate::types::Volumes>("/volumes").unwrap_or_default();
        return list.volumes.into_iter().map(|v| v.name).collect();
    }
    if usage.contains("NETWORK") {
        return context.get::<Vec<Named>>("/networks").unwrap_or_default().into_iter().map(|n| n.name).collect();
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(before: &[&str], current: &str) -> Vec<String> {
        let before: Vec<_> = before.iter().map(|s| (*s).to_owned()).collect();
        candidates_for(&before, current).into_iter().map(|(w, _)| w).collect()
    }

    #[test]
    fn words_come_from_the_table() {
        assert!(words(&[], "").contains(&"run".to_owned()) && words(&[], "").contains(&"volume".to_owned()));
        assert!(words(&["container"], "").contains(&"ls".to_owned()));
        assert!(
            words(&["ps"], "--").contains(&"--format=".to_owned()) && words(&["ps"], "-").contains(&"--all".to_owned())
        );
    }
}
