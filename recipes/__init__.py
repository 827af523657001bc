"""Hide what libraries say on every import and start: it buries the lines that matter. Set before any of them loads."""

import logging
import os
import sys
import warnings

# --json promises that standard output holds only the result: what libraries, rewards and other processes print to it, some of
# them on import, goes to standard error. `python -m` has "-m" for the program's name while it looks for the module.
RESULT = None
if sys.argv[0] == "-m" and "--json" in sys.argv:
    RESULT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

os.environ.setdefault("TQDM_DELAY", "2")  # progress bars are for what takes longer than so many seconds, on a terminal
if not sys.stderr.isatty():
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
for name in ("bitsandbytes", "transformers.modeling_utils", "transformers.distributed.tensor_parallel"):
    logging.getLogger(name).setLevel(logging.ERROR)
# DeepSpeed sets its own level on import, and says on standard output that it found no GPU
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
# TRL sets gradient_checkpointing itself, under the name that transformers 5 deprecates
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
