"""What is learned and sampled under the chat templates of many families: the answer and its end, or the run is refused."""

import json
import shutil

import pytest
import torch
from conftest import REPO, run_dpo, run_grpo, run_ppo, run_reward_model, run_sft
from datasets import Dataset
from families import ARCHITECTURES, EXPERTS, FAMILIES, TEMPLATES, model_of, tokenizer_of
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import data
from recipes import check, merge, sft
from recipes.measuring import divergence
from recipes.preflight.questions import examine
from recipes.shared import dataset_rows, model_loading, reward_models, run_folder, tokens
from recipes.shared.cli import parse
from recipes.shared.launch import Launch

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


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A tiny model of an architecture, by its name."""
    made = {}

    def model(name: str) -> str:
        if name not in made:
            config, settings = ARCHITECTURES[name]
            tokenizer = tokenizer_of("qwen2_5", eos="<|im_end|>")
            made[name] = model_of(tmp_path_factory.mktemp("model"), tokenizer, config=config, init=0.3, **settings)
        return made[name]

    return model


def log_of(folder) -> list[dict]:
    last = max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


KEPT = ["--save_strategy", "steps", "--save_steps", "1"]


@pytest.mark.trains
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_first_loss_is_the_cross_entropy_of_the_answers(name, family, files, tmp_path):
    """TRL 1.12 left out the scale of Granite's logits, Falcon-H1's and HyperCLOVA X's. Experts add a loss of their own, off here."""
    model = family(name)
    more = ["--router_aux_loss_coef", "0"] if name in EXPERTS else []
    run_sft(
        *(*KEYS, *KEPT, *more, "--model_name_or_path", model, "--dataset", files["sft"], "--accuracy", "null"),
        *("--per_device_train_batch_size", "16", "--max_steps", "1", "--output_dir", str(tmp_path / "run")),
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    model_loading.prepare(tokenizer, model)
    rows, _ = dataset_rows.usable_demonstrations(data.load(files["sft"], template="chat"), tokenizer, None)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    sums = divergence.log_probs(policy, rows["prompt_ids"], rows["completion_ids"])
    want = -sum(sums) / sum(map(len, rows["completion_ids"]))
    assert log_of(tmp_path / "run")[0]["loss"] == pytest.approx(want, abs=1e-5)


@pytest.mark.trains
@pytest.mark.parametrize("name", ["Granite", "Gemma 2", "Falcon-H1", "Qwen3-MoE"])
def test_equal_weights_have_ratio_one_and_no_kl_with_dropout_in_the_config_too(name, family, files, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(family(name), model)
    config = json.loads((model / "config.json").read_text()) | {"attention_dropout": 0.5}
    (model / "config.json").write_text(json.dumps(config))
    run_grpo(
        *(*KEYS, *KEPT, "--model_name_or_path", str(model), "--dataset", files["sft"], "--beta", "0.1"),
        *("--rewards", "{repetition_penalty: 1.0}", "--num_generations", "4", "--per_device_train_batch_size", "8"),
        *("--max_completion_length", "12", "--num_iterations", "2", "--max_steps", "2", "--learning_rate", "0"),
        *("--output_dir", str(tmp_path / "run")),
    )
    log = [row for row in log_of(tmp_path / "run") if "kl" in row]
    assert len(log) == 2 and all(row["kl"] == row["clip_ratio/region_mean"] == 0 for row in log)


def test_dropout_that_is_asked_for_where_it_is_off_is_refused(family, files, tmp_path, capsys):
    argv = ["--model_name_or_path", family("Llama"), "--dataset", files["sft"], "--rewards", "{math_answer: 1.0}"]
    argv += [*KEYS, "--use_peft", "true", "--lora_dropout", "0.1", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        run_grpo(*argv)
    assert "leave it out, or say disable_dropout: false" in capsys.readouterr().err


@pytest.mark.trains
def test_how_the_checkpoint_would_sample_is_not_how_the_run_samples(family, files, tmp_path):
    """min_p, suppressed tokens and a ban on repetition in generation_config.json would narrow what GRPO samples from."""
    model = tmp_path / "model"
    shutil.copytree(family("Llama"), model)
    leaks = {"min_p": 0.9, "no_repeat_ngram_size": 1, "suppress_tokens": list(range(20, 200)), "typical_p": 0.1}
    own = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(own | leaks | {"do_sample": True}))
    seen = {}
    for name, folder in (("plain", family("Llama")), ("leaky", str(model))):
        run_grpo(
            *(*KEYS, "--model_name_or_path", folder, "--dataset", files["sft"], "--rewards", "{repetition_penalty: 1.0}"),
            *("--num_generations", "4", "--per_device_train_batch_size", "8", "--max_completion_length", "12"),
            *("--max_steps", "1", "--held_out", "4", "--held_out_dataset", "arithmetic", "--output_dir", str(tmp_path / name)),
        )  # fmt: skip
        lines = (tmp_path / name / "completions.jsonl").read_text().splitlines()
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        seen[name] = [json.loads(line)["completion"] for line in lines], summary["before"]
    assert seen["plain"] == seen["leaky"]


@pytest.mark.trains
@pytest.mark.parametrize(
    "name, keys",
    [
        ("Llama", ["--lora_target_modules", "all-linear", "--use_rslora", "true"]),
        ("Llama", ["--lora_target_modules", "all-linear", "--use_dora", "true"]),
        ("Gemma 2", ["--lora_target_modules", "all-linear", "--lora_modules_to_save", "[embed_tokens, lm_head]"]),
        ("Qwen3-MoE", ["--lora_target_modules", "all-linear"]),
        ("Mixtral", ["--lora_target_modules", "[q_proj]", "--lora_target_parameters", "[mlp.experts.down_proj]"]),
        ("gpt-oss", ["--lora_target_modules", "all-linear"]),
    ],
    ids=["rsLoRA", "DoRA", "tied embeddings in full", "experts by all-linear", "experts by name", "gpt-oss"],
)
def test_an_adapter_trains_and_merged_is_what_it_was(name, keys, family, files, tmp_path):
    model, run, merged = family(name), tmp_path / "run", tmp_path / "merged"
    run_sft(
        *(
            *KEYS,
            *keys,
            "--use_peft",
            "true",
            "--lora_dropout",
            "0",
            "--model_name_or_path",
            model,
            "--accuracy",
            "null",
        ),
        *(
            "--dataset",
            files["sft"],
            "--per_device_train_batch_size",
            "4",
            "--learning_rate",
            "0.02",
            "--max_steps",
            "4",
        ),
        *("--output_dir", str(run)),
    )
    adapted = AutoPeftModelForCausalLM.from_pretrained(run, dtype=torch.float32).eval()
    if name in EXPERTS[:2]:
        assert any("experts" in key and v.abs().sum() > 0 for key, v in adapted.state_dict().items() if "lora_B" in key)
    merge.main(*parse((merge.Merge,), ["--model_name_or_path", str(run), "--output_dir", str(merged)]))
    ids = torch.arange(20, 80)[None]
    with torch.inference_mode():
        base, wanted, got = (
            m(input_ids=ids).logits
            for m in (AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval(), adapted,
                      AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval())
        )  # fmt: skip
    assert (wanted - base).abs().max() > 0.1 and (got - wanted).abs().max() < 1e-3


def test_an_adapter_that_would_merge_into_another_model_is_refused_before_and_after(family, files, tmp_path, capsys):
    """Of an embedding that is the head too: the adapter changes the one, and what is merged both (huggingface/peft#2777)."""
    model = family("Gemma 2")
    with pytest.raises(SystemExit):
        run_sft(
            *(*KEYS, "--use_peft", "true", "--lora_target_modules", "[q_proj, embed_tokens]", "--accuracy", "null"),
            *("--model_name_or_path", model, "--dataset", files["sft"], "--output_dir", str(tmp_path / "run")),
        )
    assert "lora_modules_to_save: [embed_tokens]" in capsys.readouterr().err
    adapter = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model),
        LoraConfig(target_modules=["embed_tokens"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    adapter.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "adapter")
    argv = ["--model_name_or_path", str(tmp_path / "adapter"), "--output_dir", str(tmp_path / "merged")]
    with pytest.raises(SystemExit):
        merge.main(*parse((merge.Merge,), argv))
    assert "is another model: logits" in capsys.readouterr().err and not (tmp_path / "merged").exists()


def test_experts_with_dropout_in_their_adapter_are_refused_with_the_way_out(family, files, tmp_path, capsys):
    argv = [*KEYS, "--use_peft", "true", "--lora_target_modules", "all-linear", "--dataset", files["sft"]]
    with pytest.raises(SystemExit):
        run_sft(*argv, "--model_name_or_path", family("Qwen3-MoE"), "--output_dir", str(tmp_path / "run"))
    assert "say lora_dropout: 0" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe, run", [("reward_model", run_reward_model), ("ppo", run_ppo)])
def test_a_family_without_a_score_head_is_refused(recipe, run, family, files, tmp_path, capsys):
    argv = [*KEYS, "--model_name_or_path", family("Granite"), "--output_dir", str(tmp_path / "run")]
    argv += ["--level", "response"] if recipe == "reward_model" else ["--rewards", "{math_answer: 1.0}"]
    argv += ["--dataset", files["dpo" if recipe == "reward_model" else "sft"]]
    with pytest.raises(SystemExit):
        run(*argv)
    assert "transformers has no ForSequenceClassification for granite" in capsys.readouterr().err
    failed = [text for status, _, text in examine(recipe, argv, Launch()).lines if status == "fail"]
    assert len(failed) == 1 and "for granite" in failed[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    "keys", [[], ["--use_peft", "true", "--lora_target_modules", "all-linear"]], ids=["full", "LoRA"]
)
def test_the_check_passes_every_family_that_trains(name, keys, family, files, tmp_path):
    argv = [
        *KEYS,
        *keys,
        "--model_name_or_path",
        family(name),
        "--dataset",
        files["sft"],
        "--output_dir",
        str(tmp_path / "x"),
    ]
    found = examine("grpo", [*argv, "--rewards", "{math_answer: 1.0}"], Launch())
    if name == "Falcon-H1" and keys:
        assert "'out_proj' is incompatible with Mamba" in next(
            text for status, _, text in found.lines if status == "fail"
        )
        return
    assert not [line for line in found.lines if line[0] in ("fail", "skip")] and found.estimate is not None


@pytest.mark.trains
def test_packed_rows_do_not_read_each_other(family, files, tmp_path):
    """Without flash attention too: the loss of a batch of all rows is that of the rows alone. `wrapped` is another one."""
    argv = [*KEYS, *KEPT, "--model_name_or_path", family("Llama"), "--dataset", files["sft"], "--accuracy", "null"]
    argv += ["--per_device_train_batch_size", "16", "--max_steps", "1", "--learning_rate", "0", "--max_length", "1024"]
    losses = {}
    for name, keys in {
        "alone": [],
        "bfd": ["--packing"],
        "wrapped": ["--packing", "--packing_strategy", "wrapped"],
    }.items():
        run_sft(*argv, *keys, "--output_dir", str(tmp_path / name))
        losses[name] = log_of(tmp_path / name)[0]["loss"]
        lines = {what: (status, text) for status, what, text in examine("sft", [*argv, *keys], Launch()).lines}
        assert ("lets one read another" in lines["lengths"][1]) == (name == "wrapped")
    assert losses["bfd"] == pytest.approx(losses["alone"], abs=1e-5) != losses["wrapped"]


@pytest.mark.trains
def test_what_trl_refuses_is_one_line_and_leaves_the_folder_to_the_next_try(family, files, tmp_path, capsys):
    run = tmp_path / "run"
    argv = [
        *KEYS,
        "--model_name_or_path",
        family("Llama"),
        "--dataset",
        files["dpo"],
        "--accuracy",
        "null",
        "--max_steps",
        "1",
    ]
    argv += ["--output_dir", str(run), "--precompute_ref_log_probs", "true", "--per_device_train_batch_size", "2"]
    with pytest.raises(SystemExit) as ended:
        run_dpo(*argv, "--sync_ref_model", "true")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ended.value.code == 2 and "sync_ref_model=True" in line and not (run / "config.yaml").exists()
    run_dpo(*argv)
    assert (run / "config.yaml").is_file() and (run / "summary.json").is_file()
    with pytest.raises(SystemExit):
        run_dpo(*argv)
    assert "already holds a finished run" in capsys.readouterr().err


@pytest.mark.trains
def test_a_longer_resume_takes_no_step_at_the_rate_the_shorter_run_ended_with(family, files, tmp_path):
    run = tmp_path / "run"
    argv = [*KEYS, *KEPT, "--model_name_or_path", family("Llama"), "--dataset", files["sft"], "--accuracy", "null"]
    argv += ["--output_dir", str(run), "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"]
    run_sft(*argv, "--max_steps", "2")
    run_sft(*argv, "--max_steps", "4", "--resume_from_checkpoint", "true")
    rates = [row["learning_rate"] for row in log_of(run) if "learning_rate" in row]
    assert rates == pytest.approx([1e-3, 5e-4, 5e-4, 2.5e-4]), "linear over 2 steps, then over 4"


@pytest.mark.parametrize(
    "run, keys, said",
    [
        (run_dpo, ["--label_smoothing", "0.1"], "loss_type sigmoid doesn't use it"),
        (run_sft, ["--eos_token", "<nowhere>"], "isn't a token of this tokenizer"),
        (run_sft, ["--chat_template_path", "nowhere.jinja"], "there is no such file"),
    ],
)
def test_keys_that_would_do_nothing_or_fail_late_are_refused(run, keys, said, family, files, tmp_path, capsys):
    argv = [*KEYS, "--model_name_or_path", family("Llama"), "--accuracy", "null", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        run(*argv, *keys, "--dataset", files["dpo" if run is run_dpo else "sft"])
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.trains
def test_rows_that_no_batch_takes_are_said(family, files, tmp_path, capsys):
    run_grpo(
        *(*KEYS, "--model_name_or_path", family("Llama"), "--dataset", files["sft"], "--rewards", "{math_answer: 1.0}"),
        *(
            "--num_generations",
            "2",
            "--per_device_train_batch_size",
            "6",
            "--max_completion_length",
            "4",
            "--max_steps",
            "1",
        ),
        *("--output_dir", str(tmp_path / "run")),
    )
    assert "1 of 16 rows fill no batch of 3 prompts" in capsys.readouterr().out


def row_of(name: str, folder) -> str:
    """The family's line of docs/models.md."""
    template, architecture = FAMILIES[name]
    tokenizer = prepared(tokenizer_of(template), folder, declared=["<|user|>"] if name == "GLM-4.5" else [])
    (prompt,) = tokens.prompt_texts([PROMPT], tokenizer)
    system = "the template's" if tokens.takes_system(tokenizer) else "before the question"
    if prompt.rstrip().endswith("</think>"):
        thoughts = "ended by the prompt"
    else:
        thoughts = "begun by the prompt" if tokens.begins_thoughts([PROMPT], tokenizer) else "the answer's own"
    if begun := tokens.opening(tokenizer):
        thoughts += f", behind `{begun.strip()}`"
    config, heads = ARCHITECTURES[architecture][0](), []
    for level in ("response", "step"):
        try:
            reward_models.refuse_headless(config, reward_models.Kind(level), "x")
            heads.append(level)
        except ValueError:
            continue
    scores = ", ".join(heads) or "refused"
    cells = [name, architecture, f"`{tokenizer.eos_token}`", system, thoughts, scores]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_of_families_says_what_is_so(name, tmp_path):
    assert row_of(name, tmp_path) in (REPO / "docs/models.md").read_text().splitlines()


@pytest.mark.parametrize("recipe", ["sft", "dpo", "reward_model", "grpo"])
def test_the_first_row_is_shown_as_the_recipe_sees_it(recipe, files, tmp_path, capsys):
    """Gemma's template, by which the system message goes into the question, and R1-Distill's, which begins the thoughts."""
    shown = {}
    for name in ("gemma", "deepseek_r1_distill"):
        model = model_of(tmp_path / name, tokenizer_of(name, eos="<eos>", bos="<bos>"))
        argv = [*KEYS, "--recipe", recipe, "--model_name_or_path", model, "--learned"]
        argv += ["--dataset", files["sft" if recipe in ("sft", "grpo") else "dpo"]]
        argv += {"grpo": ["--rewards", "{math_answer: 1.0}"], "reward_model": ["--level", "response"]}.get(recipe, [])
        with pytest.raises(SystemExit) as ended:
            check.main(argv)
        assert ended.value.code == 0
        shown[name] = capsys.readouterr().out
    gemma, distill = shown["gemma"], shown["deepseek_r1_distill"]
    assert "given, " in gemma and "start     '<bos>', 1 time\n" in gemma and "system    before the question" in gemma
    assert "thoughts  the answer's own" in gemma and "sampling ends at '<end_of_turn>', '<eos>'" in gemma
    assert "thoughts  begun by the prompt" in distill and "'<｜end▁of▁sentence｜>'" in distill
    answer = {"sft": "learned, ", "dpo": "learned, chosen, ", "reward_model": "learned, rejected, "}.get(recipe)
    if answer:
        assert answer in gemma and "</answer><end_of_turn>\n" in gemma and "'<end_of_turn>' is learned" in gemma
        assert "10+2 is 12</think><answer>12</answer><｜end▁of▁sentence｜>\n" in distill
    else:
        assert "learned" not in gemma


def test_a_template_that_writes_the_date_is_warned_of(files, tmp_path):
    model = model_of(tmp_path / "model", tokenizer_of("llama3_2"))
    argv = [*KEYS, "--model_name_or_path", model, "--dataset", files["sft"]]
    for keys, status in (([], "warn"), (["--chat_template_kwargs", "{date_string: 26 Jul 2024}"], "pass")):
        lines = {what: (found, text) for found, what, text in examine("sft", [*argv, *keys], Launch()).lines}
        assert lines["prompt"][0] == status, lines["prompt"]


@pytest.mark.parametrize("run", [run_grpo, run_ppo])
def test_tags_that_decoding_loses_are_refused_where_the_format_is_rewarded(run, files, tmp_path, capsys):
    tokenizer = tokenizer_of("qwen2_5", eos="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    argv = [*KEYS, "--model_name_or_path", model_of(tmp_path / "model", tokenizer), "--dataset", files["sft"]]
    with pytest.raises(SystemExit):
        run(*argv, "--rewards", "{think_format: 1.0}", "--output_dir", str(tmp_path / "run"))
    assert "<think>, </think>: special tokens" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.trains
def test_ppo_trains_a_policy_whose_logits_are_capped(family, files, tmp_path):
    keys = [
        *KEYS,
        *KEPT,
        "--model_name_or_path",
        family("Gemma 2"),
        "--dataset",
        files["sft"],
        "--max_completion_length",
        "8",
    ]
    keys += ["--rewards", "{repetition_penalty: 1.0}", "--per_device_train_batch_size", "8", "--num_ppo_epochs", "1"]
    run_ppo(*keys, "--max_steps", "2", "--learning_rate", "0", "--output_dir", str(tmp_path / "run"))
    log = [row for row in log_of(tmp_path / "run") if "objective/kl" in row]
    assert len(log) == 2 and all(abs(row["objective/kl"]) < 1e-6 and row["clip_ratio/region_mean"] == 0 for row in log)


@pytest.mark.trains
@pytest.mark.parametrize("name", ["Granite", "Qwen3.5"])
def test_accumulated_batches_are_one(name, family, files, tmp_path):
    """Answers of several lengths: the mean is over the tokens of all of a step's rows, not over batches."""
    keys = [
        *KEYS,
        "--model_name_or_path",
        family(name),
        "--dataset",
        files["sft"],
        "--accuracy",
        "null",
        "--optim",
        "sgd",
    ]
    keys += ["--learning_rate", "0.1", "--max_steps", "2", "--max_grad_norm", "1e9"]
    weights = []
    for batch, steps in (("16", "1"), ("4", "4")):
        folder = tmp_path / batch
        argv = ["--per_device_train_batch_size", batch, "--gradient_accumulation_steps", steps]
        run_sft(*keys, *argv, "--output_dir", str(folder))
        weights.append(AutoModelForCausalLM.from_pretrained(folder).state_dict())
    start = AutoModelForCausalLM.from_pretrained(family(name)).state_dict()
    moved = max((weights[0][key] - start[key]).abs().max() for key in start)
    assert moved > 1e-3 and max((weights[0][key] - weights[1][key]).abs().max() for key in start) < 1e-4 * moved


@pytest.mark.trains
@pytest.mark.parametrize("run", [run_sft, run_dpo, run_grpo])
def test_a_head_that_forgets_the_scale_of_the_logits_is_refused_before_the_first_step(
    run, family, files, tmp_path, capsys, monkeypatch
):
    """As TRL's did before 1.15; here by a model that changes its scale once TRL has read it."""
    from recipes.shared import fused_head

    keys = [*KEYS, "--model_name_or_path", family("Granite"), "--max_steps", "1", "--temperature", "0.7"]
    keys = keys if run is run_grpo else [*keys[:-2], "--accuracy", "null"]
    keys += ["--dataset", files["dpo" if run is run_dpo else "sft"], "--per_device_train_batch_size", "4"]
    keys += ["--rewards", "{math_answer: 1.0}", "--num_generations", "4", "--max_completion_length", "4"] * (
        run is run_grpo
    )
    looked, found = fused_head.refuse_another, []

    def forgetful(trainer, *args, **kwargs):
        looked(trainer, *args, **kwargs)
        found.append("as it is, it passes")
        for config in {id(m.config): m.config for m in trainer.model.modules() if hasattr(m, "config")}.values():
            config.logits_scaling = 1.1
        for module in trainer.model.modules():
            if hasattr(module, "logits_scaling"):
                module.logits_scaling = 1.1
        looked(trainer, *args, **kwargs)

    monkeypatch.setattr(fused_head, "refuse_another", forgetful)
    with pytest.raises(SystemExit):
        run(*keys, "--output_dir", str(tmp_path / "run"))
    assert found and "doesn't know how granite scales its logits" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()
