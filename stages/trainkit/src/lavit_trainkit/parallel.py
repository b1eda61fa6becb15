"""One network in several processes: replicated (DDP) or sharded (FSDP2), with gradients summed over all processes.

Both libraries hook into calls of a module, so a loop's network and loss function become one module (`Computed`).
Sums, not means: a loop weighs its share of the loss by what the whole step holds (`lavit_trainkit.distributed`).
"""

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from lavit_core.errors import InputError, UsageError
from lavit_core.processes import num_processes
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

Module = TypeVar("Module", bound=nn.Module)

Parallel = Literal["ddp", "fsdp"]


class Computed(nn.Module):
    """A module whose call is `compute(network, ...)`, the loop's own function; it returns tensors or a dict of them."""

    def __init__(self, network: nn.Module, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.compute = network, compute

    def forward(self, *inputs: Any) -> Any:
        return self.compute(self.network, *inputs)


def is_sharded(parallel: Parallel) -> bool:
    """Return whether a setting shards the network here; always False with one process."""
    return parallel == "fsdp" and num_processes() > 1


def parallelize(
    network: nn.Module,
    compute: Callable[..., Any],
    *,
    parallel: Parallel,
    device: torch.device,
    blocks: Iterable[nn.Module] = (),
    ignored: Iterable[nn.Module] = (),
    dtype: torch.dtype | None = None,
    some_unused: bool = False,
) -> nn.Module:
    """Return `compute` of the network as a module whose backward pass sums the gradients over all processes.

    `ddp` keeps a copy in each; `fsdp` shards parameters, gradients and optimiser states, gathers `blocks` (modules that
    are called in the forward pass) one at a time and all else together, in `dtype` where one is given. It replaces the
    network's parameters: build optimisers afterwards. What lies in `ignored` modules is never trained here.
    `some_unused` is True if the loss may leave trained parameters out, the same ones in every process.
    """
    computed = Computed(network, compute)
    if num_processes() == 1:
        return computed
    if not is_sharded(parallel):
        copied = DistributedDataParallel(computed, find_unused_parameters=some_unused)
        copied.register_comm_hook(None, _sum_over_processes)
        return copied
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None, cast_forward_inputs=False
    )
    left_out = {parameter for module in ignored for parameter in module.parameters()}
    mesh = init_device_mesh(device.type, (num_processes(),))
    for module in (*blocks, computed):
        sharded: FSDPModule = fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=left_out)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    return computed


def no_sync_until_last(computed: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Return the context of one forward and backward pass of a step; replicas exchange gradients in the last one only.

    Sharded gradients are summed in every pass: kept whole until the last, they would fill the memory that was saved.
    """
    if isinstance(computed, DistributedDataParallel) and not last:
        return cast(contextlib.AbstractContextManager[None], computed.no_sync())
    return contextlib.nullcontext()


def full_tensor(value: Tensor) -> Tensor:
    """Return a sharded tensor in full (all processes must call this), any other tensor unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def sharded_like(value: Tensor, model: Tensor) -> Tensor:
    """Return this process's part of a full tensor that all processes hold, where `model` is sharded."""
    if not isinstance(model, DTensor):
        return value
    value = value.to(device=model.device)
    return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)


def copy_for_export(network: Module, parallel: Parallel) -> Module:
    """Return what a run exports once `take_weights` was called: a network that is not sharded itself, else a copy.

    Made before `parallelize`; the copy's parameters have a shape and no memory (torch's meta device).
    """
    if not is_sharded(parallel):
        return network
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    return copy.deepcopy(network, memo)


def take_weights(copied: Module, network: nn.Module, *, keep: bool) -> Module:
    """Give the copy that `copy_for_export` made the sharded network's weights, in full and on the CPU.

    All processes must call this: each tensor is gathered in all of them, one at a time, and kept where `keep` is True.
    """
    if copied is network:
        return copied
    sharded, made = dict(network.named_parameters()), {}
    for name, parameter in copied.named_parameters():
        full = full_tensor(sharded[name]).detach()
        if keep:
            made[id(parameter)] = nn.Parameter(full.cpu(), parameter.requires_grad)
    if keep:
        for module in copied.modules():  # tables that are tied stand in two modules
            for name, old in list(module.named_parameters(recurse=False)):
                module.register_parameter(name, made[id(old)])
        buffers = dict(network.named_buffers())
        for name, buffer in copied.named_buffers():
            buffer.data = buffers[name].cpu()
    return copied


def load_whole(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a full state into a network, sharded or not."""
    own = network.state_dict()
    network.load_state_dict({name: sharded_like(value, own[name]) for name, value in tensors.items()})


@torch.no_grad()
def load_parameters(parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Overwrite parameters, sharded or not, with full tensors of the same names. Raises InputError for other names."""
    if parameters.keys() != saved.keys():
        raise InputError("checkpoint: its weights have other names than this model's; give another --out")
    for name, parameter in parameters.items():
        parameter.copy_(sharded_like(saved[name], parameter))


def gather_back(network: nn.Module) -> None:
    """Replace a network's sharded parameters by full ones (root-sharded networks: their modules have no hooks)."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                full = full_tensor(parameter).detach()
                module.register_parameter(name, nn.Parameter(full, parameter.requires_grad))


def refuse_sharded_muon(parallel: Parallel, optimizer: str) -> None:
    """Refuse Muon on shards: it needs whole matrices. Raises UsageError."""
    if is_sharded(parallel) and optimizer == "muon":
        raise UsageError(
            "setting optimizer: muon with parallel: fsdp, but Muon turns whole matrices and fsdp holds a part of each; "
            "set optimizer to adamw, or parallel to ddp"
        )


def layers_of(module: nn.Module) -> Sequence[nn.Module]:
    """Return the layers of a transformer: its first list of modules."""
    return next((list(child) for child in module.children() if isinstance(child, nn.ModuleList)), [])


def _sum_over_processes(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    done = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return done.then(lambda future: future.value()[0])
