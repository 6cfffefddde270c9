"""The items of two reporting checklists by number, with what each is about in our own words.

The texts themselves are in the published lists: a number here says where to look there.
"""

from __future__ import annotations

from dataclasses import dataclass

TRIPOD = "TRIPOD+AI"
CLAIM = "CLAIM 2024"
SOURCES = {
    TRIPOD: "Collins GS et al., TRIPOD+AI statement, BMJ 2024; 385: e078378 (27 items)",
    CLAIM: "Tejani AS et al., CLAIM: 2024 update, Radiol Artif Intell 2024; 6: e240300 (44 items)",
}


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Parameters
    ----------
    checklist, number, topic
        Where it stands, and what it asks for.
    answer
        Name of what answers it in `featurebench.reporting.checklist`; empty where only the author
        can.
    """

    checklist: str
    number: str
    topic: str
    answer: str = ""


def _items(checklist: str, lines: str) -> tuple[Item, ...]:
    parts = (line.split("|") for line in lines.strip().splitlines())
    return tuple(Item(checklist, *(part.strip() for part in each)) for each in parts)


ITEMS = (
    *_items(
        TRIPOD,
        """
        1 | Title: developing or evaluating, whom for, which outcome
        2 | Abstract
        3a | Clinical context and reason; existing models
        3b | Target population, purpose and users
        3c | Known health inequalities
        4 | Objectives | declared
        5a | Sources of the data, how representative they are | data
        5b | Dates of the data
        6a | Setting, number and place of centres | sites
        6b | Eligibility
        6c | Treatments
        7 | Preparation and quality checks of the data | preparation
        8a | Outcome: definition, when and how assessed | classes
        8b | Who assessed the outcome
        8c | Blinding of the assessment
        9a | Choice of predictors | predictors
        9b | Definition and measurement of predictors | predictors
        9c | Who assessed the predictors
        10 | Sample size and whether it suffices | sample
        11 | Missing data, reasons for leaving data out | missing
        12a | How data were used and partitioned | partition
        12b | How predictors were transformed
        12c | Type of model, tuning, internal validation | training
        12d | Differences between clusters such as centres | clusters
        12e | Measures of performance and of comparison | measures
        12f | Updating or recalibration
        12g | How predictions were calculated | predictions
        13 | Class imbalance | imbalance
        14 | Fairness | subgroups
        15 | Output of the model, thresholds | output
        16 | Differences between development and evaluation data | external
        17 | Ethical approval and consent
        18a | Funding
        18b | Conflicts of interest
        18c | Protocol
        18d | Registration
        18e | Sharing of data
        18f | Sharing of code | software
        19 | Patient and public involvement
        20a | Flow of participants | flow
        20b | Characteristics, by source or setting | characteristics
        20c | Comparison with the development data
        21 | Participants and outcomes in each analysis | numbers
        22 | The full model, for use by others | weights
        23a | Performance with intervals, also of subgroups | performance
        23b | Performance between clusters | clusters
        24 | Results of updating
        25 | Interpretation, also of fairness | verdict
        26 | Limitations | limitations
        27a | Poor or missing input in use
        27b | Interaction with users, expertise needed
        27c | Next steps, applicability
        """,
    ),
    *_items(
        CLAIM,
        """
        1 | Title or abstract names the kind of AI
        2 | Summary of design, methods, results
        3 | Background, intended use
        4 | Aims and hypotheses | declared
        5 | Prospective or retrospective
        6 | Goal of the study | declared
        7 | Sources of the data | data
        8 | Inclusion and exclusion
        9 | Preprocessing | preparation
        10 | Selection of subsets
        11 | De-identification
        12 | Missing data | missing
        13 | Image acquisition
        14 | How the reference standard was obtained | classes
        15 | Why this reference standard
        16 | Source of the annotations
        17 | Annotation of the test set
        18 | Variability between and within raters
        19 | How data were assigned to partitions | partition
        20 | Level at which partitions are disjoint | disjoint
        21 | Intended sample size | sample
        22 | Description of the model | weights
        23 | Software | software
        24 | Initialisation of the parameters | initial
        25 | Training | training
        26 | How the final model was selected | selection
        27 | Ensembling | ensembling
        28 | Measures of performance | measures
        29 | Significance and uncertainty | statistics
        30 | Robustness, sensitivity | robustness
        31 | Explainability
        32 | Evaluation on internal data | partition
        33 | Testing on external data | external
        34 | Trial registration
        35 | Patients included and excluded | flow
        36 | Characteristics in each partition | characteristics
        37 | Performance with uncertainty | performance
        38 | Diagnostic performance and its precision | diagnostic
        39 | Analysis of failures | failures
        40 | Limitations | limitations
        41 | Implications for practice | verdict
        42 | Protocol or further technical details | details
        43 | Availability of software, models, data | software
        44 | Funding
        """,
    ),
)
"""All items, in the order of the lists."""
