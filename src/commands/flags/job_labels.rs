//! Labels for the job of a scheduler that mayfly runs in, so that its VMs can be found.

use crate::model::VmLabel;

/// Labels, each with the variables of Slurm that have its value; the first that is set counts. The tasks of an array have
/// job numbers of their own, and users know them by the array's.
const SLURM: [(&str, [&str; 2]); 2] = [
    ("slurm.job", ["SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"]),
    ("slurm.task", ["SLURM_ARRAY_TASK_ID", "SLURM_PROCID"]),
];

/// The labels. There are none outside of jobs.
pub fn job_labels() -> Vec<VmLabel> {
    labels_from(|variable| std::env::var(variable).ok())
}

fn labels_from(value_of: impl Fn(&str) -> Option<String>) -> Vec<VmLabel> {
    let label = |(key, variables): (&str, [&str; 2])| {
        let value = variables.into_iter().find_map(&value_of)?;
        // What is no label was not set by Slurm.
        format!("{key}={value}").parse().ok()
    };
    SLURM.into_iter().filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_an_array_has_the_number_of_the_array() {
        let labels = |set: &[(&str, &str)]| {
            let value_of = |wanted: &str| {
                let (_, value) = set.iter().find(|(name, _)| *name == wanted)?;
                Some((*value).to_owned())
            };
            crate::model::VmLabels::collect(labels_from(value_of)).unwrap().to_strings()
        };
        let step = [("SLURM_JOB_ID", "71"), ("SLURM_PROCID", "0")];
        assert_eq!(labels(&step), ["slurm.job=71", "slurm.task=0"]);
        let array = [("SLURM_ARRAY_JOB_ID", "70"), ("SLURM_ARRAY_TASK_ID", "3")];
        assert_eq!(labels(&[&step[..], &array].concat()), ["slurm.job=70", "slurm.task=3"]);
        assert_eq!(labels(&[("SLURM_JOB_ID", "a\nb")]), [""; 0]);
        assert_eq!(labels(&[]), [""; 0]);
    }
}
