"""What arms predicted, how they scored and what they cost, in memory and on disk."""

from featurebench.results.cost import Cost, CostMeter
from featurebench.results.curve import (
    CurvePoint,
    LearningCurve,
    LeftOut,
    SizeSummary,
    curve_folder,
    curve_id,
    is_complete_curve,
    load_curve,
    save_curve,
)
from featurebench.results.embeddings import load_embeddings
from featurebench.results.files import folder_bytes, write_atomically
from featurebench.results.gpu import MIB
from featurebench.results.run import (
    ArmKind,
    Failure,
    FoldScore,
    ResultsTable,
    RunResult,
    is_complete,
    load_failure,
    load_run,
    run_folder,
    run_id,
    save_failure,
    save_run,
)
from featurebench.results.sharing import embeddings_read, extraction_shares

__all__ = [
    "MIB",
    "ArmKind",
    "Cost",
    "CostMeter",
    "CurvePoint",
    "Failure",
    "FoldScore",
    "LearningCurve",
    "LeftOut",
    "ResultsTable",
    "RunResult",
    "SizeSummary",
    "curve_folder",
    "curve_id",
    "embeddings_read",
    "extraction_shares",
    "folder_bytes",
    "is_complete",
    "is_complete_curve",
    "load_curve",
    "load_embeddings",
    "load_failure",
    "load_run",
    "run_folder",
    "run_id",
    "save_curve",
    "save_failure",
    "save_run",
    "write_atomically",
]
