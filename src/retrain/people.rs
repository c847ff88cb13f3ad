//! Who is one person. A list may call the patient of a file otherwise than the file does: by a name of its own, in another
//! spelling, or by one name a row, as spreadsheets fill them down. Were the list alone believed, one person's images would lie
//! on several sides, and a model would be judged by people that it has learned from. So whoever the list, the file's Patient ID
//! or its study says is one person is one person, and every one of these names has that person's side from then on. The file's
//! bytes are such a name, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::dataset::{Dataset, Example};
use super::shared::{self, Shared};
use super::sides::{Side, Sides};

/// A Patient ID or study that so many names share, and more than half of all of them, is nobody's: anonymised files may all
/// have the same one.
const NAMES: usize = 10;

/// What was found out about who is who.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Names that stand for many people.
    pub shared: Shared,
    /// Names that are those of people with several.
    pub names: usize,
    /// These people.
    pub people: usize,
    /// People who had several sides before it was known that they are one.
    pub on_several_sides: usize,
    /// Patient IDs and studies that nearly all files have.
    pub of_nearly_all: usize,
}

impl Found {
    /// What people have to know, a line each.
    pub fn in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let Shared { names, images } = self.shared;
        if images > 0 {
            lines.push(format!(
                "{images} images are under {names} names that must stand for many patients (too many studies for one person): taken as one patient a study, unless the files tell them apart"
            ));
        }
        let Self { names, people, .. } = self;
        if *people > 0 {
            lines.push(format!(
                "{names} names are {people} people, as the Patient IDs or studies in the files say: each of them is taken as one patient"
            ));
        }
        if self.on_several_sides > 0 {
            lines.push(format!(
                "{} people were on several sides before it was known that they are one: from now on they are on the side that judges least (training before validation before test), and promise nothing there",
                self.on_several_sides
            ));
        }
        if self.of_nearly_all > 0 {
            lines.push(format!(
                "warning: {} Patient IDs or studies in the files are shared by more than half of all names, as in anonymised files: they are passed over, and it is believed that these names are different people. Where they are one person, give them one name in the list",
                self.of_nearly_all
            ));
        }
        lines
    }
}

/// The people of a set of images, each with all names.
pub struct People {
    /// By the name that each has in the set.
    all: BTreeMap<String, BTreeSet<String>>,
    /// What there is to tell.
    pub found: Found,
}

impl People {
    /// Joins them. In `dataset` each has one name from now on; in `sides` whoever has a side has it by every name.
    pub fn join(dataset: &mut Dataset, sides: &mut Sides) -> Self {
        let mut found = Found {
            shared: shared::split(dataset, sides),
            ..Found::default()
        };
        let passed_over = of_nearly_all(dataset, sides);
        found.of_nearly_all = passed_over.len();
        let mut forest = Forest::default();
        let names_of = |example: &Example| names(example, &passed_over);
        for example in &dataset.examples {
            forest.join(names_of(example));
        }
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for example in &dataset.examples {
            let group = groups.entry(forest.root_of(&example.patient)).or_default();
            group.add(example, names_of(example));
        }
        for example in &mut dataset.examples {
            let group = groups.get(&forest.root_of(&example.patient));
            if let Some(name) = group.and_then(Group::name) {
                name.clone_into(&mut example.patient);
            }
        }
        let mut all = BTreeMap::new();
        for group in groups.into_values() {
            if group.called.len() > 1 {
                found.names += group.called.len();
                found.people += 1;
            }
            let given: BTreeSet<Side> = group.names.iter().filter_map(|it| sides.of(it)).collect();
            found.on_several_sides += usize::from(given.len() > 1);
            if let Some(least) = given.first() {
                sides.set(&group.names, *least);
            }
            if let Some(name) = group.name() {
                all.insert(name.to_owned(), group.names);
            }
        }
        Self { all, found }
    }

    /// Whoever was given a side meanwhile has it by every name.
    pub fn settle(&self, sides: &mut Sides) {
        for (name, names) in &self.all {
            if let Some(side) = sides.of(name) {
                sides.set(names, side);
            }
        }
    }
}

/// Every name of an example's patient.
fn names(example: &Example, passed_over: &BTreeSet<String>) -> Vec<String> {
    let said = [example.by_header.clone(), example.by_study()];
    let said = said.into_iter().flatten();
    let said = said.filter(|name| !passed_over.contains(name) || *name == example.patient);
    [example.patient.clone(), example.by_file()]
        .into_iter()
        .chain(said)
        .collect()
}

/// Patient IDs and studies that more than half of all names share. One that has a side already is somebody.
fn of_nearly_all(dataset: &Dataset, sides: &Sides) -> BTreeSet<String> {
    let mut shared: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for example in &dataset.examples {
        all.insert(example.patient.as_str());
        for name in [example.by_header.clone(), example.by_study()] {
            let Some(name) = name else { continue };
            shared.entry(name).or_default().insert(&example.patient);
        }
    }
    shared
        .into_iter()
        .filter(|(_, by)| by.len() >= NAMES && 2 * by.len() > all.len())
        .map(|(name, _)| name)
        .filter(|name| sides.of(name).is_none())
        .collect()
}

/// One person.
#[derive(Default)]
struct Group {
    names: BTreeSet<String>,
    /// What list or header call them, or what stands for that.
    called: BTreeSet<String>,
    by_header: BTreeSet<String>,
}

impl Group {
    fn add(&mut self, example: &Example, names: Vec<String>) {
        if !example.nameless {
            self.called.insert(example.patient.clone());
        }
        let own = names
            .iter()
            .filter(|it| Some(*it) == example.by_header.as_ref());
        self.by_header.extend(own.cloned());
        self.names.extend(names);
    }

    /// The same whichever way the labels come, where the files say who it is.
    fn name(&self) -> Option<&str> {
        let mut names = self.by_header.iter().chain(&self.called).chain(&self.names);
        names.next().map(String::as_str)
    }
}

/// Names that are joined: a union-find.
#[derive(Default)]
struct Forest {
    places: HashMap<String, usize>,
    parents: Vec<usize>,
}

impl Forest {
    fn join(&mut self, names: Vec<String>) {
        let mut first = None;
        for name in names {
            let place = *self.places.entry(name).or_insert(self.parents.len());
            if place == self.parents.len() {
                self.parents.push(place);
            }
            let root = self.root(place);
            let first = *first.get_or_insert(root);
            let first = self.root(first);
            self.parents[root] = first;
        }
    }

    fn root_of(&mut self, name: &str) -> usize {
        let place = self.places.get(name).copied();
        place.map_or(usize::MAX, |place| self.root(place))
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.parents[place] != place {
            let above = self.parents[self.parents[place]];
            self.parents[place] = above;
            place = above;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::HeaderView;
    use crate::filing::record::Digest;
    use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};

    /// The n-th file, as a list, its header, and its study say whose it is.
    fn example(n: usize, listed: &str, header: &str, study: &str) -> Example {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Example {
            path: format!("{n}.dcm").into(),
            digest: Digest(n.to_string()),
            category: Some(0),
            origin: LabelOrigin::Csv,
            patient: listed.to_owned(),
            study: some(study),
            nameless: false,
            by_header: some(header),
            reduced: false,
            header: HeaderView::Absent,
            circumstances: Circumstances::default(),
            pictures: Vec::new(),
        }
    }

    fn dataset(examples: Vec<Example>) -> Dataset {
        Dataset {
            examples,
            ..Dataset::default()
        }
    }

    fn patients(dataset: &Dataset) -> BTreeSet<&str> {
        let examples = dataset.examples.iter();
        examples.map(|it| it.patient.as_str()).collect()
    }

    #[test]
    fn one_name_a_row_is_one_person_where_the_patient_id_or_the_study_says_so() {
        // Five people with four images each; every second one is only known by the study.
        let of = |n: usize| match n / 4 % 2 {
            0 => (format!("H{}", n / 4), String::new()),
            _ => (String::new(), format!("1.{}", n / 4)),
        };
        let one = |n: usize| example(n, &format!("IMG{n}"), &of(n).0, &of(n).1);
        let mut dataset = dataset((0..20).map(one).collect());
        let mut sides = Sides::default();
        let people = People::join(&mut dataset, &mut sides);
        assert_eq!(patients(&dataset).len(), 5);
        assert_eq!((people.found.names, people.found.people), (20, 5));
        assert!(people.found.in_words()[0].starts_with("20 names are 5 people"));
    }

    #[test]
    fn a_side_is_found_by_any_name_and_by_the_file() {
        let mut sides = Sides::default();
        let mut first = dataset(vec![example(1, "L", "H", "1.2")]);
        let people = People::join(&mut first, &mut sides);
        sides.learn_from(["H"]);
        people.settle(&mut sides);
        for (n, listed, header, study) in [
            (2, "L", "", ""),
            (2, "M", "H", ""),
            (2, "M", "", "1.2"),
            (1, "M", "", ""),
        ] {
            let mut sides = sides.clone();
            let mut again = dataset(vec![example(n, listed, header, study)]);
            People::join(&mut again, &mut sides);
            let side = sides.of(&again.examples[0].patient);
            assert_eq!(side, Some(Side::Training), "{n} {listed} {header} {study}");
        }
    }

    #[test]
    fn whoever_was_on_several_sides_judges_least_from_then_on() {
        let mut sides = Sides::default();
        sides.patients.insert("A".to_owned(), Side::Golden);
        sides.patients.insert("B".to_owned(), Side::Training);
        let mut both = dataset(vec![example(1, "A", "H", ""), example(2, "B", "H", "")]);
        let people = People::join(&mut both, &mut sides);
        assert_eq!(people.found.on_several_sides, 1);
        for name in ["A", "B", "H"] {
            assert_eq!(sides.of(name), Some(Side::Training), "{name}");
        }
    }

    #[test]
    fn what_nearly_all_files_share_is_nobody_s_unless_it_is_known() {
        let all = || {
            dataset(
                (0..20)
                    .map(|n| example(n, &format!("P{n}"), "H", "1.2"))
                    .collect(),
            )
        };
        let mut anonymised = all();
        let people = People::join(&mut anonymised, &mut Sides::default());
        assert_eq!(patients(&anonymised).len(), 20);
        assert_eq!(people.found.of_nearly_all, 2);
        assert!(people.found.in_words()[0].starts_with("warning: 2 Patient IDs"));

        let mut sides = Sides::default();
        sides.learn_from(["H"]);
        let mut known = all();
        People::join(&mut known, &mut sides);
        assert_eq!(patients(&known).len(), 1);
    }
}
