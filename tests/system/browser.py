"""A headless Chromium that a test steers; it is Debian's own, and a computer without it fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE = 40.0
"""Seconds that a page may take until it shows what is looked for."""


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """An empty page of a browser with a profile of its own; it ends with the `with` block."""
    chromium = shutil.which("chromium")
    assert chromium, "the tests need Chromium (.ci/packages installs it)"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, headless=True, args=list(FLAGS)
        )
        try:
            context.set_default_timeout(PATIENCE * 1000)
            yield context.pages[0]
        except BaseException:
            context.pages[0].screenshot(path=profile.with_suffix(".png"))  # for whoever asks why
            raise
        finally:
            context.close()
