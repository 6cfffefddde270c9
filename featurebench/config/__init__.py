"""The experiment file: YAML -> frozen models that refuse unknown keys; it holds every default."""

from featurebench.config.fine_tuning import FineTuneConfig, varied_label
from featurebench.config.heads import (
    FewLabelsConfig,
    HeadConfig,
    HeadSearchConfig,
    SearchConfig,
    ViewsConfig,
)
from featurebench.config.paths import FOREIGN, WEIGHT_SOURCES
from featurebench.config.reading import (
    dump_config,
    load_config,
    load_experiments,
    parse_config,
)
from featurebench.config.sections import (
    AuditConfig,
    BackboneConfig,
    CompareConfig,
    ComputeConfig,
    DataConfig,
    ExperimentConfig,
    OutputConfig,
    SplitConfig,
    SyntheticConfig,
)

__all__ = [
    "FOREIGN",
    "WEIGHT_SOURCES",
    "AuditConfig",
    "BackboneConfig",
    "CompareConfig",
    "ComputeConfig",
    "DataConfig",
    "ExperimentConfig",
    "FewLabelsConfig",
    "FineTuneConfig",
    "HeadConfig",
    "HeadSearchConfig",
    "OutputConfig",
    "SearchConfig",
    "SplitConfig",
    "SyntheticConfig",
    "ViewsConfig",
    "dump_config",
    "load_config",
    "load_experiments",
    "parse_config",
    "varied_label",
]
