"""The page of an autoencoder's training: curves, figures and pictures over steps, settings, nothing from elsewhere."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from curate.report import training
from curate.report.autoencoder import MAX_PICTURES, build_autoencoder_report

SETTINGS = {"steps": 200, "network": {"spatial_stride": 8, "temporal_stride": 4, "bottleneck": {"kind": "vq"}}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = []
    for step in range(1, 201):
        usage = {"code_usage": 0.4, "perplexity": 31.0}
        rows.append({"step": step, "loss": 1 / step, "psnr_db": 20.0, "seconds": 0.5, "frames": 10, **usage})
        if not step % 20:
            rows.append({"step": step, "held_out": {"psnr_db": 20 + step / 50, "ssim": 0.8, "lpips_<alex>": 0.3}})
            (tmp_path / "samples").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / "samples" / f"held-out-{step:06d}.png"), np.full((96, 64, 3), step, np.uint8))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"train_autoencoder": SETTINGS, "data": "<digest>"}))
    return tmp_path


def test_a_page_has_curves_figures_pictures_and_settings(run: Path) -> None:
    page = Path(build_autoencoder_report(str(run))).read_text()
    assert "<dt>PSNR, dB</dt><dd>24</dd>" in page and "<dt>frames per second</dt><dd>20</dd>" in page
    assert "codes used by a batch" in page and "lpips_&lt;alex&gt;" in page and "&lt;digest&gt;" in page
    shown = [int(step) for step in re.findall(r"<figcaption>step (\d+)</figcaption>", page)]
    assert shown == [200, 140, 80, 20] and page.count("data:image/jpeg;base64,") == MAX_PICTURES
    assert "after the last step" in page and not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_a_temporal_decoder_names_its_base(tmp_path: Path) -> None:
    settings = {"temporal_decoder": {"base": {"kind": "diffusers", "path": "/vae"}}, **SETTINGS}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"train_autoencoder": settings}))
    page = Path(build_autoencoder_report(str(tmp_path))).read_text()
    assert "<dt>temporal layers for</dt><dd>/vae</dd>" in page and "<dt>bottleneck</dt>" not in page


def test_it_can_be_shown_with_a_dataset(run: Path) -> None:
    assert "each step" in training.training(str(run)) and not training.previews(str(run))


def test_a_run_that_has_logged_nothing_has_a_page(tmp_path: Path) -> None:
    assert "No step is logged yet" in Path(build_autoencoder_report(str(tmp_path))).read_text()


@pytest.mark.browser
def test_the_page_fits_a_window_and_a_phone(browser, run: Path, tmp_path: Path) -> None:
    path = Path(build_autoencoder_report(str(run)))
    for width in (1280, 500):
        assert browser.picture(path, tmp_path / f"{width}.png", width, 1800).std() > 5
