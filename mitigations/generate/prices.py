"""What answers cost: from a dated file, which a user can replace."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from mitigations.candidate import ProfileError
from mitigations.generate.reply import Usage
from mitigations.strict_json import read_limited

SHIPPED = Path(__file__).parent.parent / "data" / "prices.toml"
_MILLION = 1_000_000

_Price = Annotated[float, Meta(ge=0, le=1_000_000)]


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars for a million tokens."""

    input: _Price
    output: _Price

    def __post_init__(self) -> None:
        if math.isnan(self.input) or math.isnan(self.output):
            raise ValueError("nan is no price")


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    date: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    models: Mapping[str, Price]
    cache_write: _Price = 2.0
    """Of the price of input."""
    cache_read: _Price = 0.1
    batch: _Price = 0.5
    """Of the whole."""

    def priced(self, usage: Usage, model: str, *, batch: bool = False) -> Usage:
        """With its cost, or with None where nobody knows what the model costs.

        A model that is named with the date of its release costs what it costs without.
        """
        price = self.models.get(model) or self.models.get(_undated(model))
        if price is None:
            return replace(usage, cost=None)
        read = usage.cache_read_tokens * self.cache_read
        write = usage.cache_write_tokens * self.cache_write
        cost = (usage.input_tokens + read + write) * price.input
        cost += usage.output_tokens * price.output
        return replace(usage, cost=cost / _MILLION * (self.batch if batch else 1))

    def knows(self, model: str) -> bool:
        return model in self.models or _undated(model) in self.models


def _undated(model: str) -> str:
    name, _, last = model.rpartition("-")
    return name if len(last) == len("20261121") and last.isdigit() else model


def load_prices(path: Path = SHIPPED) -> Prices:
    """The prices of a TOML file; ``ProfileError`` with the field that is wrong."""
    try:
        text = read_limited(path).decode("utf-8")
        return msgspec.convert(tomllib.loads(text), Prices, strict=False)
    except ProfileError as error:
        raise ProfileError(str(error), str(path)) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ProfileError(f"no list of prices: {error}", str(path)) from None
