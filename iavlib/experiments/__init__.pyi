from .config import (
    Experiment as Experiment,
    TaskSettings as TaskSettings,
    experiment_schema as experiment_schema,
)
from .lookup import (
    current_profile as current_profile,
    for_notebook as for_notebook,
    read_results as read_results,
    without_data as without_data,
)
from .result import (
    Result as Result,
)
from .runner import (
    read_predictions as read_predictions,
    read_run as read_run,
    resolve as resolve,
    run as run,
    sweep as sweep,
)
from .store import (
    RunStore as RunStore,
)
from .table import (
    run_table as run_table,
)
from .tasks import (
    TASKS as TASKS,
)
from .tasks.task import (
    Outcome as Outcome,
    Task as Task,
)
