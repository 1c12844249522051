//! What the first guest said while it worked: which state of which object was acknowledged when.

use std::collections::BTreeMap;

/// As many lines of the console may be on their way.
const ON_THE_WAY: usize = 4;

/// What an object must be after a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Exactly that.
    State(String),
    /// Not there.
    Gone,
    /// Something was being done to it.
    Anything,
}

/// One line of the story, with the position of the disk when it was heard.
struct Line {
    position: usize,
    subject: String,
    wanted: Wanted,
}

/// All lines.
#[derive(Default)]
pub struct Story {
    lines: Vec<Line>,
}

impl Story {
    /// Takes in a line of the console, heard when the disk was at `position`; what is no line of the story is nothing.
    pub fn hear(&mut self, line: &str, position: usize) {
        let Some((verb, rest)) = marked(line) else { return };
        let (subject, state) = split(rest);
        let wanted = match verb {
            "begin" => Wanted::Anything,
            "ack" => Wanted::State(state.to_owned()),
            "gone" => Wanted::Gone,
            _ => return,
        };
        self.lines.push(Line { position, subject: subject.to_owned(), wanted });
    }

    /// How many acknowledgements there are.
    pub fn acknowledged(&self) -> usize {
        self.lines.iter().filter(|l| l.wanted != Wanted::Anything).count()
    }

    /// The position at which the first acknowledgement was heard.
    pub fn beginning(&self) -> usize {
        self.lines.iter().find(|l| l.wanted != Wanted::Anything).map_or(0, |l| l.position)
    }

    /// What is wrong with a disk of a cut at `position`, on which an engine has found `said` (`@is` lines); and how much of it was checked.
    ///
    /// What was heard before the cut had been acknowledged before it. What was heard soon after it may have been begun before it.
    pub fn judge(&self, position: usize, said: &[String]) -> (usize, Vec<String>) {
        let heard = self.lines.partition_point(|line| line.position <= position);
        let (before, after) = self.lines.split_at(heard);
        let mut wanted: BTreeMap<&str, &Wanted> = before.iter().map(|l| (l.subject.as_str(), &l.wanted)).collect();
        for line in after.iter().take(ON_THE_WAY).filter(|l| l.wanted == Wanted::Anything) {
            wanted.insert(&line.subject, &Wanted::Anything);
        }
        let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
        for line in said {
            let Some(("is", rest)) = marked(line) else { continue };
            if let Some(failure) = rest.strip_prefix("failed ") {
                wrong.push(failure.to_owned());
                continue;
            }
            let (subject, state) = split(rest);
            found.insert(subject, state);
        }
        let mut checked = 0;
        for (subject, wanted) in wanted {
            let is = found.get(subject);
            match (wanted, is) {
                (Wanted::Anything, _) => continue,
                (Wanted::State(state), Some(is)) if state == is => {}
                (Wanted::State(state), is) => {
                    wrong.push(format!("{subject}: acknowledged '{state}', found {}", shown(is)));
                }
                (Wanted::Gone, None) => {}
                (Wanted::Gone, is) => {
                    wrong.push(format!("{subject}: its removal was acknowledged, found {}", shown(is)))
                }
            }
            checked += 1;
        }
        (checked, wrong)
    }
}

fn shown(is: Option<&&str>) -> String {
    is.map_or_else(|| "nothing".to_owned(), |state| format!("'{state}'"))
}

/// The verb and the rest of a line with a mark; the kernel may have said something before it.
pub fn marked(line: &str) -> Option<(&str, &str)> {
    let (_, marked) = line.split_once('@')?;
    let marked = marked.trim_end();
    Some(marked.split_once(' ').unwrap_or((marked, "")))
}

/// Kind and name, and the state after them.
fn split(rest: &str) -> (&str, &str) {
    match rest.match_indices(' ').nth(1) {
        Some((at, _)) => (&rest[..at], &rest[at + 1..]),
        None => (rest, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_wanted() {
        let mut story = Story::default();
        story.hear("@begin container /a\r\n", 1);
        story.hear("noise @ack container /a exited 3 no\r\n", 5);
        story.hear("@begin container /a", 8);
        story.hear("@gone container /a", 9);
        story.hear("no mark", 9);
        let is = |state: &str| vec![format!("@is container /a {state}")];
        assert_eq!(story.judge(2, &[]).1, Vec::<String>::new());
        assert_eq!(story.judge(4, &is("exited 3 no")), (0, vec![]));
        assert_eq!(story.acknowledged(), 2);
        // The next thing may have begun unheard.
        assert_eq!(story.judge(6, &[]), (0, vec![]));
        assert_eq!(story.judge(9, &[]), (1, vec![]));
        assert_eq!(story.judge(9, &is("exited 3 no")).1.len(), 1);
        assert_eq!(story.judge(9, &["@is failed it is broken".to_owned()]).1, ["it is broken"]);
        let mut story = Story::default();
        story.hear("@ack volume v -", 5);
        assert_eq!(story.judge(6, &[]).1, ["volume v: acknowledged '-', found nothing"]);
    }
}
