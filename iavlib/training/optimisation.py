"""Optimiser, learning rates, averaged weights, and which stages of a backbone are trained."""

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iavlib.core.errors import TrainingError
from iavlib.training.recipe import Recipe


def backbone_of(model: nn.Module, recipe: Recipe) -> nn.Module | None:
    """Return a model's ``backbone`` where the recipe has settings of its own for it, else None.

    Raises
    ------
    TrainingError
        If the recipe has such settings and the model no such module.
    """
    if not recipe.freeze_batchnorm and recipe.backbone_lr_factor == 1:
        return None
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        settings = "backbone_lr_factor or freeze_batchnorm"
        problem = f"the recipe has settings for the backbone ({settings})"
        raise TrainingError(f"{problem}, and the model has no part called backbone")
    return backbone


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Build the optimiser over all parameters that are trained; the backbone has its own rate.

    Biases and normalisation weights (all of one dimension) decay only with ``decay_norms``.
    """
    backbone = backbone_of(model, recipe)
    inside = {id(weight) for weight in backbone.parameters()} if backbone is not None else set()
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            decays = recipe.decay_norms or weight.ndim > 1
            groups.setdefault((id(weight) in inside, decays), []).append(weight)
    if not groups:
        raise TrainingError("the model has no parameter to train: all have requires_grad False")
    settings = []
    for (in_backbone, decays), weights in sorted(groups.items(), key=lambda item: item[0]):
        rate = recipe.lr * (recipe.backbone_lr_factor if in_backbone else 1)
        decay = recipe.weight_decay if decays else 0.0
        settings.append({"params": weights, "lr": rate, "weight_decay": decay})
    if recipe.optimizer == "sgd":
        return SGD(settings, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    return (AdamW if recipe.optimizer == "adamw" else Adam)(settings, lr=recipe.lr)


def build_scheduler(optimizer: Optimizer, recipe: Recipe, steps: int) -> schedules.LRScheduler:
    """Build the schedule, which is stepped after every batch.

    The learning rate rises linearly over the warm-up, then follows the recipe's schedule, whose
    epochs are counted from there.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    recipe : Recipe
    steps : int
        Batches per epoch.
    """
    warm = round(recipe.warmup_epochs * steps)
    rest = max(recipe.epochs * steps - warm, 1)
    rise = [schedules.LinearLR(optimizer, 1 / (warm + 1), total_iters=warm)] if warm else []
    main: schedules.LRScheduler = schedules.ConstantLR(optimizer, factor=1.0, total_iters=1)
    if recipe.schedule == "step":
        main = schedules.StepLR(optimizer, step_size=recipe.step_size * steps, gamma=recipe.gamma)
    elif recipe.schedule == "cosine":
        main = schedules.CosineAnnealingLR(optimizer, T_max=rest)
    return schedules.SequentialLR(optimizer, [*rise, main], milestones=[warm]) if warm else main


def build_plateau(optimizer: Optimizer, recipe: Recipe) -> schedules.ReduceLROnPlateau | None:
    """Build what lowers the learning rate after epochs that were not better, if the recipe does."""
    if recipe.schedule != "plateau" or recipe.select is None:
        return None
    given = (recipe.select[1], recipe.gamma, recipe.step_size)
    return schedules.ReduceLROnPlateau(optimizer, *given, threshold=0.0, eps=0.0)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a model that follows it: weights and BatchNorm statistics.

    After n steps the decay is the minimum of (1 + n) / (10 + n) and `decay`, so that a short run
    forgets where it started.
    """

    def follow(averaged, current, _):
        n = int(average.n_averaged)  # on the CPU: nothing waits for a GPU
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, None)

    average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    return average


def start_training(model: nn.Module, recipe: Recipe) -> None:
    """Put a model into training mode, but the backbone's BatchNorm where the recipe freezes it."""
    model.train()
    if recipe.freeze_batchnorm:
        for module in backbone_of(model, recipe).modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


#: Modules of backbones that contain stages one after another.
_HOLDERS = ("blocks", "stages", "layers", "features")


def backbone_stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """List the stages of a backbone in the order in which an image passes them.

    Parameters
    ----------
    backbone : torch.nn.Module
        A network of timm. Its children are stages, or those of a child that contains stages
        (``blocks`` and the like); a module without a weight matrix, such as a normalisation,
        belongs to the stage before it.

    Returns
    -------
    list of list of torch.nn.Module
    """
    stages: list[list[nn.Module]] = []
    for name, child in backbone.named_children():
        for module in child.children() if name in _HOLDERS else [child]:
            if not stages or any(weight.ndim > 1 for weight in module.parameters()):
                stages.append([module])
            else:
                stages[-1].append(module)
    return stages


def train_last_stages(backbone: nn.Module, trainable: str | int) -> int:
    """Freeze all but the last stages of a backbone.

    The recipe must freeze BatchNorm statistics, since those of the frozen stages must not move.

    Parameters
    ----------
    backbone : torch.nn.Module
    trainable : {"all", "last"} or int
        All, the last third (one at least), or a number of stages from the end.

    Returns
    -------
    int
        Number of stages that are trained.

    Raises
    ------
    TrainingError
        If there are not so many.
    """
    stages = backbone_stages(backbone)
    if trainable == "all":
        return len(stages)
    n = max(1, len(stages) // 3) if trainable == "last" else int(trainable)
    if not 0 <= n <= len(stages):
        raise TrainingError(f"trainable is {trainable}, and the backbone has {len(stages)} stages")
    for weight in backbone.parameters():
        weight.requires_grad_(False)
    for stage in stages[len(stages) - n :]:
        for module in stage:
            module.requires_grad_(True)
    return n
