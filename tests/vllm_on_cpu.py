"""vLLM's CPU build as the tests use it: imported before TRL is, which then makes its engines of what is patched here."""

from functools import partial

import vllm
import vllm._custom_ops
import vllm.model_executor.layers.utils

# it packs weights for the kernels of a CPU, after which no new ones can be loaded, as a trainer does at every step
vllm._custom_ops._supports_onednn = False
vllm.model_executor.layers.utils.check_cpu_sgl_kernel = lambda *_: False
vllm.LLM = partial(vllm.LLM, enforce_eager=True)  # compiling takes longer than the tests
