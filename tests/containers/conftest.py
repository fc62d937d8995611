"""The worker's image, made once."""

from __future__ import annotations

import os

import pytest

from deploy import local_images
from tests.fix_containers import need_engine


@pytest.fixture(scope="session")
def image() -> str:
    """The worker's image, made here of a base that is made here; with REUSE_IMAGES=1 what is there."""
    engine = need_engine()
    tags = {tag for it in engine.images.list() for tag in it.tags}
    if "REUSE_IMAGES" in os.environ and local_images.WORKER in tags:
        return local_images.WORKER
    try:
        local_images.make_base()
    except local_images.ImageError as error:
        pytest.skip(str(error))
    return local_images.make_worker()
