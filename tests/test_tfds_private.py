"""The private names of tensorflow-datasets that zero-jax uses are still there, and only images import it."""

import ast
import inspect
import subprocess
import sys

import pytest

from zero_jax.tasks import tfds_private

ONLY_FOR_IMAGES = ("array_record", "importlib_resources", "PIL", "tensorflow_datasets")


def test_the_private_names_are_where_they_were():
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core import dataset_builder
    from tensorflow_datasets.core.download import download_manager, downloader, extractor
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import tqdm_utils

    assert isinstance(downloader.MAX_RETRIES, int)
    assert callable(downloader.get_downloader)
    assert "downloader.get_downloader(" in inspect.getsource(download_manager)
    assert callable(downloader._Downloader()._executor.shutdown)
    assert list(inspect.signature(image_feature._ImageEncoder._encode_image).parameters)[:2] == ["self", "np_image"]
    assert hasattr(tqdm_utils.tqdm_lib, "tqdm")
    assert "tf.io.gfile.GFile" in inspect.getsource(extractor)
    assert "self._data_dir_root" in inspect.getsource(dataset_builder.DatasetBuilder)


def test_no_other_module_uses_private_names_of_tensorflow_datasets():
    package = tfds_private.__file__.rsplit("/", 1)[0]
    with open(f"{package}/prepare.py") as file:
        tree = ast.parse(file.read())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {name for name in attributes if name.startswith("_") and not name.startswith("__")}


@pytest.mark.slow
def test_packages_for_images_alone_are_imported_for_images_alone():
    code = f"""
import sys
sys.modules |= dict.fromkeys({ONLY_FOR_IMAGES}, None)  # importing one of them fails
from zero_jax.tasks.sets import TaskSet
for source in ("linear", "digits", "synthetic_images"):
    print(TaskSet(source, tasks=1, features=4, train=20, valid=10).make())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr
