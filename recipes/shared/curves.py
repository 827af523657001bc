"""What a run leaves behind: reward_curve.png and summary.json."""

from collections.abc import Iterable
from pathlib import Path

from recipes.shared import run_folder


def finish(trainer, summary: dict, rewards: Iterable[str], completions: int) -> None:
    """Write the curve and the summary of a GRPO or PPO run into its folder, from the main process."""
    if not trainer.accelerator.is_main_process:
        return
    history = [row for row in trainer.state.log_history if "reward" in row]
    folder = Path(trainer.args.output_dir)
    extra = {"objective/kl": "KL to the reference, nats"} if history and "objective/kl" in history[0] else {}
    if history:  # a run shorter than logging_steps logs nothing
        plot(history, list(rewards), folder / "reward_curve.png", trainer.args.run_name or folder.name, extra)
    if history and "rewards/reward_model/mean" in history[0]:
        over_optimisation(history, next(iter(rewards)), folder / "over_optimisation.png")
    keys = ["reward", *(f"rewards/{name}/mean" for name in rewards), *extra, "completions/mean_length"]
    tenth = max(1, len(history) // 10)
    curve = {k: {"first": _mean(history[:tenth], k), "last": _mean(history[-tenth:], k)} for k in keys if history}
    steps = trainer.state.global_step
    summary = summary | {"steps": steps, "completions": completions, "curve": curve}
    run_folder.write_summary(folder, summary)
    if history and all(row.get("frac_reward_zero_std") == 1 for row in history):
        print("every group had equal rewards at every step, so there was nothing to learn from: read completions.jsonl")
    print(f"{steps} steps in {summary['train_seconds']:.0f} s" + "; first tenth of the run -> last:" * bool(history))
    for key, value in curve.items():
        # None: a mixture's batch may have no rows of that reward
        first, last = ("none" if v is None else f"{v:.3g}" for v in value.values())
        print(f"  {key.removesuffix('/mean'):<22} {first} -> {last}")
    print(f"see {folder}/", flush=True)


def plot(history: list[dict], rewards: list[str], path: Path, title: str, extra: dict[str, str]) -> None:
    """One panel a reward, its mean and its spread (one standard deviation over a step's completions), and one of length.

    extra: key in the logs -> what it is, a panel each.
    """
    from matplotlib.figure import Figure  # no pyplot: no display is looked for, and it loads in half the time

    steps = [row["step"] for row in history]
    figure = Figure(figsize=(4 * (len(rewards) + len(extra) + 1), 3.4), layout="constrained")
    axes = figure.subplots(1, len(rewards) + len(extra) + 1, squeeze=False)[0]
    for axis, name in zip(axes, rewards, strict=False):
        mean = [row[f"rewards/{name}/mean"] for row in history]
        std = [row[f"rewards/{name}/std"] for row in history]
        _line(axis, steps, mean, std, "tab:blue")
        axis.set(title=name, xlabel="step", ylabel="mean reward of a step")
        if all(0 <= m <= 1 for m in mean if m is not None):
            axis.set_ylim(-0.03, 1.03)
    for axis, (key, label) in zip(axes[len(rewards) :], extra.items(), strict=False):
        _line(axis, steps, [row[key] for row in history], None, "tab:green")
        axis.set(title=label.split(",")[0], xlabel="step", ylabel=f"{label}, mean of a step")
    _line(axes[-1], steps, [row["completions/mean_length"] for row in history], None, "tab:orange")
    axes[-1].set(title="completion length", xlabel="step", ylabel="tokens, mean of a step", ylim=(0, None))
    axes[0].legend(loc="lower right", fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def over_optimisation(history: list[dict], accuracy: str, path: Path) -> None:
    """How a reward model's score and the true reward diverge over the run (arXiv 2210.10760)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    scored = figure.subplots()
    true = scored.twinx()
    steps = [row["step"] for row in history]
    for axis, key, color, label in (
        (scored, "rewards/reward_model/mean", "tab:blue", "score of the reward model, mean of a step"),
        (true, f"rewards/{accuracy}/mean", "tab:red", f"{accuracy}, mean of a step"),
    ):
        _line(axis, steps, [row[key] for row in history], None, color)
        axis.set_ylabel(label, color=color)
    true.set_ylim(-0.03, 1.03)
    scored.set(xlabel="step", title="What is optimised, and what is meant")
    figure.savefig(path, dpi=110)


def _line(axis, steps, mean, std, color) -> None:
    mean = [float("nan") if m is None else m for m in mean]
    if std is not None:
        std = [float("nan") if s is None else s for s in std]
        low, high = [m - s for m, s in zip(mean, std, strict=True)], [m + s for m, s in zip(mean, std, strict=True)]
        axis.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0, label="± 1 std of completions")
    axis.plot(steps, mean, color=color, alpha=0.3, linewidth=0.8)
    window = max(1, len(mean) // 25)
    smooth = [
        sum(mean[max(0, i - window + 1) : i + 1]) / len(mean[max(0, i - window + 1) : i + 1]) for i in range(len(mean))
    ]
    axis.plot(steps, smooth, color=color, linewidth=1.8, label=f"mean of {window} steps" if window > 1 else "mean")
    axis.grid(alpha=0.25)


def _mean(rows: list[dict], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return round(sum(values) / len(values), 4) if values else None
