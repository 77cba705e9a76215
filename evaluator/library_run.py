"""A check of a library, from its expectations to the document."""

from __future__ import annotations

import platform
from collections.abc import Collection

from evaluator.check_items import listed, selected, shown
from evaluator.expectations import Library
from reports.check_schema import SCHEMA, CheckDocument
from reports.schema import Environment


def listing(given: str, library: Library, names: Collection[str]) -> CheckDocument:
    """The items of a library, and nothing known of them."""
    profiles = selected(library, names)
    return CheckDocument(
        schema=SCHEMA,
        library=given,
        expectations=shown(library.file),
        suite=library.suite,
        environment=Environment(platform.release(), platform.machine(), "", "none"),
        items=listed(library, profiles),
    )
