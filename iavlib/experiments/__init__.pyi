from .config import (
    Experiment as Experiment,
    TaskSettings as TaskSettings,
    experiment_schema as experiment_schema,
)
from .lookup import (
    current_profile as current_profile,
    for_notebook as for_notebook,
    known_results as known_results,
    read_results as read_results,
    select as select,
    without_data as without_data,
)
from .runner import (
    read_predictions as read_predictions,
    read_run as read_run,
    resolve as resolve,
    run as run,
    sweep as sweep,
    work_through as work_through,
)
from .store import (
    Result as Result,
    RunStore as RunStore,
    read_facts as read_facts,
)
from .summary import (
    by_seed as by_seed,
    finished_runs as finished_runs,
    paired_with_best as paired_with_best,
    summarise as summarise,
)
from .table import (
    run_table as run_table,
)
from .tasks import (
    TASKS as TASKS,
    Outcome as Outcome,
    Task as Task,
    find_task as find_task,
)
