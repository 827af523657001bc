"""Loading a model: its tokenizer, the arguments for its weights, LoRA, and two workarounds."""

from pathlib import Path

import torch
from peft import inject_adapter_in_model
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase
from trl import get_peft_config

from recipes.shared import tokens

EMBEDDINGS = {"embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings"}


def is_adapter(name: str) -> bool:
    """Whether it is the folder of a LoRA adapter, rather than of a complete model."""
    return (Path(name).expanduser() / "adapter_config.json").is_file()


def tokenizer_of(args, model_args, training_args, rows, adapter: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of model_name_or_path, as the keys of a run and its rows have it: `load_tokenizer`, `prepare`."""
    name, revision, trust = model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
    tokenizer = load_tokenizer(name, revision, trust, adapter=adapter)
    path = getattr(training_args, "chat_template_path", None)
    options = args.eos_token, args.chat_template_kwargs, path
    prepare(tokenizer, name, revision, trust, tokens.of_messages(rows), *options)
    if not is_adapter(name):
        refuse_lora(vars(model_args), config_of(name, revision, trust))
    return tokenizer


def prepare(
    tokenizer,
    model: str,
    revision: str = "main",
    trust_remote_code: bool = False,
    chat: bool = True,
    eos_token: str | None = None,
    chat_template_kwargs: dict | None = None,
    chat_template_path: str | None = None,
) -> None:
    """Give the tokenizer the run's chat template, and the token that ends an answer.

    That is eos_token, or else the one that ends a turn in the chat template, if prompts are messages (`chat`), or else its own.
    Raises ValueError where there is none, or the model doesn't know it.
    """
    tokenizer.chat_template_kwargs = chat_template_kwargs
    if chat_template_path:
        if not Path(chat_template_path).is_file():
            raise ValueError(f"chat_template_path={chat_template_path!r}: there is no such file: name a .jinja file")
        tokenizer.chat_template = Path(chat_template_path).read_text()
    if eos_token is not None and eos_token not in tokenizer.get_vocab():
        raise ValueError(f"eos_token={eos_token!r} isn't a token of this tokenizer")
    config = None if is_adapter(model) else config_of(model, revision, trust_remote_code)
    declared = end_tokens(tokenizer, generation_config_of(model, revision, trust_remote_code)) if config else []
    tokenizer.eos_token = eos_token or (chat and tokens.turn_end(tokenizer, declared)) or tokenizer.eos_token
    if tokenizer.eos_token is None:
        raise ValueError(
            f"model_name_or_path={model!r}: its tokenizer has no end token: say which one it is, eos_token"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for key in ("eos_token", "pad_token"):
        token, known = getattr(tokenizer, f"{key}_id"), config and config.get_text_config().vocab_size
        if known and token >= known:
            raise ValueError(
                f"model_name_or_path={model!r}: {key} {getattr(tokenizer, key)!r} is token {token}, and the model has {known}: "
                f"resize its embedding, or name another {key} in its tokenizer_config.json"
            )


def without_dropout(training_args, model_args, config) -> None:
    """Dropout off for a run that samples, unless it says disable_dropout: false: with it, the ratios of equal weights aren't 1."""
    training_args.disable_dropout = config.given.get("disable_dropout", True)
    if training_args.disable_dropout:
        model_args.lora_dropout = 0.0


def no_dropout(model) -> None:
    """Set every rate of dropout to 0. TRL's disable_dropout sets only nn.Dropout, and most attention layers hold a number."""
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def refuse_lora(run, config) -> None:
    """Raises ValueError for adapters that would train, and then be merged into something else, or that PEFT can't make.

    run: what has ModelConfig's keys, by name (`run["use_peft"]`); config: the model's.
    """
    if not run["use_peft"]:
        return
    config, modules = config.get_text_config(), run["lora_target_modules"] or []
    modules = {modules} if isinstance(modules, str) else {*modules}
    if config.tie_word_embeddings and (tied := sorted(modules & EMBEDDINGS)):
        raise ValueError(
            f"lora_target_modules: {tied[0]} is this model's head too, and merging an adapter of the one would change the other: "
            f"leave it out, or train all of it, lora_modules_to_save: [{tied[0]}]"
        )
    experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    of_experts = run["lora_target_parameters"] or modules & {"all-linear", "gate_proj", "up_proj", "down_proj"}
    if experts and of_experts and run["lora_dropout"]:
        raise ValueError(
            f"lora_dropout={run['lora_dropout']}: an adapter of experts, which are one tensor in each layer, can't have it: say "
            "lora_dropout: 0"
        )


def config_of(model: str, revision: str = "main", trust_remote_code: bool = False, key: str = "model_name_or_path"):
    """The model's config.json. Raises ValueError where it can't be read."""
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{key}={model!r}: its config.json can't be read ({reason})") from error


def load_tokenizer(
    model: str | None,
    revision: str = "main",
    trust_remote_code: bool = False,
    key: str = "model_name_or_path",
    adapter: bool = False,
) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padded on the left. Raises ValueError, with key and way out, when there is no such model.

    adapter: whether a LoRA adapter will do for the model. To train from, it won't: PEFT would put a new one in its place.
    """
    if not model:
        raise ValueError(f"{key} is not set: name a folder, or a model on the hub")
    local = model.startswith((".", "/", "~", "outputs/")) or model.count("/") > 1
    if local and not Path(model).expanduser().is_dir():
        raise ValueError(f"{key}={model!r}: there is no such folder (the config's first lines say what makes it)")
    if not adapter and is_adapter(model):
        raise ValueError(
            f"{key}={model!r} is a LoRA adapter: merge it into its base first (python -m recipes.merge), and name the result"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=trust_remote_code, padding_side="left"
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{key}={model!r}: its tokenizer can't be loaded ({reason})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def pad_apart(tokenizer, pad_token: str | None) -> None:
    """Give the tokenizer this pad token. Raises ValueError while it pads with its end token, which would hide the end."""
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise ValueError(f"pad_token={pad_token!r} isn't a token of this tokenizer")
        tokenizer.pad_token = pad_token
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        spare = [t for t in tokenizer.get_added_vocab() if t != tokenizer.eos_token]
        raise ValueError(
            f"the tokenizer pads with its end token {tokenizer.eos_token!r}, so that the end would be taken for padding: set "
            f"pad_token to a token that no text holds, of {', '.join(spare[-8:]) or 'the vocabulary'}"
        )


def end_tokens(tokenizer, generation_config) -> list[int]:
    """Every token that ends a completion, as TRL's trainers have it: the tokenizer's, and those that the model declares."""
    declared = generation_config.eos_token_id
    declared = [] if declared is None else [declared] if isinstance(declared, int) else declared
    return [tokenizer.eos_token_id, *(token for token in declared if token != tokenizer.eos_token_id)]


def generation_config_of(model: str, revision: str = "main", trust_remote_code: bool = False) -> GenerationConfig:
    """What the model says of its sampling, in generation_config.json or else in config.json."""
    try:
        return GenerationConfig.from_pretrained(model, revision=revision)
    except OSError:
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
        return GenerationConfig.from_model_config(config)


def sample_by_the_run_alone(model) -> None:
    """Forget how the model's generation_config.json would sample, but for its tokens: the run says how it does.

    transformers fills what a run leaves unset (suppress_tokens, no_repeat_ngram_size, typical_p) from there, and the
    log-probabilities that are trained on know nothing of it (volcengine/verl#7270).
    """
    kept = model.generation_config
    ids = {
        key: getattr(kept, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    }
    kept.__dict__.clear()
    kept.__dict__.update(GenerationConfig(**ids).__dict__)


def model_init_kwargs(model_args) -> dict:
    return {
        "revision": model_args.model_revision,
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
    }


def peft_config(model_args):
    """LoRA as the config has it, None without `use_peft`; whoever loads the adapter finds its base's revision in it."""
    config = get_peft_config(model_args)
    if config is not None:
        config.revision = model_args.model_revision
    return config


def with_adapter(value_model, config):
    """A value model whose layers have an adapter; that and its head are trained, in float32, as PEFT does with a policy's."""
    config.exclude_modules = ["score"]
    value_model = inject_adapter_in_model(config, value_model)
    value_model.score.requires_grad_(True)
    for parameter in value_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return value_model


def spare_copies(model) -> None:
    """Give the language model head contiguous input. On a CPU, torch otherwise copies all of its weight once a row.

    Where a model keeps the last position only (`logits_to_keep`), the head gets a slice, and matmul takes the batched way:
    64 prompts of SmolLM2-135M copy 3.6 GB in bfloat16 to make the first token.
    """
    if (head := model.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))


def keep_small_steps(trainer) -> None:
    """LoRA adapters on a quantised base in float32, as PEFT makes them; TRL casts them to bfloat16.

    There a weight of 0.01 is 6e-5 from the next one, and AdamW's steps of 1e-5 round to nothing. DeepSpeed keeps float32
    copies of its own, and wants one type.
    """
    if getattr(trainer.model, "is_loaded_in_4bit", False) and not trainer.is_deepspeed_enabled:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
