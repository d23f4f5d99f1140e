"""Networks whose every tensor has values of its own."""

import torch


def shake(network, seed=0):
    """Give every tensor of a network values of its own, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return network.eval()
