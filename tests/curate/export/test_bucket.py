"""An export to an object store: a real S3 API, served on this machine."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from curate.export.config import layout_of
from pipelines.drivers.export import export
from tests.support.exportable import write_dataset
from tests.support.object_store import serve_s3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with serve_s3() as env, pytest.MonkeyPatch.context() as patch:
        for variable, value in env.items():
            patch.setenv(variable, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("exports")
        yield "s3://exports"


@pytest.mark.parametrize("kind", ["webdataset", "hf", "folders"])
def test_an_export_to_a_bucket_is_that_to_a_folder(bucket: str, tmp_path: Path, kind: str) -> None:
    url, local, out = write_dataset(tmp_path / "dataset", images=False), tmp_path / "out", f"{bucket}/{kind}"
    for place in (out, str(local), out):  # the second time it is there
        export(url, place, layout_of(kind))
    fs, root = fsspec.filesystem("s3"), out.removeprefix("s3://")
    found = {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}
    assert found.keys() == {str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()}
    other = {name for name, data in found.items() if data != (local / name).read_bytes()}
    assert other == {"dataset.json"}  # its plan names the folder
    with pytest.raises(ValueError, match="not an empty folder"):
        export(url, out, layout_of("parquet"))
