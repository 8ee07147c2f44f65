//! The shortest case that still breaks (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002): leave out halves, quarters, single steps, as long as it breaks.

use super::Step;

/// Runs at most.
const RUNS: u32 = 400;

/// Gives the shortest case found, and how it breaks. `breaks` says whether a case does, and how.
pub(super) fn shrink(
    steps: &[Step],
    mut breaks: impl FnMut(&[Step]) -> Option<String>,
) -> (Vec<Step>, String) {
    let mut shortest = steps.to_vec();
    let mut how = "not again: it is not the steps alone".to_owned();
    let mut runs = 0;
    let mut size = steps.len();
    while size > 0 && runs < RUNS {
        let mut at = 0;
        while at < shortest.len() && runs < RUNS {
            let mut shorter = shortest.clone();
            shorter.drain(at..shorter.len().min(at + size));
            runs += 1;
            match breaks(&shorter) {
                Some(said) => (shortest, how) = (shorter, said),
                None => at += size,
            }
        }
        size /= 2;
    }
    (shortest, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_steps_that_matter() {
        let mut steps: Vec<Step> = (0..60).map(Step::Wait).collect();
        steps.insert(17, Step::Restart);
        steps.insert(44, Step::Open(9));
        let both = |steps: &[Step]| {
            let has = |step| steps.contains(&step);
            (has(Step::Restart) && has(Step::Open(9))).then(|| "broken".to_owned())
        };
        let (shortest, how) = shrink(&steps, both);
        assert_eq!((shortest, how.as_str()), (vec![Step::Restart, Step::Open(9)], "broken"));
    }
}
