"""Training the last stages of a backbone only: cheaper, and less to learn by heart."""

from torch import nn

from iavlib.training.errors import TrainingError

#: Parts of backbones that hold stages one after another.
_HOLDERS = ("blocks", "stages", "layers", "features")


def backbone_stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """List the stages of a backbone in the order in which an image passes them.

    Parameters
    ----------
    backbone : torch.nn.Module
        A network of timm. Its direct parts are stages, or those of a part that holds them
        (``blocks`` and the like); what has no weight matrix, such as a normalisation, belongs to
        the stage before it.

    Returns
    -------
    list of list of torch.nn.Module
    """
    parts: list[nn.Module] = []
    for name, child in backbone.named_children():
        parts += list(child.children()) if name in _HOLDERS else [child]
    stages: list[list[nn.Module]] = []
    for part in parts:
        weighty = any(weight.ndim > 1 for weight in part.parameters())
        if weighty or not stages:
            stages.append([part])
        else:
            stages[-1].append(part)
    return stages


def train_last_stages(backbone: nn.Module, trainable: str | int) -> int:
    """Let only the last stages of a backbone be trained.

    The recipe must freeze BatchNorm statistics: those of the other stages are as little to move.

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
        for part in stage:
            part.requires_grad_(True)
    return n
