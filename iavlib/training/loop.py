"""One training loop for all tasks: it resumes where it was stopped, to the last bit."""

import contextlib
import errno
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iavlib.core.errors import (
    CheckpointError,
    CheckpointNotWritten,
    NonFiniteLossError,
    TrainingError,
)
from iavlib.core.files import sync_folder
from iavlib.training import hardware, optimisation
from iavlib.training.batches import ImageBatches, plan_batches
from iavlib.training.hardware import Randomness, autocast, seeded
from iavlib.training.objectives import Objective
from iavlib.training.recipe import Recipe

FORMAT = 1
#: File of the whole state of a run, which is always that of the last epoch or the one before.
CHECKPOINT = "checkpoint.pt"


def fit(
    model: nn.Module,
    batches: ImageBatches,
    objective: Objective,
    recipe: Recipe,
    folder: Path | None = None,
    seed: int = 0,
    progress: bool | Callable[[dict], None] = False,
) -> pd.DataFrame:
    """Train a model and leave it with the weights of its best epoch.

    Parameters
    ----------
    model : torch.nn.Module
        What the objective can compute a loss of; a recipe with settings of its own for the
        backbone expects ``model.backbone``.
    batches : ImageBatches
        The training split.
    objective : Objective
        The loss, and measures on the validation split.
    recipe : Recipe
    folder : pathlib.Path, optional
        Where ``checkpoint.pt`` is written after each epoch, and from which a run that was stopped
        continues: at whatever moment it was killed, it ends with the same weights as if it had not
        been, on the same machine with the same number of threads. A finished run is read.
    seed : int
        Of the order of images, augmentation and dropout; the model already has its weights.
    progress : bool or callable
        True prints one line per epoch to the standard error; a callable gets the epoch's row.

    Returns
    -------
    pandas.DataFrame
        One row per epoch: ``epoch`` (from 0), ``lr`` (of the heads, as the epoch began),
        ``train_loss`` (mean over batches), what ``objective.evaluate`` measured, ``best`` (the
        one epoch whose weights were kept), ``precision``, ``seconds``, ``images_per_second`` (of
        training alone).

    Raises
    ------
    NonFiniteLossError
        If a loss is NaN or infinite; it names the images of that batch.
    CheckpointError
        If the checkpoint cannot be written or read, or is another run's.
    TrainingError
        If model, batches, objective and recipe do not fit together.
    """
    objective.check(batches)
    with hardware.repeatable(batches.device), seeded(seed, batches.device) as randomness:
        run = _Run(model, batches, objective, recipe, randomness)
        path = Path(folder) / CHECKPOINT if folder is not None else None
        identity = {"recipe": recipe.to_dict(), "seed": seed, "images": batches.fingerprint}
        if path is not None:
            run.restore(path, load_checkpoint(path), identity)
        while not run.finished:
            run.epoch()
            if path is not None:
                save_checkpoint(path, run.state(identity))
            row = run.rows[-1]
            if callable(progress):
                progress(dict(row))
            elif progress:
                numbers = [f"{name} {x:.4g}" for name, x in row.items() if type(x) is float]
                line = f"epoch {row['epoch'] + 1} of {recipe.epochs}: {', '.join(numbers)}"
                print(line, file=sys.stderr, flush=True)
        return run.finish()


class _Run:
    """A training run between two epochs."""

    def __init__(self, model, batches, objective, recipe: Recipe, randomness: Randomness):
        self.model, self.batches, self.objective = model, batches, objective
        self.recipe, self.randomness, self.device = recipe, randomness, batches.device
        model.to(self.device, memory_format=torch.channels_last)
        self.optimizer = optimisation.build_optimizer(model, recipe)
        self.scheduler = optimisation.build_scheduler(self.optimizer, recipe, len(self._plan(None)))
        self.plateau = optimisation.build_plateau(self.optimizer, recipe)
        self.precision = hardware.effective_precision(recipe.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        averaged = recipe.ema is not None
        self.average = optimisation.moving_average(model, recipe.ema) if averaged else None
        self.evaluated = self.average.module if averaged else model
        names = ("model", "optimizer", "scheduler", "plateau", "scaler", "average")
        self.stateful = {name: part for name in names if (part := getattr(self, name)) is not None}
        self.rows: list[dict] = []
        self.best: dict = {"epoch": -1, "value": None, "state": None}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or there was no better one for ``patience`` epochs."""
        done, patience = len(self.rows), self.recipe.patience or self.recipe.epochs
        return done >= self.recipe.epochs or done - 1 - self.best["epoch"] >= patience

    def epoch(self) -> None:
        """Train an epoch, measure, and keep the weights if they are the best so far."""
        epoch, rate = len(self.rows), self.optimizer.param_groups[0]["lr"]
        start = time.perf_counter()
        optimisation.start_training(self.model, self.recipe)
        losses, seen = self._train(epoch)
        trained = time.perf_counter()
        measured = self.objective.evaluate(self.evaluated)
        row = {"epoch": epoch, "lr": rate, "train_loss": float(np.mean(losses)), **measured}
        row |= {"precision": self.precision, "seconds": time.perf_counter() - start}
        self.rows.append(row | {"images_per_second": seen / (trained - start)})
        self._keep_if_best(epoch, measured)
        if self.plateau is not None:
            self.plateau.step(measured[self.recipe.select[0]])

    def _train(self, epoch: int) -> tuple[list[float], int]:
        plan, losses = self._plan(self.randomness.order), []

        def read(loss: Tensor, index: Tensor) -> None:
            value = float(loss)
            if not np.isfinite(value):
                raise NonFiniteLossError(value, self.batches.ids[index.numpy()], epoch, len(losses))
            losses.append(value)

        stream = self.batches.stream(plan, self.randomness.changes, self.recipe.augmentation)
        unread = None  # each loss is read one step late, so that a GPU never waits
        for batch in stream:
            with autocast(self.recipe.precision, self.device):
                loss = self.objective.loss(self.model, batch, epoch)
            self._step(loss)
            if unread is not None:
                read(*unread)
            unread = loss.detach(), batch["index"]
        read(*unread)
        return losses, sum(map(len, plan))

    def _step(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _plan(self, order: np.random.Generator | None) -> list[np.ndarray]:
        n, recipe = len(self.batches), self.recipe
        plan: list[np.ndarray] = []
        for _ in range(recipe.num_aug):
            images = np.arange(n) if order is None else order.permutation(n)
            plan += plan_batches(n, recipe.batch_size, recipe.drop_last, images)
        return plan

    def _keep_if_best(self, epoch: int, measured: dict[str, float]) -> None:
        value, better = None, True
        if self.recipe.select is not None:
            name, direction = self.recipe.select
            if name not in measured:
                known = ", ".join(measured) or "nothing"
                raise TrainingError(f"select asks for {name!r}, and measured are: {known}")
            value, kept = float(measured[name]), self.best["value"]
            if not np.isfinite(value):
                raise TrainingError(f"validation {name} is {value} in epoch {epoch}")
            sign = 1 if direction == "min" else -1
            bar = self.recipe.select_above if kept is None else kept
            better = bar is None or sign * value < sign * bar
        if better:
            state = self.evaluated.state_dict()
            copies = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            self.best = {"epoch": epoch, "value": value, "state": copies}

    def state(self, identity: dict) -> dict:
        """Return the whole state, as tensors and plain values."""
        state = {name: part.state_dict() for name, part in self.stateful.items()}
        state |= {"format": FORMAT, "identity": json.dumps(identity), "rows": self.rows}
        return state | {"random": self.randomness.state(), "best": self.best}

    def restore(self, path: Path, state: dict | None, identity: dict) -> None:
        """Continue from a state; nothing happens where there is none."""
        if state is None:
            return
        if state.get("format") != FORMAT or "identity" not in state:
            raise CheckpointError(f"{path}: of another version of iavlib; remove it to start anew")
        stored, here = json.loads(state["identity"]), json.loads(json.dumps(identity))
        stored, here = ({**each.pop("recipe"), **each} for each in (stored, here))
        differing = [name for name in here if here[name] != stored.get(name)]
        if differing:
            pairs = [f"{name} {stored.get(name)!r}, here {here[name]!r}" for name in differing[:5]]
            hint = "use another folder, or remove it to start anew"
            raise CheckpointError(f"{path}: of another run ({'; '.join(pairs)}); {hint}")
        try:
            for name, part in self.stateful.items():
                part.load_state_dict(state[name])
        except (KeyError, RuntimeError, ValueError) as error:
            problem = f"{path}: it does not fit this model ({str(error).splitlines()[0]})"
            hint = "it is from another network: use another folder, or remove it to start anew"
            raise CheckpointError(f"{problem}; {hint}") from error
        self.randomness.restore(state["random"])
        self.rows, self.best = state["rows"], state["best"]

    def finish(self) -> pd.DataFrame:
        """Give the model the kept weights, and return the history."""
        if self.best["state"] is None:
            name, bar = self.recipe.select[0], self.recipe.select_above
            raise TrainingError(f"no epoch was kept: validation {name} was never beyond {bar}")
        self.model.load_state_dict(self.best["state"])
        self.model.eval()
        history = pd.DataFrame(self.rows)
        history.insert(len(history.columns) - 3, "best", history["epoch"] == self.best["epoch"])
        return history


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state under a temporary name beside `path`, then move it into place.

    Raises
    ------
    CheckpointNotWritten
        If it cannot be written; the file that was there is left as it was.
    """
    content = io.BytesIO()
    torch.save(state, content)
    temporary = path.with_name(f".{path.name}.tmp")  # left by a killed process, and overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full or your share of it is" if full else error.strerror or error
        hint = "free some space" if full else "make its folder writable"
        kept = "the one of the epoch before is intact" if path.exists() else "there is none yet"
        problem = f"{path}: this checkpoint could not be written: {reason}"
        raise CheckpointNotWritten(
            error.errno, f"{problem}; {hint} and run again ({kept})"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a state onto the CPU; None where there is no file.

    Raises
    ------
    CheckpointError
        If the file is no checkpoint. Nothing but tensors and plain values is ever loaded.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged file leads PyTorch to raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "remove it to start this run anew"
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); {hint}") from error
