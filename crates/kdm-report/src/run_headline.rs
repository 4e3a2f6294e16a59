//! What the report of a run begins with.

use kdm_metrics::Values;
use kdm_metrics::catalog::{self, Better, Metric};

use crate::format::significant;
use crate::headline::{Fact, Headline};
use crate::{Figure, Section};

/// A run at a glance.
#[derive(Clone, Debug)]
pub struct RunFacts<'a> {
    /// The evaluation.
    pub values: &'a Values,
    /// Pairs that the student learned from.
    pub pairs: usize,
    /// Pairs that it is measured by.
    pub test: usize,
    /// Classes; 0 for an unconditional student.
    pub classes: usize,
    /// The variance of the student's samples over different noises, as a share of the teacher's.
    pub variety: f64,
    /// How it was made: names and values.
    pub made: Vec<(String, String)>,
}

/// Metrics that sum a run up, the foremost first, with the teacher's own where it is measured.
const FOREMOST: [(&Metric, Option<&Metric>); 7] = [
    (&catalog::FID, Some(&catalog::FID_TEACHER)),
    (&catalog::FEATURE_FID, Some(&catalog::FEATURE_FID_TEACHER)),
    (&catalog::CLASS_AGREEMENT, Some(&catalog::CLASS_AGREEMENT_TEACHER)),
    (&catalog::OFF_BOARD, Some(&catalog::TEACHER_OFF_BOARD)),
    (&catalog::SLICED_WASSERSTEIN2, None),
    (&catalog::COORDINATE_RMSE, None),
    (&catalog::RMSE, None),
];
/// Facts that are shown, beside the speed.
const SHOWN: usize = 3;
/// Below this share of the teacher's variance a student draws nearly the same for every noise.
const COLLAPSED: f64 = 0.15;
/// How far above chance class accuracy should be, as a share of what lies between chance and 1.
const TOLD_APART: f64 = 0.25;
/// Samples for a Fréchet distance below which it says more of their number than of the images.
const ENOUGH: usize = 2000;
/// Pairs below which a student hardly sees what the teacher draws.
const FEW_PAIRS: usize = 1000;

/// The headline of a run's report: the figures `Teacher` and `Student` of its samples, which are
/// taken out of `sections`, and its facts.
pub fn run_headline(facts: RunFacts, sections: &mut [Section]) -> Headline {
    let mut figures: Vec<Figure> = Vec::new();
    for section in sections.iter_mut() {
        for title in ["Teacher", "Student"] {
            let at = section.figures.iter().position(|figure| figure.title == title);
            figures.extend(at.map(|at| section.figures.remove(at)));
        }
    }
    let told = FOREMOST.iter().filter_map(|(metric, teacher)| {
        let value = facts.values.get(metric)?;
        let teacher = teacher.and_then(|teacher| facts.values.get(teacher));
        let teacher = teacher.map(|value| format!("teacher {}; ", number(metric, value)));
        let better = match metric.better {
            Better::Smaller => "smaller is better",
            Better::Larger => "larger is better",
            Better::Neither => "",
        };
        Some(Fact {
            name: metric.label.into(),
            value: number(metric, value),
            reading: teacher.unwrap_or_default() + better,
        })
    });
    let mut all: Vec<Fact> = told.take(SHOWN).collect();
    all.extend(facts.values.get(&catalog::SPEED_UP).map(|times| Fact {
        name: "faster than the teacher".into(),
        value: format!("{times:.0} times"),
        reading: "seconds a sample, measured in this run".into(),
    }));
    Headline { figures, facts: all, warnings: warnings(&facts), made: facts.made }
}

fn number(metric: &Metric, value: f64) -> String {
    match (metric.unit, value) {
        ("%", value) => format!("{value:.1}%"),
        (_, value) if metric.key.starts_with("class_") => format!("{:.1}%", 100.0 * value),
        (_, value) => significant(value),
    }
}

/// What to be careful about.
fn warnings(facts: &RunFacts) -> Vec<String> {
    let mut all = Vec::new();
    if facts.variety < COLLAPSED {
        all.push(format!(
            "The student draws nearly the same for every noise: its samples have {:.0}% of the \
             teacher's variance. Train it for longer: --resume --set train.iterations=N.",
            100.0 * facts.variety
        ));
    }
    all.extend(confused(facts));
    let features = [&catalog::FID, &catalog::FEATURE_FID].map(|m| facts.values.get(m));
    if facts.test < ENOUGH && features.iter().any(Option::is_some) {
        all.push(format!(
            "A Fréchet distance of {} samples is larger than one of many: compare it with those of \
             as many samples alone, or measure with more, --set pairs.test=10000.",
            facts.test
        ));
    }
    if facts.pairs < FEW_PAIRS {
        all.push(format!(
            "{} pairs are few to learn from: draw more, --set pairs.count=N in another folder.",
            facts.pairs
        ));
    }
    all
}

/// A warning where samples hardly show the class that they were drawn for.
fn confused(facts: &RunFacts) -> Option<String> {
    let accuracy = facts.values.get(&catalog::CLASS_AGREEMENT)?;
    let chance = 1.0 / facts.classes as f64;
    let enough = chance + TOLD_APART * (1.0 - chance);
    if facts.classes < 2 || accuracy >= enough {
        return None;
    }
    let teacher = facts.values.get(&catalog::CLASS_AGREEMENT_TEACHER);
    let (whose, longer) = match teacher {
        Some(share) if share < enough => ("the student's, and the teacher's as well", "teacher."),
        _ => ("the student's", ""),
    };
    Some(format!(
        "Samples hardly show their class: class accuracy, {whose}, is {:.0}% where chance is \
         {:.0}% (or the classifier can't tell the classes apart). Train for longer: --set \
         {longer}train.iterations=N{}.",
        100.0 * accuracy,
        100.0 * chance,
        if longer.is_empty() { " with --resume" } else { " in another folder" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(values: &Values) -> RunFacts<'_> {
        RunFacts { values, pairs: 5000, test: 10_000, classes: 10, variety: 0.9, made: Vec::new() }
    }

    /// The foremost numbers stand there with the teacher's, and the pictures move to the top.
    #[test]
    fn a_run_is_summed_up() {
        let values = Values::from_iter([
            (&catalog::FEATURE_FID, 0.2891),
            (&catalog::FEATURE_FID_TEACHER, 0.166),
            (&catalog::CLASS_AGREEMENT, 0.856),
            (&catalog::SPEED_UP, 37.4),
        ]);
        let figure = |title: &str| Figure::of_pixels(title, vec![1], "c");
        let figures = vec![figure("Student"), figure("Classes"), figure("Teacher")];
        let mut sections = [Section { figures, ..Section::new("Samples") }];
        let headline = run_headline(facts(&values), &mut sections);
        let titles: Vec<&str> = headline.figures.iter().map(|f| f.title.as_str()).collect();
        assert_eq!(titles, ["Teacher", "Student"]);
        assert_eq!(sections[0].figures.len(), 1);
        assert_eq!(headline.facts[0].value, "0.2891");
        assert_eq!(headline.facts[0].reading, "teacher 0.1660; smaller is better");
        assert_eq!(headline.facts[1].value, "85.6%");
        assert_eq!(headline.facts[2].value, "37 times");
        assert!(headline.warnings.is_empty(), "{:?}", headline.warnings);
    }

    #[test]
    fn warnings_are_given_where_they_are_due() {
        let values = Values::from_iter([(&catalog::FEATURE_FID, 3.0)]);
        let few = RunFacts { pairs: 500, test: 200, variety: 0.01, ..facts(&values) };
        let found = warnings(&few);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("1%") && found[0].contains("train.iterations"));
        // Classes that can't be told apart, by one of two networks or by both.
        let both = |student, teacher| {
            let (ours, theirs) = (&catalog::CLASS_AGREEMENT, &catalog::CLASS_AGREEMENT_TEACHER);
            let values = Values::from_iter([(ours, student), (theirs, teacher)]);
            warnings(&RunFacts { classes: 2, ..facts(&values) })
        };
        assert!(both(0.7, 0.9).is_empty());
        let found = both(0.52, 0.9);
        assert!(found[0].contains("52%") && found[0].contains("chance is 50%"), "{found:?}");
        assert!(found[0].contains("--set train.iterations") && !found[0].contains("the teacher's"));
        assert!(both(0.52, 0.5)[0].contains("--set teacher.train.iterations"));
        // Without features few samples are no matter.
        let values = Values::from_iter([(&catalog::RMSE, 3.0)]);
        assert!(warnings(&RunFacts { test: 200, ..facts(&values) }).is_empty());
    }
}
