//! Images that are nearly the same although their patients are on different sides: a model would be judged on what it has
//! learned from. A training with such images is refused unless it is told to do without them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::model::Bundle;
use crate::retrain::alike::{self, Leak};
use crate::retrain::dataset::{Dataset, Example};
use crate::retrain::looks::Looks;
use crate::retrain::sides::{Side, Sides};

/// How many are named.
const NAMED: usize = 5;

/// Refuses such images, or leaves out those on the side that judges less strictly. A dry run says that it would refuse.
pub(super) fn settle(
    dataset: &mut Dataset,
    sides: &Sides,
    leave_out: bool,
    dry_run: bool,
) -> anyhow::Result<()> {
    let leaks = alike::leaks(dataset, sides);
    if leaks.is_empty() {
        return Ok(());
    }
    let problem = (!leave_out).then(|| in_words(dataset, sides, &leaks));
    match problem {
        Some(problem) if dry_run => eprintln!("would be refused: {problem}"),
        Some(problem) => bail!(problem),
        None => {}
    }
    let why = "nearly the same image as one of another patient on a side that judges";
    for leak in leaks.into_iter().rev() {
        let copy = dataset.examples.remove(leak.index);
        dataset.left_out.file(why, &copy.path);
    }
    Ok(())
}

/// What a state's models were trained on must not judge this one, which begins where they ended: images of its judging sides
/// that look so are left out. Gives what is known, for what is learned from next.
pub(super) fn known(
    dataset: &mut Dataset,
    sides: &Sides,
    state: &Path,
    start: &Bundle,
) -> anyhow::Result<Option<Looks>> {
    let looks = Looks::read(state, start.render_specs())
        .with_context(|| Looks::folder(state).display().to_string())?;
    if let Some(looks) = &looks {
        let judging = on_sides(dataset, sides, [Side::Test, Side::Golden]);
        looks.leave_out(dataset, &judging);
    }
    Ok(looks)
}

/// The examples of these sides, in order.
pub(super) fn on_sides(dataset: &Dataset, sides: &Sides, of: [Side; 2]) -> Vec<usize> {
    let examples = dataset.examples.iter().enumerate();
    let on_side = examples.filter(|(_, example)| {
        let side = sides.of(&example.patient);
        side.is_some_and(|side| of.contains(&side))
    });
    on_side.map(|(index, _)| index).collect()
}

fn in_words(dataset: &Dataset, sides: &Sides, leaks: &[Leak]) -> String {
    let mut text = format!(
        "{} of {} images are nearly the same as one of another patient on a side that judges, so that the model would be \
         judged on what it has learned from:\n",
        leaks.len(),
        dataset.examples.len()
    );
    let shown = |example: &Example| {
        // Who was never given a side is learned from.
        let side = sides.of(&example.patient).unwrap_or(Side::Training);
        format!("{} ({})", example.path.display(), side.word())
    };
    for leak in leaks.iter().take(NAMED) {
        let [copy, of] = [leak.index, leak.of].map(|index| shown(&dataset.examples[index]));
        let _ = writeln!(text, "  {copy} is like {of}");
    }
    if let Some(more) = leaks.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more");
    }
    text.push_str(
        "Remove the copies, say in a list (--labels, column patient) that they are of one patient, or use \
         --leave-out-copies to learn without them",
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::decision::HeaderView;
    use crate::filing::record::Digest;
    use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};

    /// Seven patients to learn from and a golden one, all with the same picture.
    fn copied() -> (Dataset, Sides) {
        let spec = Bundle::open_or_shipped(None).unwrap().render_specs()[0].clone();
        let picture: Vec<u16> = (0..spec.height * spec.width)
            .map(|k| (k % 251 * 97) as u16)
            .collect();
        let example = |k: usize| Example {
            path: format!("{k}.dcm").into(),
            digest: Digest(k.to_string()),
            category: Some(0),
            origin: LabelOrigin::Csv,
            patient: format!("P{k}"),
            study: None,
            nameless: false,
            by_header: None,
            reduced: false,
            header: HeaderView::Absent,
            circumstances: Circumstances::default(),
            pictures: vec![picture.clone()],
        };
        let side = |k: usize| [Side::Training, Side::Golden][usize::from(k == 7)];
        let sides = Sides {
            patients: (0..8).map(|k| (format!("P{k}"), side(k))).collect(),
            ..Sides::default()
        };
        let dataset = Dataset {
            examples: (0..8).map(example).collect(),
            specs: vec![spec],
            ..Dataset::default()
        };
        (dataset, sides)
    }

    #[test]
    fn a_leaking_split_is_refused_with_counts_and_files_and_what_to_do() {
        let (mut dataset, sides) = copied();
        let why = settle(&mut dataset, &sides, false, false)
            .unwrap_err()
            .to_string();
        assert!(why.starts_with("7 of 8 images"), "{why}");
        assert!(
            why.contains("0.dcm (training) is like 7.dcm (golden)"),
            "{why}"
        );
        assert!(
            why.contains("and 2 more") && why.contains("--leave-out-copies"),
            "{why}"
        );
        assert_eq!(dataset.examples.len(), 8);
    }

    #[test]
    fn copies_are_left_out_and_counted_when_that_was_asked_for() {
        let (mut dataset, sides) = copied();
        settle(&mut dataset, &sides, true, false).unwrap();
        assert_eq!(dataset.examples.len(), 1);
        assert_eq!(dataset.examples[0].patient, "P7", "the golden one stays");
        assert_eq!(dataset.left_out.counts().values().sum::<usize>(), 7);
    }
}
