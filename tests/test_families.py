"""What is learned and sampled under the chat templates of many families: the answer and its end, or the run is refused."""

import json

import pytest
from conftest import run_dpo, run_grpo, run_reward_model, run_sft
from datasets import Dataset
from families import TEMPLATES, model_of, tokenizer_of
from transformers import GenerationConfig

from recipes import sft
from recipes.shared import dataset_rows, model_loading, tokens

QUESTION, SYSTEM = "What is 10 + 2?", "Think first."
ANSWER = "<think>10+2 is 12</think><answer>12</answer>"
WRONG = "<think>no idea</think><answer>0</answer>"
PROMPT = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
# they take messages of parts, for images, and lose a text
REFUSED = ("idefics3", "llava_next", "smolvlm")
ENDS = {
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "<|end|>",
    "<|END_OF_TURN_TOKEN|>",
}
ENDS |= {"<|END_RESPONSE|>", "<|return|>", "<|user|>", "<|eot|>"}
KEYS = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--save_strategy", "no", "--logging_steps", "1"]
KEYS += ["--gradient_checkpointing", "false", "--template", "chat"]


def said_by(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def rows_of(**columns) -> Dataset:
    return Dataset.from_list([{"prompt": PROMPT, **{name: said_by(text) for name, text in columns.items()}}])


def prepared(tokenizer, folder, declared=(), **options):
    """The tokenizer as a run on messages prepares it, beside a model that declares these end tokens."""
    ends = tokenizer.convert_tokens_to_ids([tokenizer.eos_token, *declared])
    model = model_of(folder, tokenizer, num_hidden_layers=1, generation={"eos_token_id": ends})
    model_loading.prepare(tokenizer, model, **options)
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_under_every_template_the_answer_and_its_end_are_learned_or_the_run_is_refused(name, tmp_path):
    tokenizer = prepared(tokenizer_of(name), tmp_path, declared=["<|user|>"] if name == "glm4moe" else [])
    if name in REFUSED:
        with pytest.raises(ValueError, match=r"chat template (leaves out|refuses).*say template: r1_zero, or plain"):
            dataset_rows.usable_demonstrations(rows_of(completion=ANSWER), tokenizer, None)
        return
    (prompt,) = tokens.prompt_texts([PROMPT], tokenizer)
    assert prompt.count(QUESTION) == prompt.count(SYSTEM) == 1
    begun = prompt.endswith("<think>\n")
    end = tokenizer.eos_token
    assert end in ENDS and end not in ANSWER

    rows, _ = dataset_rows.usable_demonstrations(rows_of(completion=ANSWER), tokenizer, None)
    (row,) = sft.labelled(rows)
    learned = [token for token in row["labels"] if token != -100]
    of_prompt = row["input_ids"][: -len(learned)]
    assert tokenizer.decode(of_prompt) == prompt and learned == row["input_ids"][len(of_prompt) :]
    assert ("<think>" if begun else "") + tokenizer.decode(learned) == ANSWER + end

    (pair,), _ = dataset_rows.usable_pairs(rows_of(chosen=ANSWER, rejected=WRONG), tokenizer, None)
    assert pair["prompt_ids"] == of_prompt and pair["chosen_ids"] == learned
    assert ("<think>" if begun else "") + tokenizer.decode(pair["rejected_ids"]) == WRONG + end
    assert tokens.prompt_ids([PROMPT], tokenizer) == [of_prompt], "what is sampled from is what is learned behind"
    started = tokenizer.bos_token_id
    assert of_prompt.count(started) == (started in of_prompt), "one start token, where the template writes one"


def test_an_answer_that_does_not_end_the_thoughts_of_its_prompt_is_left_out_and_counted(tmp_path):
    tokenizer = prepared(tokenizer_of("qwen3_5_think"), tmp_path)
    rows = Dataset.from_list(
        [{"prompt": PROMPT, "completion": said_by(text)} for text in ("12", "is 12</think>12", ANSWER)]
    )
    rows, counts = dataset_rows.usable_demonstrations(rows, tokenizer, None)
    assert counts == {"rows": 3, "broken": 1, "too_long": 0} and "without </think>" in counts.reasons
    assert [tokenizer.decode(ids) for ids in rows["completion_ids"]] == [
        "is 12</think>12<|im_end|>", ANSWER.removeprefix("<think>") + "<|im_end|>"
    ]  # fmt: skip


def test_the_end_is_the_key_s_or_the_template_s_or_the_tokenizer_s(tmp_path):
    ends = []
    for i, (template, options) in enumerate(
        [
            ("gemma3", {}),
            ("gemma3", {"eos_token": "<|endoftext|>"}),
            ("gemma3", {"chat": False}),
            ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}", {}),
        ]
    ):
        ends.append(prepared(tokenizer_of(template, eos="<eos>"), tmp_path / str(i), **options).eos_token)
    assert ends == ["<end_of_turn>", "<|endoftext|>", "<eos>", "<eos>"]
    with pytest.raises(ValueError, match="eos_token='<nowhere>' isn't a token of this tokenizer"):
        prepared(tokenizer_of("gemma3"), tmp_path / "x", eos_token="<nowhere>")


@pytest.mark.parametrize("adds", [(False, False), (True, False), (True, True), (False, True)])
def test_text_gets_one_start_token_and_no_end(adds, tmp_path):
    tokenizer = tokenizer_of(adds=adds)
    plain, framed = tokens.prompt_ids(["ab", "<s>ab"], tokenizer)
    assert tokenizer.decode(framed) == "<s>ab" and tokenizer.decode(plain) == ("<s>ab" if adds[0] else "ab")


def test_an_answer_s_first_token_is_its_own_where_it_could_be_one_with_the_prompt_s_last(tmp_path):
    """TRL tokenises both together, where `:<` is one token, and `<` is never learned."""
    tokenizer = tokenizer_of(merges=[(":", "<")])
    assert (
        tokenizer("Assistant:<think>")["input_ids"]
        != tokenizer("Assistant:")["input_ids"] + tokenizer("<think>")["input_ids"]
    )
    rows = Dataset.from_list([{"prompt": "Assistant:", "completion": ANSWER}])
    (row,), _ = dataset_rows.usable_demonstrations(rows, tokenizer, None)
    assert (
        tokenizer.decode(row["prompt_ids"]) == "Assistant:"
        and tokenizer.decode(row["completion_ids"]) == ANSWER + "</s>"
    )


def test_a_pad_token_that_the_model_does_not_know_is_refused(tmp_path):
    tokenizer = tokenizer_of("qwen2_5")
    model = model_of(tmp_path, tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    with pytest.raises(ValueError, match=r"pad_token '\[PAD\]' is token \d+, and the model has \d+: resize"):
        model_loading.prepare(tokenizer, model)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Demonstrations and pairs as a user's files."""
    folder, made = tmp_path_factory.mktemp("files"), {}
    sums = [(a, f"<think>{a}+2 is {a + 2}</think><answer>{a + 2}</answer>") for a in range(10, 26)]
    rows = {
        "sft": [{"prompt": f"What is {a} + 2?", "completion": text, "answer": str(a + 2)} for a, text in sums],
        "dpo": [{"prompt": f"What is {a} + 2?", "chosen": text, "rejected": WRONG} for a, text in sums],
    }
    for name, of_recipe in rows.items():
        made[name] = str(folder / f"{name}.jsonl")
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_recipe))
    return made


@pytest.mark.trains
@pytest.mark.parametrize("name", ["deepseek_r1_distill", "gemma", "gptoss", "qwen3"])
def test_what_the_trainers_are_given_is_what_was_meant(name, files, tmp_path, monkeypatch):
    """The batches of SFT, DPO and the reward model, and the prompts that GRPO samples from, as their own loops see them."""
    tokenizer = tokenizer_of(name)
    model = model_of(tmp_path / "model", tokenizer)
    seen = {}

    from recipes.shared import run_folder

    def first_batch(trainer, *_):
        seen["trainer"] = trainer
        seen["batch"] = next(iter(trainer.get_train_dataloader()))
        raise SystemExit(0)

    monkeypatch.setattr(run_folder, "train_and_save", first_batch)
    keys = [*KEYS, "--model_name_or_path", model, "--per_device_train_batch_size", "2", "--max_steps", "1"]
    found = {}
    for recipe, run, more in (
        ("sft", run_sft, ["--accuracy", "null"]),
        ("dpo", run_dpo, ["--accuracy", "null"]),
        ("reward_model", run_reward_model, ["--level", "response"]),
    ):
        of_data = files["sft" if recipe == "sft" else "dpo"]
        with pytest.raises(SystemExit) as ended:
            run(*keys, *more, "--dataset", of_data, "--output_dir", str(tmp_path / recipe))
        assert ended.value.code == 0
        batch, end = seen["batch"], seen["trainer"].processing_class.eos_token
        ids = batch["input_ids"][0][batch["attention_mask"][0].bool()]
        found[recipe] = seen["trainer"].processing_class.decode(ids)
        learned = {"sft": lambda b: b["labels"][0] != -100, "dpo": lambda b: b["completion_mask"][0].bool()}
        if recipe in learned:
            answer = tokenizer.decode(batch["input_ids"][0][learned[recipe](batch)])
            assert answer.removeprefix("<think>").endswith(f"</answer>{end}") and answer.count("is") == 1
            assert found[recipe].endswith(answer)
    assert all(text.endswith(f"</answer>{end}") and text.count("<think>") == 2 for text in found.values()), (
        "one in the instruction"
    )


@pytest.mark.trains
def test_a_template_s_own_end_is_learned_sampled_and_rewarded(files, tmp_path, capsys):
    """Gemma ends a turn with <end_of_turn> and its tokenizer with <eos>: GRPO counted every completion as cut off."""
    model = model_of(tmp_path / "model", tokenizer_of("gemma3", eos="<eos>", bos="<bos>"), hidden_size=64)
    keys = [*KEYS, "--per_device_train_batch_size", "8"]
    run_sft(
        *(
            *keys,
            "--model_name_or_path",
            model,
            "--dataset",
            files["sft"],
            "--max_steps",
            "150",
            "--learning_rate",
            "0.01",
        ),
        *("--lr_scheduler_type", "cosine", "--output_dir", str(tmp_path / "sft"), "--accuracy", "null"),
    )
    ends = GenerationConfig.from_pretrained(tmp_path / "sft").eos_token_id
    assert len(ends) == 2, "those who sample from it end at both"
    run_grpo(
        *(*keys, "--model_name_or_path", str(tmp_path / "sft"), "--dataset", files["sft"], "--max_steps", "1"),
        *("--rewards", "{think_format: 1.0}", "--num_generations", "4", "--max_completion_length", "60"),
        *("--output_dir", str(tmp_path / "grpo"), "--save_strategy", "steps", "--save_steps", "1"),
    )
    (log,) = [
        row
        for row in json.loads((tmp_path / "grpo/checkpoint-1/trainer_state.json").read_text())["log_history"]
        if "reward" in row
    ]
    assert log["completions/clipped_ratio"] < 0.3 and log["rewards/think_format/mean"] > 0.7
