"""`build_run_report`: a training run as one self-contained page, also while it trains."""

from typing import Any

import yaml

from curate.report import training
from curate.report.blend import blend
from curate.report.evaluation import evaluation
from curate.report.page import page, section
from curate.storage.place import locate
from curate.storage.publish import write_text

MODEL = ("width", "depth", "num_heads", "patch", "pattern", "position", "conditioning")


def build_run_report(run: str) -> str:
    """Write RUN/report.html: curves, shares of captions, held-out losses by bin, skipped steps, samples over steps,
    evaluations.

    Args:
        run: directory of a training run, a local path or an fsspec URL. What it has not logged yet is left out.

    Returns:
        Path or URL of the page.
    """
    run = run.rstrip("/")
    sections = [
        section("training", "Training", "Training", training.training(run)),
        section("captions", "Captions", "Captions that are trained on", blend(run)),
        section("held-out", "Held out", "Loss on held-out clips", training.held_out(run)),
        section("previews", "Over steps", "Held-out captions and own prompts, step by step", training.previews(run)),
        section("samples", "Samples", "Samples", training.samples(run)),
        section("evaluation", "Evaluation", "Samples beside clips", evaluation(run)),
        section("skipped", "Skipped", "Skipped steps", training.skipped(run)),
    ]
    config = _config(run)
    model = config.get("model", {})
    facts = {"run": run, "steps": config.get("steps"), "objective": config.get("objective", {}).get("kind")}
    facts |= {name: model.get(name) for name in MODEL}
    known = {name: value for name, value in facts.items() if value is not None}
    summary = "A diffusion transformer on packed sequences of video and image latents."
    text = page(run.rpartition("/")[2], summary, known, sections, styles=("report.css",), scripts=("report.js",))
    path = f"{run}/report.html"
    write_text(path, text.encode("utf-8", "replace").decode())
    return path


def _config(run: str) -> dict[str, Any]:
    fs, path = locate(f"{run}/config.yaml")
    return (yaml.safe_load(fs.cat_file(path)) or {}) if fs.exists(path) else {}
